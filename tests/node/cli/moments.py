"""Statuses and log lines that the tests of the screen share."""

import json

from skerry.node.cli.history import History
from skerry.node.cli.moment import Moment
from skerry.proto import control_pb2 as pb

SELF = "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5"
OTHER = "12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq"
RUN_ID = "ab" * 32
START = 1_800_000_000.0


def in_training() -> pb.StatusReply:
    run = pb.RunStatus(
        run_id=RUN_ID,
        name="first",
        state_digest="cd" * 32,
        digest_round=3,
        text_tokens=1_234_567,
        loss=2.5,
        val_loss=2.625,
        val_loss_start=5.545,
        unigram_entropy=3.125,
        params=1_000_000,
        payload_bytes_sent=150_000,
        dense_bytes=12_000_000,
        refused=2,
    )
    run.sent_bytes["payload"], run.sent_bytes["control"] = 150_000, 2_500
    run.received_bytes["state"] = 3_000_000
    run.round.MergeFrom(
        pb.RoundStatus(round=4, rounds=20, phase="training", step=12, steps=30, leader=OTHER)
    )
    mine = pb.PeerStatus(peer_id=SELF, self=True, alive=True, in_roster=True, head_round=3)
    mine.phase, mine.tokens_per_second = "training", 400.0
    run.peers.append(mine)
    run.peers.add(peer_id=OTHER, phase="fetching", head_round=2, seen_seconds_ago=75.5, loss=2.75)
    reply = pb.StatusReply(peer_id=SELF, version="0.1.0", pid=7, home="/h", uptime_seconds=65)
    reply.run.CopyFrom(run)
    return reply


def line(event: str, time: float = START, **details: object) -> str:
    return json.dumps({"time": time, "event": event, **details})


def round_lines(
    number: int, began: float, *, seconds: float = 10.0, loss: float = 3.0
) -> list[str]:
    """What the log says of a round of two peers that went well."""
    round_: dict[str, object] = {"round": number}
    parts = [
        {"peer": peer, "text_tokens": 500, "loss": loss, "bytes": 10} for peer in (SELF, OTHER)
    ]
    traffic: dict[str, object] = {"sent": {}, "received": {}}
    committed: dict[str, object] = {
        "view": 0,
        "commit": f"{number:064x}",
        "parent": f"{number - 1:064x}",
        "leader": SELF,
        "included": parts,
        "late": [],
        "text_tokens": 1000,
        "total_text_tokens": 1000 * number,
    }
    roster = {"parent": f"{number - 1:064x}", "leader": SELF, "roster": [SELF, OTHER]}
    return [
        line("began", began, **round_, **roster, **traffic),
        line("committed", began + seconds - 1, **round_, **committed),
        line("applied", began + seconds, **round_, digest="cd" * 32, contributions=2),
        line("validated", began + seconds + 0.5, **round_, loss=loss - 0.25),
    ]


def rounds(count: int) -> list[str]:
    return [
        text
        for number in range(1, count + 1)
        for text in round_lines(number, START + 10 * (number - 1), loss=5.0 - 0.25 * number)
    ]


def moment_of(
    status: pb.StatusReply, lines: list[str] | None = None, notice: str = "", now: float = START
) -> Moment:
    history = History(RUN_ID)
    history.take(lines or [])
    return Moment(
        status=status,
        figures=history.figures(),
        troubles=history.troubles(),
        events=history.events(),
        now=now,
        notice=notice,
    )
