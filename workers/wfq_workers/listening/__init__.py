"""Turns messages from channels and streams into events and starts."""
