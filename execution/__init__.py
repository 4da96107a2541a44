"""How one step is carried out: the gate it waits at, its attempts, its effects, its re-entry after a stop."""
