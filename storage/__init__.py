"""Store data: checkpoints and store in SQLite or PostgreSQL, adapters for others, the ledger, outputs."""
