"""The ledger: who used how much of which model on which day. Entered by the event loop, kept in SQLite."""
