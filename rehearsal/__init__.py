"""The rehearsal: the whole system on the fake AWS, with one job from its POST to its bill.

The system is `python -m embedded.run`, an unchanged process of its own: its settings name `ec2://`,
and its AWS endpoint is a cloud of `fake_aws`. The report is read from the services' outboxes and
the API, and compared with the cloud's ledger.
"""
