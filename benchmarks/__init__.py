"""The benchmark suite: ``python3 run.py bench [--quick] [WORKLOAD...]``.

Each workload runs on a server of its own (AOF on, fsync every second), with worker processes
as users start them and the public client. Beside every figure stands a reference from the same
run: the *limit* (the commands of the same workload, recorded and replayed by a client that only
pipelines) and what the workload costs Redis and Python in CPU time. Speeds differ between
machines and hours; ratios and CPU times hold.
"""
