"""Carry out one step: the gate, its attempts, its effects, and its re-entry after a stop."""
