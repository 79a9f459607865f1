"""What a standby says, and what it does not say."""

from __future__ import annotations

import signal

from e2e_support import FOLLOWING, PATIENCE, STATELESS, Stage, needs_state

# Drools' words for what a leader does: its sessions, and events in them.
SESSIONS = r"Disposing session|Creating RulesExecutor|leader mode"
EVENTS = r"didn't match any rule|Advancing time by"
PRACTISED = "Java has recovered .* for practice"


@needs_state
def test_a_standby_practises_in_silence(stage: Stage) -> None:
    leader, follower = stage.pair(args=["-vv"])
    follower.wait_for(PRACTISED, PATIENCE)
    assert not follower.find(SESSIONS), follower.tail()
    assert not follower.find(EVENTS), follower.tail()

    # What it does later is heard.
    leader.kill()
    leads_at = follower.wait_leads(PATIENCE)
    assert "nobody_led=" in leads_at.text
    stage.say(follower, "aloud")
    follower.wait_for(EVENTS, PATIENCE)
    told_at = follower.signal(signal.SIGTERM)
    follower.wait_for(SESSIONS, PATIENCE, after=told_at)
    assert follower.wait_exit(PATIENCE) == 0


def test_a_follower_stops_without_a_warning(stage: Stage) -> None:
    leader, follower = stage.pair(args=STATELESS)
    started = follower.find("Starting: .*loading Java")
    assert len(started) == 1
    for word in (stage.ha_uuid, "server=", "lease=", follower.worker_id):
        assert word in started[0].text
    told_at = follower.signal(signal.SIGTERM)
    assert follower.wait_exit(PATIENCE) == 0
    said = follower.find(r"Worker \S+: ", after=told_at)
    assert [line.text for line in said if " WARNING " in line.text] == []
    assert said[-1].text.count("Stopped") == 1, [x.text for x in said]
    assert leader.find(FOLLOWING) == []
