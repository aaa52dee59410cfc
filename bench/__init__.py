"""`make bench`: the figures that the design is chosen by, each beside the bare loop that bounds it.

servers         Postgres and RabbitMQ: given by URL, or containers, or the embedded Postgres
system          the four services as processes of their own, on a database and a vhost of their own
client          the load generator, a process that speaks raw HTTP/1.1
bare            the ceilings: the same work without our code around it
accept, due, idle, life, reads, memory    what is measured
report          figures, goals and ratios, as a table and as JSON
picture         lateness, drawn
"""
