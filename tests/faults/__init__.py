"""Faults, one at a time: the rows of the table in docs/reliability.md."""
