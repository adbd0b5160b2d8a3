"""Runs activities: reads attempts, executes them, reports what became of them."""
