"""How data is judged: quality gate, quarantine, reconciliation, and the operational tables about all three."""
