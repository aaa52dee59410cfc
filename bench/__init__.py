"""`make bench`: performance figures, each beside the bare loop that bounds it.

servers         Postgres and RabbitMQ: given by URL, or containers, or the embedded Postgres
system          the four services as processes, on a fresh database and vhost
baseline        an older commit's services, for `life`
peer, peer.mjs  another queue, for `due`
cpu             CPU time by process
client          the load generator, a process that speaks raw HTTP/1.1
bare            the ceilings: the same work without our code around it
accept, due, life, reads, growth, lists, bloat, resting, memory    the measurements
report          figures of a run, and their goals
summary, show   several runs: medians, ranges, goals met or not, as tables and as JSON
keep, machine   the results' file, and the machine that was measured
picture         a drawing of lateness
"""
