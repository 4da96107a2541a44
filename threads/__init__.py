"""Submit, schedule and delete threads."""
