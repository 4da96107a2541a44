"""What a run costs: prices, budgets, estimates, and what earlier runs took."""
