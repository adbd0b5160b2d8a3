"""The deterministic engine: events in, decisions out.

Nothing here reads a clock, draws a random number or does I/O; `now`, nonces and ids are
arguments. The same history and the same code always give the same decisions.
"""
