"""Provide tools with their effects, and call them."""
