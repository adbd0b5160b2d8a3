"""The tests of wfq."""
