"""The whole system on the rehearsal's cloud, playing one job from its post to its bill.

The system is `python -m embedded.run`, a process of its own that knows nothing of this: its
settings say `ec2://` and its AWS is the cloud that `rehearsal` makes here. What is told of it comes
from its own outboxes and its API, and is held against the cloud's ledger.
"""
