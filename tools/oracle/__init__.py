"""The oracle of recovery: an engine with failovers against one without.

A case is a rulebook and a script: events, facts and time. It is done twice.
One run has a leader that never fails. In the other one a call on the engine
can be preceded by a failover, or its answer can be lost, so that another
leader does it again: new sessions are filled with what earlier answers left
to store, and the time of an outage passes on them. What fires has to be the
same, and so has what is in memory afterwards, and what is stored. A new leader
is a worker with a rulebook of its own: the rules are the same, the arguments
of a source are not. So whether it takes the state over is tried as well.

What is compared: for each step the rules that fired, in their order, and when
by the session's clock. What one rule found at one time is compared as a
multiset: Drools puts joins off until each pattern of a rule has something, so
in which order it finds them depends on what was there and has long gone.

The leader that never fails ticks every 100 milliseconds, the others once a
step, however long it is: what comes of a span of time may not depend on how
it is cut. What a match posts to the next ruleset is posted at the end of the
time step, as it is after an outage.

Drools itself does not always do the same, and some of it cannot be made up
for. The generator leaves out, each where it says so: not_all beside a
throttle, facts beside a timeout, joins of three patterns whose events expire,
and facts that are taken back where a rule waits for just that.

========== ==========================================================
module     what it has
========== ==========================================================
engine     the engine of this process
errors     what can be wrong with a case
case       a rulebook and a script
stored     what is stored of a session
sessions   the sessions of a rulebook, and their failovers
comparison a case done with failovers and without
examples   random cases
scenes     cases that were thought of, with what has to come
========== ==========================================================

``python -m oracle`` tries examples, ``python -m oracle.scenes`` the scenes.
The engine needs a process of its own, since a JVM takes over signals.
"""
