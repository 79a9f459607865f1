"""What ``make chaos`` runs, as ``python -m chaos``.

=============== ==========================================================
module          what it does
=============== ==========================================================
schedule        which fault comes when: random, decided by a seed
faults          does a fault to the cluster, and puts it right again
volume          a small file system for the server's data, which can be full
cluster         real workers, each behind proxies, and their server
access          the workers' database, whatever server it is on
servers         a primary, and perhaps a standby that takes its place
patroni_servers three nodes under Patroni
broker          hands out events, once or until they are acknowledged
poster          posts some of them to the workers
mood            what the workers' sources are told
rulebook        what the workers run
recording       runs inside of each worker and writes down what it does
ledger          what the server has stored, by its own word
records         reads what was written
checker         finds in it what must not be
run             one schedule from start to end
summary         what is kept of it
campaign        many schedules, several at a time, and what was done before
report          tables and JSON
=============== ==========================================================

``sources/`` has the two event sources of the rulebook, ``play/`` what its
playbook runs. Every record is a file of JSON lines whose times are
``time.monotonic_ns()``: one clock for all processes of this machine.
"""
