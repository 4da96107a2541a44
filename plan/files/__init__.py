"""Plans as files: read with the place of every value, written whole, described for editors."""
