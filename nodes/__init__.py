"""What happens: one module per node of the graph. Nodes return updates; routing decides where to go."""
