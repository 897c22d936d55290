"""Owners that change a run of real daemons, the first of which is killed meanwhile."""

import pytest
from swarm import Peer, Swarm

from skerry.proto import control_pb2 as pb
from skerry.protocol.errors import SkerryError

pytestmark = [pytest.mark.integration, pytest.mark.chaos]


def order(peer: Peer, **change) -> int:
    if "remove" in change:
        change["remove"] = pb.RemoveRequest(**change["remove"])
    return peer.client.order(pb.OrderRequest(**change)).sequence


def agree(peers: list[Peer], after: int) -> None:
    """Wait until all have applied a round beyond ``after``; their digests must be the same."""
    number = max(peer.status().run.round.round for peer in peers)
    number = max(number, after) + 1
    digests = {peer.wait_for("applied", round=number)["digest"] for peer in peers}
    assert len(digests) == 1, "\n".join(peer.story() for peer in peers)


def row(peer: Peer, other: Peer) -> pb.PeerStatus:
    return next(row for row in peer.status().run.peers if row.peer_id == other.peer_id)


def test_a_standby_looks_after_the_run_when_the_owner_is_gone(
    swarm: Swarm, trio: list[Peer]
) -> None:
    owner, standby, third = trio
    swarm.begin(trio, rounds=0, standby=[standby.peer_id])
    standby.wait_for("began", round=2)

    # All act on the first owner's order from the same round on.
    assert order(owner, outer_lr=0.9) == 1
    rounds = [peer.wait_for("outer-lr", outer_lr=0.9)["round"] for peer in trio]
    assert len(set(rounds)) == 1
    agree(trio, after=rounds[0])
    assert standby.status().run.may_order and not third.status().run.may_order
    with pytest.raises(SkerryError) as refused:
        order(third, outer_lr=0.1)
    assert refused.value.code == "SK-OWN-001"

    # The run goes on, and so does the right to change it.
    owner.kill()
    assert order(standby, outer_lr=0.5) == 1
    rounds = [peer.wait_for("outer-lr", outer_lr=0.5)["round"] for peer in trio[1:]]
    assert len(set(rounds)) == 1
    agree(trio[1:], after=rounds[0])
    assert [peer.status().run.outer_lr for peer in trio[1:]] == [0.5, 0.5]

    # Who is removed learns why and trains no more.
    order(standby, remove={"peer": third.peer_id[-8:], "reason": "wanted elsewhere"})
    told = third.wait_for("removed", peer=third.peer_id)
    assert (told["by"], told["reason"]) == (standby.peer_id, "wanted elsewhere")
    third.wait_until(lambda run: run.round.phase == "removed", "removed")
    assert "wanted elsewhere" in third.status().warning
    standby.wait_for("removed", peer=third.peer_id)
    assert row(standby, third).removed_reason == "wanted elsewhere"
    assert not row(standby, third).in_roster
    mark = third.mark()
    before = standby.wait_for("began", round=told["round"] + 3)["roster"]
    assert before == [standby.peer_id]
    assert third.log.find(lambda event: event["event"] in ("trained", "applied"), mark) is None

    # A stranger joins by the standby's token, and has the settings that are in force.
    [fourth] = swarm.start("d")
    fourth.client.join(standby.client.invite(3600.0).token)
    fourth.wait_for("trained")
    agree([standby, fourth], after=0)
    assert fourth.status().run.outer_lr == 0.5
    assert row(fourth, third).removed

    # Who is let in again comes back by itself.
    mark = third.mark()
    order(standby, readmit=third.peer_id)
    third.wait_for("readmitted", since=mark, peer=third.peer_id)
    third.wait_for("trained", since=mark)
    agree([standby, third, fourth], after=0)
