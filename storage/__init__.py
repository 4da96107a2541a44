"""What is kept: the local checkpointer and store, adapters for any other, the ledger, plan files."""
