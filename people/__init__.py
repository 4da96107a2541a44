"""Ask a person, read the answer, and record it."""
