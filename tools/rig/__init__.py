"""The test rig: servers, proxies, workers and records of who led when.

Integration tests, e2e tests and the benchmark share it. It is no part of the
distribution: pytest finds it through ``pythonpath = tools``, scripts through
``PYTHONPATH=tools``.

========== ==========================================================
module     what it gives
========== ==========================================================
server     a PostgreSQL to test against, and standbys of it
tls        to have one talk TLS
authority  who signs certificates
pgbouncer  a connection pooler before it
proxy      a network fault between a client and it
process    a child process that is watched and never left behind
workers    a real ``ansible-rulebook``
contender  a bare election, and the record of when it led
history    what these records say: overlaps and gaps
program    how a program of the tools ends
========== ==========================================================
"""
