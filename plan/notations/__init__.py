"""The forms in which models write plans."""
