"""The `tiyu` command: arguments and output only; every verb lives in the room that owns it."""
