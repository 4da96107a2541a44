"""The notations in which models write plans."""
