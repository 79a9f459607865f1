"""What ``make bench`` measures, as ``python -m bench``.

=========== ===========================================================
module      what it measures, or gives
=========== ===========================================================
lock        ``kill -9`` of a leading process to the next ``is_leader()``
rivals      what that is compared with: a blocked session, a plain poll
peers       three faults, beside what else elects a leader
worker      ``kill -9`` of a leading worker to the next one's first event
timeline    the same, step by step
statements  what an idle worker asks the server
load        2, 20 and 200 followers of one lock
throughput  events per second beside ansible-rulebook without HA
state       the same with the rules' state, and by how much is retained
webhook     posts to upstream's webhook, and those to a new leader
haproxy     posts through HAProxy while the leader changes
inbox       posts to ha_webhook beside those to upstream's
storm       posts to three workers whose leader is killed every ten seconds
network     events per second with a database a millisecond away
recovery    ``kill -9`` of the leader to the first recovered action
pending     a promotion with thousands of matches that have not run
connections sessions of a leader and a follower
memory      a leader and a follower beside ansible-rulebook without HA
startup     what the extension adds to the start of an interpreter
report      figures, goals, and how the terminal shows them
tables      the same for the docs
chart       the same as pictures
bursts      processes that get events in turns
crowd       many followers in one process, for load
poster      clients of a webhook
sender      a sender with several addresses, for storm
steady      posts at a steady rate, and what became of each
=========== ===========================================================

Everything runs in processes of its own, on loopback, and is ended with the
part that started it.
"""
