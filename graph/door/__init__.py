"""Check what enters before a run: who it is, the thread's state, and the input."""
