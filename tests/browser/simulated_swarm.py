"""A run of any size as the API would describe it, made of the real models: same seed, same run."""

import math
import random
from dataclasses import dataclass

from skerry.node.page import models as m
from skerry.node.page.round import Contribution, Round, Span, SpanName, Waited

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
STATES: tuple[m.PeerState, ...] = ("alive", "alive", "suspect", "dead", "left", "joining")
PARAMS_PER_BLOCK = 1_770_240
DENSE_BYTES = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """What the simulated run looks like."""

    peers: int = 8
    ring: int = 0
    """Peers that form one ring instead of full replicas."""
    rounds: int = 40
    """Rounds that are over."""
    blocks: int = 12
    troubled: int = 3
    """Peers that are suspect, dead, gone or joining."""
    now: float = 1_795_000_000.0
    """Unix seconds."""
    seed: int = 1


class SimulatedSwarm:
    """Answers for every path of the API, consistent with each other."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._random = random.Random(shape.seed)
        self.ids = [self._peer_id() for _ in range(shape.peers)]
        self.run_id, self.head, self.digest = self._hex(), self._hex(), self._hex()
        self.round_s = 14.0
        self.started = shape.now - (shape.rounds + 0.6) * self.round_s
        self.rounds = [self._round(number) for number in range(1, shape.rounds + 2)]
        self.peers = [self._peer(number) for number in range(shape.peers)]

    def answers(self) -> dict[str, m.Answer]:
        """Return the answer of each path."""
        return {
            "run": self.run(),
            "peers": m.PeersAnswer(**self._served(), peers=tuple(self.peers)),
            "rounds": m.RoundsAnswer(**self._served(), rounds=tuple(self.rounds), more=False),
            "timeline": m.TimelineAnswer(**self._served(), entries=self._timeline()),
            "log": m.LogAnswer(**self._served(), lines=self._log()),
            "plan": self._plan(),
        }

    def run(self) -> m.RunAnswer:
        """Return the run's header."""
        return m.RunAnswer(**self._served(), node=self._node(), run=self._header())

    def _served(self) -> dict[str, object]:
        return {"as_of": self.shape.now, "served_from": self.ids[0]}

    def _peer_id(self) -> str:
        return "12D3KooW" + "".join(self._random.choice(ALPHABET) for _ in range(44))

    def _hex(self) -> str:
        return f"{self._random.getrandbits(256):064x}"

    def _loss(self, round_number: int, noise: float = 0.03) -> float:
        clean = 2.05 + 3.5 * math.exp(-round_number / 12)
        return clean + self._random.gauss(0, noise)

    # -- peers -----------------------------------------------------------------------------

    def _state(self, number: int) -> m.PeerState:
        first = self.shape.peers - self.shape.troubled
        return "alive" if number < first else STATES[2 + (number - first) % 4]

    def _shards(self, number: int) -> tuple[str, ...]:
        blocks = [f"block.{block}" for block in range(self.shape.blocks)]
        place = number - (self.shape.peers - self.shape.ring - self.shape.troubled)
        if not 0 <= place < self.shape.ring:
            return ("embed", *blocks, "head")
        if place == 0:
            return ("embed", "head")
        share = math.ceil(self.shape.blocks / (self.shape.ring - 1))
        return tuple(blocks[(place - 1) * share : place * share])

    def _peer(self, number: int) -> m.Peer:
        state, rng, me = self._state(number), self._random, number == 0
        up = state in ("alive", "suspect")
        link: m.Link = "unknown" if state in ("dead", "joining") else "direct"
        relayed: m.Link = "relayed"
        return m.Peer(
            peer=self.ids[number],
            name=self.ids[number][-6:],
            self=me,
            state=state,
            evidence=("nothing heard of it for 6.1 s",) if state == "suspect" else (),
            role="newcomer" if state == "joining" else "replica",
            in_roster=up,
            leader=number == 1,
            owner=me,
            standby=number == 2,
            removed_reason=None,
            agent="skerry/0.2.0",
            version="0.2.0",
            addresses=(f"/ip4/203.0.113.{number % 250 + 1}/tcp/4001",),
            shards=self._shards(number),
            phase="training" if up else None,
            head_round=self.shape.rounds if up else max(0, self.shape.rounds - number % 9),
            behind=0 if up else number % 9,
            step=rng.randint(8, 22) if up else None,
            steps=30 if up else None,
            text_tokens_per_s=rng.uniform(400, 2600) if up else None,
            loss=self._loss(self.shape.rounds) if up else None,
            up_bytes_per_s=None if me else rng.uniform(0, 90_000) * up,
            down_bytes_per_s=None if me else rng.uniform(0, 90_000) * up,
            sent_bytes=None if me else rng.randint(10**6, 10**8),
            received_bytes=None if me else rng.randint(10**6, 10**8),
            round_trip_ms=None if me or not up else rng.uniform(4, 190),
            link="unknown" if me else relayed if number % 5 == 3 and up else link,
            reputation=None,
            last_seen_s=0.0 if me else rng.uniform(0.1, 1.4) if up else rng.uniform(20, 400),
            refused=rng.choice((0, 0, 0, 2)),
        )

    # -- rounds ----------------------------------------------------------------------------

    def _round(self, number: int) -> Round:
        open_ = number > self.shape.rounds
        train, collect = self._random.uniform(8, 9.5), self._random.uniform(2, 4)
        others = self.shape.peers - self.shape.troubled - 1
        slow = self.ids[1 + number * 7 % max(1, others)]
        spans = self._spans(train, collect, open_)
        parts = tuple(self._contribution(peer, number, train, open_) for peer in sorted(self.ids))
        payload = sum(part.bytes or 0 for part in parts)
        text_tokens = sum(part.text_tokens or 0 for part in parts)
        return Round(
            round=number,
            parent=self._hex(),
            commit=None if open_ else self._hex(),
            leader=self.ids[number % self.shape.peers],
            view=1 if number % 17 == 0 else 0,
            started_at=self.started + (number - 1) * self.round_s,
            commit_s=None if open_ else train + collect,
            fetch_s=None if open_ else spans[-2].duration_s,
            apply_s=None if open_ else spans[-1].duration_s,
            duration_s=None if open_ else self.round_s,
            spans=spans,
            contributions=parts,
            waited=() if open_ else (Waited(peer=slow, duration_s=collect * 0.8),),
            text_tokens=None if open_ else text_tokens,
            total_text_tokens=None if open_ else number * 61_440 * self.shape.peers,
            loss=None if open_ else self._loss(number, 0.005),
            val_loss=self._loss(number, 0.01) + 0.08 if number % 5 == 0 and not open_ else None,
            digest=None if open_ else self._hex(),
            payload_bytes=payload or None,
            dense_bytes=payload * 229 or None,
            sent={"payload": 600_000, "control": 9_000},
            received={"payload": 610_000, "control": 9_500},
        )

    def _spans(self, train: float, collect: float, open_: bool) -> tuple[Span, ...]:
        if open_:
            return (Span(name="training", start_s=0, duration_s=6.3),)
        rest = self.round_s - train - collect
        lengths: tuple[tuple[SpanName, float], ...] = (
            ("training", train - 0.5),
            ("encoding", 0.5),
            ("collecting", collect),
            ("fetching", rest * 0.7),
            ("applying", rest * 0.3),
        )
        spans, start = [], 0.0
        for name, length in lengths:
            spans.append(Span(name=name, start_s=start, duration_s=length))
            start += length
        return tuple(spans)

    def _contribution(self, peer: str, number: int, train: float, open_: bool) -> Contribution:
        down = self._state(self.ids.index(peer)) not in ("alive", "suspect")
        missing = open_ or (down and number > self.shape.rounds - 6)
        at = None if missing else train + self._random.uniform(0, 2.2)
        return Contribution(
            peer=peer,
            name=peer[-6:],
            announced_s=at,
            checked_s=None if at is None else at + 0.4,
            included=None if open_ else not missing,
            late=missing and not open_ and number == self.shape.rounds - 5,
            refused=None,
            text_tokens=None if missing else 61_440,
            loss=None if missing else self._loss(number),
            bytes=None if missing else 401_300,
        )

    # -- the rest --------------------------------------------------------------------------

    def _node(self) -> m.Node:
        return m.Node(
            peer=self.ids[0],
            name=self.ids[0][-6:],
            version="0.2.0",
            pid=4711,
            uptime_s=self.shape.now - self.started,
            addresses=("/ip4/203.0.113.1/tcp/4001",),
            page_url="http://127.0.0.1:8787/",
            compute="training",
            restarts=0,
            reach=None,
        )

    def _header(self) -> m.RunHeader:
        rate = 1_450.0 * self.shape.peers
        return m.RunHeader(
            run_id=self.run_id,
            name="harbour-24m",
            phase="training",
            phase_s=6.3,
            round=self.shape.rounds + 1,
            rounds=self.shape.rounds + 160,
            view=0,
            leader=self.ids[1],
            step=21,
            steps=30,
            finished=False,
            eta_s=160 * self.round_s,
            started_at=self.started,
            goodput=m.Goodput(
                text_tokens_per_s=rate * 0.91,
                undisturbed_per_s=rate,
                ratio=0.91,
                over_s=self.round_s * 10,
            ),
            text_tokens=self.shape.rounds * 61_440 * self.shape.peers,
            loss=2.184,
            val_loss=2.241,
            val_loss_round=self.shape.rounds // 5 * 5,
            val_loss_start=5.561,
            unigram_entropy=3.391,
            params=PARAMS_PER_BLOCK * self.shape.blocks,
            state_digest=self.digest,
            digest_round=self.shape.rounds,
            head=self.head,
            join_command="skerry join sk1-" + self.run_id + self.head,
            waiting_for=(),
            warning=None,
            outer_lr=1.0,
            outer_lr_ordered=False,
            pending_orders=0,
            may_order=False,
            bytes=m.Bytes(
                sent={"payload": 24_100_000, "state": 11_300_000, "control": 412_000},
                received={"payload": 23_800_000, "state": 0, "control": 398_000},
                dense=24_100_000 * 229,
                ratio=229.0,
            ),
            refused={"replayed": 2},
        )

    def _timeline(self) -> tuple[m.TimelineEntry, ...]:
        """A start, three failures that passed, and one that has not."""
        first, bad = self.started, self.ids[-1]
        rows: tuple[tuple[float, m.TimelineKind, m.Severity, str | None, str, float | None], ...]
        rows = (
            (0, "run-entered", "info", None, "entered the run harbour-24m", None),
            (60, "peer-up", "info", self.ids[1], f"{self.ids[1][-6:]} is up", None),
            (150, "peer-down", "recovered", self.ids[2], f"{self.ids[2][-6:]} was away", 31.0),
            (260, "compute-died", "recovered", None, "the compute process was restarted", 4.2),
            (340, "view-change", "warning", self.ids[1], "its leader gave no commit", None),
            (415, "state-downloaded", "recovered", None, "took the committed state", 6.8),
            (490, "peer-down", "error", bad, f"{bad[-6:]} is silent", None),
        )
        return tuple(
            m.TimelineEntry(
                id=number,
                time=first + at,
                kind=kind,
                severity=severity,
                peer=peer,
                round=int(at // self.round_s),
                text=text,
                recovery_s=recovery_s,
            )
            for number, (at, kind, severity, peer, text, recovery_s) in enumerate(rows, 1)
        )

    def _log(self) -> tuple[m.LogEntry, ...]:
        lines = []
        for done in self.rounds[-20:-1]:
            end = (done.started_at or 0) + self.round_s
            text = f"round={done.round} digest={(done.digest or '')[:12]} contributions=7"
            lines.append((end - 4, "trained", f"round={done.round} steps=30 loss={done.loss:.4f}"))
            lines.append((end - 2, "commit", f"round={done.round} view=0 contributions=7"))
            lines.append((end, "applied", text))
        return tuple(
            m.LogEntry(id=number, time=at, event=event, text=text)
            for number, (at, event, text) in enumerate(lines, 1)
        )

    def _plan(self) -> m.PlanAnswer:
        shards = ("embed", *(f"block.{n}" for n in range(self.shape.blocks)), "head")
        hosts = {
            shard: tuple(peer.peer for peer in self.peers if shard in peer.shards)
            for shard in shards
        }
        ring = [peer for peer in self.peers if len(peer.shards) < len(shards)]
        whole = [peer for peer in self.peers if len(peer.shards) == len(shards)]
        replicas = [m.ReplicaPlan(name=peer.name, stages=(_stage(peer),)) for peer in whole]
        if ring:
            replicas.append(m.ReplicaPlan(name="ring 1", stages=tuple(map(_stage, ring))))
        return m.PlanAnswer(
            **self._served(),
            round=self.shape.rounds + 1,
            num_blocks=self.shape.blocks,
            shards=tuple(
                m.ShardPlan(shard=shard, params=PARAMS_PER_BLOCK, hosts=hosts[shard])
                for shard in shards
            ),
            replicas=tuple(replicas),
        )


def _stage(peer: m.Peer) -> m.StagePlan:
    blocks = [int(shard.removeprefix("block.")) for shard in peer.shards if "." in shard]
    return m.StagePlan(
        peer=peer.peer,
        shards=peer.shards,
        first_block=min(blocks, default=None),
        last_block=max(blocks, default=None),
    )
