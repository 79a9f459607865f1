"""What ``make bench`` measures; ``tools/bench.py`` is the command.

========== ==========================================================
module     what it measures, or gives
========== ==========================================================
lock       ``kill -9`` of a leading process to the next ``is_leader()``
rivals     what that is compared with: a blocked session, a plain poll
worker     ``kill -9`` of a leading worker to the next one's first event
statements what an idle worker asks the server
throughput events per second beside ansible-rulebook without HA
startup    what the extension adds to the start of an interpreter
report     figures, goals, tables
========== ==========================================================

Everything runs in processes of its own, on loopback, and is ended with the
part that started it.
"""
