"""Start a Python package: files are written, and an agent works on a module until its tests pass."""
