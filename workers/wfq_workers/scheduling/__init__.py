"""Fires timers, carries messages between partitions, and watches over the store."""
