"""How a step's output is judged, and what follows from a failure."""
