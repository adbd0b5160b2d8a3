"""The fault campaign: workflows of every shape, under faults of every kind, against a ledger.

`python3 run.py chaos --minutes N --seed S` runs it; `campaign.run` is the way in for tests.

A *round* starts a server, worker processes and clients, lets a *nemesis* break things for a
while, heals everything, waits until nothing moves any more, and then asks three witnesses:
the invariant checker (what Redis holds fits together), the ledger (what was acknowledged has
happened, and nothing else), and the model (every workflow ended as it must). A seed determines
what is started and which faults come when; the interleaving is the machine's.
"""
