"""A ring of real daemons whose microbatches skip a third of the stages, as the run file asks.

The first stage trains on all of them, each of the others on equally many; a full replica beside it
agrees on every shard with its host.
"""

import time
from pathlib import Path

import pytest
from rings import PATIENCE_S, SETTINGS, STAGE, check_agreement
from swarm import Event, Swarm

pytestmark = pytest.mark.chaos

BATCH = 3
"""Microbatches of an inner step; each skips one of the three stages after the first."""
TOKENS = SETTINGS["steps"] * BATCH * 32
ROUNDS = 3
FALL_NATS = 0.5
BLOCK = '[compute]\nrole = "stage"\nmemory = "500KB"\n'
"""Room for one of the model's four blocks alone."""
RING = """
[ring]
skip_ratio = 0.33
hop_min = "1m"      # a slow machine is not to cause detours
hop_max = "2m"
attempt_min = "2m"
attempt_max = "4m"
"""


def test_each_middle_stage_trains_on_two_thirds_and_the_first_on_all(tmp_path: Path) -> None:
    with Swarm(tmp_path) as swarm:
        [replica] = swarm.start("replica")
        [origin] = swarm.start("origin", config=STAGE)
        bodies = swarm.start("body-1", "body-2", "body-3", config=BLOCK)
        settings = {**SETTINGS, "batch_size": BATCH, "validation_every": 1}
        members = [replica, origin, *bodies]
        swarm.begin(members, 0, deadline_max="5m", sections=RING, **settings)
        share = dict.fromkeys((body.peer_id for body in bodies), TOKENS * 2 // 3)
        expected = {replica.peer_id: TOKENS, origin.peer_id: TOKENS, **share}

        def is_whole(event: Event) -> bool:
            if event["event"] != "committed":
                return False
            return {one["peer"]: one["text_tokens"] for one in event["included"]} == expected

        seen = replica.since
        for _ in range(ROUNDS):
            found = replica.log.wait(is_whole, seen, time.monotonic() + PATIENCE_S)
            assert found, "\n".join(peer.story() for peer in members)
            seen = replica.log.events.index(found) + 1
        first = replica.wait_for("validated")["loss"]

        def has_fallen(event: Event) -> bool:
            return event["event"] == "validated" and event["loss"] < first - FALL_NATS

        assert replica.log.wait(has_fallen, replica.since, time.monotonic() + PATIENCE_S)
        chain = replica.chain(swarm.run_id)
        left = swarm.stop()
    check_agreement(chain)
    assert not left, f"left behind: {left}"
