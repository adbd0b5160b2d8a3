"""The same chain of three on what users may know: ``python3 run.py bench --peers [NAME...]``.

Each peer has a virtual environment of its own, made at the first use under ``.wfq/peers``, and
runs on a server like wfq's: AOF on, fsync every second. The programs are written to suit the
peer: none stores more than it must, so none does all that a durable workflow does.

celery  tasks chained by the client, prefork workers, late acknowledgement
taskiq  tasks on Redis Streams, each of which queues the next
dbos    durable workflows on its default store, SQLite, in one process
"""
