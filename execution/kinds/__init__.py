"""Carry out a step of each kind."""
