"""What a node says of what it brings back, and of what it makes that. The swarm is simulated."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "protocol/rounds"))

from simulated_node import Node
from test_hosting_simulation import (
    STAGE,
    lose,
    lose_a_block,
    reaches,
    swarm,
    until_done,
    until_ring,
)

from skerry.node.net.fetch import Sources
from skerry.node.run.healing import Healer
from skerry.node.run.shadow_finding import ShadowFinder
from skerry.protocol.errors import PeerUnavailable
from skerry.protocol.ids import PeerId, short
from skerry.protocol.manifest import parse_run_file
from skerry.protocol.messages import Offer, ShardPayload, ShardState
from skerry.protocol.rounds import actions as act
from skerry.recovery.healing import Rung, ShardHealing, StageHealing, plan_healing
from skerry.recovery.survey import Survey

TRANSFER_S = 0.01


class Journal:
    """Remembers what is written."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self.trained_in: tuple[str, ...] = ()
        """What has to train back in, when all is done."""

    def write(self, event: str, **details: Any) -> None:
        self.lines.append((event, details))


class NoPeers:
    """What it asks for never comes."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def fetch_state(
        self, wanted: tuple[ShardState, ...], holders: tuple[PeerId, ...]
    ) -> tuple[tuple[ShardPayload, ...], Sources]:
        self.asked += [entry.shard for entry in wanted]
        await asyncio.sleep(TRANSFER_S)
        if any(entry.shard == "block.0" for entry in wanted):
            raise PeerUnavailable("SK-NET-001", "nobody")
        return tuple(ShardPayload(x.shard, x.address, 4) for x in wanted), Sources()


async def _twice(state: Any, action: act.Renew) -> tuple[Journal, NoPeers]:
    """Try to bring something back twice, and train then."""
    journal, payloads = Journal(), NoPeers()
    context: Any = SimpleNamespace(
        state=SimpleNamespace(rounds=state),
        journal=journal,
        me=state.me,
        manifest=parse_run_file("", PeerId("owner")),
        store=SimpleNamespace(shadows=SimpleNamespace(copies={})),
        facts=SimpleNamespace(warning=""),
    )
    healer = Healer(context, payloads)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(PeerUnavailable):
            await healer.renew(action)
    trained_in = healer.discharge()
    assert not healer.discharge()
    journal.trained_in = trained_in
    return journal, payloads


@pytest.fixture
def told(monkeypatch) -> list[tuple[Journal, NoPeers]]:
    """What was told by each peer of a simulated swarm that had to bring something back."""
    found: list[tuple[Journal, NoPeers]] = []
    renew: Any = Node._renew

    def look(self: Node, action: act.Renew) -> None:
        if action.lost:
            found.append(asyncio.run(_twice(self.s, action)))
        renew(self, action)

    monkeypatch.setattr(Node, "_renew", look)
    return found


def test_what_is_lost_and_that_it_trains_again_is_said_once(told) -> None:
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=16)
    lose_a_block(world)
    until_done(world)
    [(journal, payloads)] = told
    assert payloads.asked == ["block.0", "block.0"], "of which block.1 is made"
    [(first, lost), (second, healed)] = journal.lines
    assert (first, second) == ("healing", "healed")
    assert lost["text"].startswith(f"block.1 lost with peer {short('p03')}: no live host")
    assert healed["text"].startswith("block.1 trains again on")
    assert (healed["shards"], healed["rung"]) == (["block.1"], "swap")
    assert 0 < healed["transfer"] <= healed["seconds"] and healed["rebuild"] == 0
    assert journal.trained_in == ()


def test_what_was_interpolated_has_to_train_back_in(told, monkeypatch) -> None:
    def interpolated(one: ShardHealing) -> ShardHealing:
        return replace(one, rung=Rung.INTERPOLATE) if one.rung is Rung.SWAP else one

    def planned(survey: Survey) -> tuple[StageHealing, ...]:
        """Say of a model of two blocks what would be true of a larger one."""
        found = plan_healing(survey)
        shards = [tuple(map(interpolated, one.shards)) for one in found]
        pairs = zip(found, shards, strict=True)
        return tuple(replace(one, shards=x, trains_in=survey.bypass_steps) for one, x in pairs)

    monkeypatch.setattr("skerry.node.run.healing.plan_healing", planned)
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=16)
    lose_a_block(world)
    until_done(world)
    [(journal, _)] = told
    [(_, lost), (_, healed)] = journal.lines
    assert "half of the microbatches pass over it at first, none after 20 steps" in lost["text"]
    assert (healed["rung"], journal.trained_in) == ("interpolate", ("block.1",))


def test_embedding_and_head_are_waited_for_where_nobody_has_a_copy(told, monkeypatch) -> None:
    async def keeps_nothing(self: ShadowFinder, holder: PeerId, shards: object) -> list[object]:
        return []

    monkeypatch.setattr(ShadowFinder, "_ask", keeps_nothing)
    world = swarm(Offer(), STAGE, STAGE, STAGE, rounds=20)
    world.strict = world.shadows = True
    until_ring(world)
    lose(world, "p00")
    reaches(world, "p02", 6)
    lose(world, "p01")
    until_done(world)
    [(journal, payloads)] = told
    assert payloads.asked == []
    [(event, line)] = journal.lines
    assert (event, line["text"]) == (
        "warning",
        "nobody here has a copy of embed, head: waiting for who does",
    )
