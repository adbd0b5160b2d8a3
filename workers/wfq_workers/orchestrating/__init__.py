"""Runs workflows: owns partitions, turns events into decisions, commits them."""
