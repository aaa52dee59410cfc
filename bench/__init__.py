"""`make bench`: the figures that the design is chosen by, each beside the bare loop that bounds it.

servers         Postgres and RabbitMQ: given by URL, or containers, or the embedded Postgres
system          the four services as processes of their own, on a database and a vhost of their own
baseline        an older commit's services, for `life`
peer, peer.mjs  another queue, for `due`
cpu             CPU time by process
client          the load generator, a process that speaks raw HTTP/1.1
bare            the ceilings: the same work without our code around it
accept, due, idle, life, reads, memory    what is measured
report          figures of a run, and their goals
summary, show   several runs: medians, ranges, goals met or not, as tables and as JSON
keep, machine   the results' file, and what machine they are of
picture         lateness, drawn
"""
