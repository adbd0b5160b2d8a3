"""Processes that do the work: orchestrator, activity, scheduler and listener loops."""
