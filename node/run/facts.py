"""Measurements of a run for status, metrics and the log; nothing here decides anything."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from skerry.node.ring.link import Carried
from skerry.node.run.links import Links
from skerry.protocol.compute import Progress
from skerry.protocol.ids import PeerId
from skerry.protocol.layout import FP32_BYTES
from skerry.protocol.messages import Heartbeat, ShardPayload


@dataclass(frozen=True, slots=True)
class Seen:
    """A peer's newest heartbeat."""

    heartbeat: Heartbeat
    at: float
    """Monotonic seconds."""


@dataclass(slots=True)
class Traffic:
    """What was exchanged with one peer."""

    sent: int = 0
    """Bytes of blobs, copies and the ring's streams."""
    received: int = 0
    round_trip_s: float | None = None
    """Average over its newest answers to heartbeats."""
    refused: int = 0
    """What was not accepted from it."""


_SMOOTHING = 0.2
"""Weight of the newest round trip in the average."""


@dataclass(slots=True)
class Facts:
    """What the node has seen and done in this run since it started."""

    params: int = 0
    unigram_entropy: float = 0.0
    step: int = 0
    steps: int = 0
    loss: float = 0.0
    tokens_per_second: float = 0.0
    block_rate: float = 0.0
    """Text tokens per second through one block, forward, in this node's ring; 0: not measured."""
    val_loss_start: float = 0.0
    val_loss: float = 0.0
    validated_round: int = -1
    """Round after which val_loss was measured."""
    compute: str = "starting"
    warning: str = ""
    unplaced: tuple[str, ...] = ()
    """What was said to wait for a joiner when no plan could be made last."""
    sent_bytes: Counter[str] = field(default_factory=Counter)
    """By kind: payload, state, control, shadow, ring."""
    received_bytes: Counter[str] = field(default_factory=Counter)
    ring_sent: Counter[str] = field(default_factory=Counter)
    """What was sent of kind ring, by lane: control (and headers of credit), forward, backward."""
    ring_text_tokens: int = 0
    """Text tokens of the activations sent to the next peer of the ring, each time they were."""
    dense_bytes: int = 0
    """What the payloads handed out would have been as dense fp32."""
    failed_downloads: int = 0
    """Contributions of which a payload could not be had."""
    state_wanted: tuple[ShardPayload, ...] = ()
    """Shards of the state that is being downloaded; none while no state is."""
    refused: Counter[str] = field(default_factory=Counter)
    """By reason."""
    traffic: defaultdict[PeerId, Traffic] = field(default_factory=lambda: defaultdict(Traffic))
    """By peer; only of members, so that strangers cannot fill it."""
    links: Links = field(default_factory=Links)
    """To the other members, and what they say of theirs."""
    seen: dict[PeerId, Seen] = field(default_factory=dict)
    shard_params: dict[str, int] = field(default_factory=dict)
    """Parameters by shard name."""

    def progressed(self, progress: Progress) -> None:
        """Take in an inner step."""
        self.step, self.steps = progress.step, progress.steps
        self.loss, self.tokens_per_second = progress.loss, progress.tokens_per_second

    def validated(self, round_number: int, loss: float) -> None:
        """Take in the validation loss after a round."""
        self.val_loss_start = self.val_loss_start or loss
        self.val_loss, self.validated_round = loss, round_number

    def keep_of(self, members: Collection[PeerId]) -> None:
        """Forget all other peers."""
        for known in (self.traffic, self.seen, self.links.told, self.links.own):
            for peer in [one for one in known if one not in members]:
                del known[peer]

    def received_from(self, peer: PeerId, num_bytes: int) -> None:
        """Take in that a part of a blob came from a peer."""
        self.traffic[peer].received += num_bytes

    def carried(self, peer: PeerId, carried: Carried) -> None:
        """Take in what a stream of the ring has carried."""
        self.sent_bytes["ring"] += carried.sent
        self.received_bytes["ring"] += carried.received
        self.ring_sent[carried.lane.name.lower()] += carried.sent
        self.ring_text_tokens += carried.text_tokens
        self.traffic[peer].sent += carried.sent
        self.traffic[peer].received += carried.received

    def answered(self, peer: PeerId, took_s: float) -> None:
        """Take in how long a peer took to answer a heartbeat."""
        self.links.answered(peer, took_s)
        traffic = self.traffic[peer]
        before = took_s if traffic.round_trip_s is None else traffic.round_trip_s
        traffic.round_trip_s = before + _SMOOTHING * (took_s - before)

    def sent_to(
        self, peer: PeerId, blob: tuple[ShardPayload, bool] | None
    ) -> Callable[[int], None]:
        """Return what to tell how many bytes of a blob were handed to another peer."""
        kind = "payload" if blob and not blob[1] else "state"
        # A share of the payload's bytes stands for the same share of its dense fp32 form.
        numel = self.shard_params.get(blob[0].shard, 0) if blob and not blob[1] else 0
        ratio = FP32_BYTES * numel / max(1, blob[0].size) if blob else 0.0

        def sent(num_bytes: int) -> None:
            self.sent_bytes[kind] += num_bytes
            self.traffic[peer].sent += num_bytes
            self.dense_bytes += round(num_bytes * ratio)

        return sent
