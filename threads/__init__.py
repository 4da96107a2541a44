"""Submitting, scheduling and deleting threads."""
