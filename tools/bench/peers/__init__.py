"""Takeover beside what else elects a leader: ``bench.py peers``.

========== ==========================================================
module     what is in it
========== ==========================================================
contender  the program: one process that wants a lock, by a peer's means
servers    ZooKeeper, Redis, etcd: started, asked, ended
cluster    two processes of one kind, and the faults that befall them
patroni    the same for Patroni, whose processes are PostgreSQL servers
takeover   all of them in turns; figures
========== ==========================================================

Whatever is not installed is named in the table and left out. Each server is
one that the bench starts for itself, in a temporary folder, on loopback.
"""

from .takeover import measure

__all__ = ["measure"]
