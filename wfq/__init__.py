"""Durable workflows in Python on Redis."""
