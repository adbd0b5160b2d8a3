"""`wfq demo`: the five patterns, played on real worker processes in the terminal."""
