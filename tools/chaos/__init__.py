"""What ``make chaos`` runs, as ``python -m chaos``.

========== ==========================================================
module     what it does
========== ==========================================================
schedule   which fault comes when: random, decided by a seed
faults     does a fault to the cluster, and puts it right again
cluster    real workers, each behind proxies, and their server
servers    a primary, and perhaps a standby that takes its place
broker     hands out events, once or until they are acknowledged
rulebook   what the workers run
recording  runs inside of each worker and writes down what it does
ledger     what the server has stored, by its own word
records    reads what was written
checker    finds in it what must not be
report     tables and JSON
run        one schedule from start to end
========== ==========================================================

``sources/`` has the two event sources of the rulebook, ``play/`` what its
playbook runs. Every record is a file of JSON lines whose times are
``time.monotonic_ns()``: one clock for all processes of this machine.
"""
