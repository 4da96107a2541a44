"""How a step of each kind is carried out."""
