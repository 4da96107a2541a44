"""Look three sources up at the same time, merge what they say, and write a report."""
