"""Release a small Python project: real tests, a real wheel, a real tag, in a throwaway repository."""
