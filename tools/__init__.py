"""What can be done: tools with their effects, and calling them."""
