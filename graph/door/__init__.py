"""What is checked before a run: who may enter, what stands on the thread, what goes in."""
