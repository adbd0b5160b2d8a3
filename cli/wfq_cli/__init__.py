"""The `wfq` command."""
