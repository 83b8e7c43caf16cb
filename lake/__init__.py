"""The store: settings, business clock, Delta read and write, checked versions, control ledger, paths."""
