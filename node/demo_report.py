"""What the demo trains and what it must have shown in the end; pure, without processes.

``node/demo.py`` runs the swarm, gathers the figures into a ``DemoReport`` and exits according
to ``failures``.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from rich.table import Table

from skerry.protocol.ids import short

MIN_ROUNDS = 6
"""Fewer leave no time for a death, a detection, a join and a contribution after it."""
LOSS_MARGIN_NATS = 0.3
"""How far below the unigram entropy the validation loss must end."""

STEPS = 30
"""Inner steps of a round."""

_RUN_FILE = """\
name = "demo"
seed = 1
rounds = {rounds}

[model]
layers = 4
d_model = 128
heads = 4
kv_heads = 2
ffn_dim = 352
context = 128

[data]
source = "stdlib"
validation_batches = 8
validation_every = {validation_every}

[inner]
steps = {steps}
batch_size = 8
lr = 3e-3
warmup_steps = 10
decay_steps = {decay_steps}

[round]
deadline_min = "5s"
deadline_max = "60s"
grace = "4s"
# So few that the late peer cannot replay the run from its seed, but downloads the state.
replay = 2

[peers]
min = {peers}
"""


def run_file(rounds: int, peers: int, steps: int = STEPS, validation_every: int = 1) -> str:
    """Return the run file of a demo: 0.8 million parameters on the standard library's text.

    Sized for three peers with one thread each on two cores: 0.11 s per inner step alone on a core,
    about 2.4 nats per text token after 12 rounds of undisturbed training.
    """
    decay_steps = rounds * (steps + steps // 3)
    return _RUN_FILE.format(
        rounds=rounds,
        peers=peers,
        steps=steps,
        decay_steps=decay_steps,
        validation_every=validation_every,
    )


@dataclass(frozen=True, slots=True)
class Timetable:
    """Which round brings which disturbance; rounds are numbered from 1."""

    rounds: int

    @property
    def kill_round(self) -> int:
        """In this round, half-way, a peer is killed."""
        return self.rounds // 2

    @property
    def join_round(self) -> int:
        """In this round a new peer starts: one round later."""
        return self.kill_round + 1


@dataclass(frozen=True, slots=True)
class PeerReport:
    """One peer's figures at the end, or when it was last heard of."""

    peer_id: str
    name: str
    digest: str
    digest_round: int
    bytes_sent: int
    """Pseudo-gradients handed to other peers."""
    dense_bytes: int
    """What dense fp32 exchange to as many peers would have sent."""
    state_bytes_received: int
    joined_late: bool = False
    killed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """Everything the demo shows; ``to_json`` is what ``--json`` writes."""

    rounds: int
    peers: tuple[PeerReport, ...]
    params: int
    text_tokens: int
    """Committed on the chain."""
    val_loss_start: float
    """Nats per text token, as are the next two."""
    val_loss_end: float
    unigram_entropy: float
    export_dir: str
    sample: str
    seconds: float
    """From the first command to the last round."""
    left_behind: tuple[str, ...] = ()
    """Processes that outlived the demo."""

    @property
    def living(self) -> tuple[PeerReport, ...]:
        """The peers that were there at the end."""
        return tuple(peer for peer in self.peers if not peer.killed)

    @property
    def bytes_sent_per_peer(self) -> int:
        """Mean over the living peers."""
        return _mean(peer.bytes_sent for peer in self.living)

    @property
    def dense_bytes_per_peer(self) -> int:
        """Mean over the living peers."""
        return _mean(peer.dense_bytes for peer in self.living)

    def to_json(self) -> str:
        """Return the report as one JSON object."""
        data = asdict(self)
        data["bytes_sent_per_peer"] = self.bytes_sent_per_peer
        data["dense_bytes_per_peer"] = self.dense_bytes_per_peer
        data["killed_peer"] = _first_id(peer for peer in self.peers if peer.killed)
        data["joined_late_peer"] = _first_id(peer for peer in self.peers if peer.joined_late)
        data["failures"] = failures(self)
        return json.dumps(data, indent=2) + "\n"


def failures(report: DemoReport) -> list[str]:
    """Say in words what the demo did not show; empty if it showed everything."""
    found = [f"process left behind: {process}" for process in report.left_behind]
    ends = {(peer.digest_round, peer.digest) for peer in report.living}
    if len(ends) != 1 or not all(peer.digest for peer in report.living):
        states = ", ".join(f"{peer.name} {peer.digest[:8] or 'none'}" for peer in report.living)
        found.append(f"the peers' state digests differ: {states}")
    wanted = report.unigram_entropy - LOSS_MARGIN_NATS
    if not 0 < report.val_loss_end <= wanted:
        found.append(f"validation loss {report.val_loss_end:.3f}, must be at most {wanted:.3f}")
    if not any(peer.killed for peer in report.peers):
        found.append("no peer was killed")
    return found + _failures_of_late_peer(report)


def _failures_of_late_peer(report: DemoReport) -> list[str]:
    late = [peer for peer in report.living if peer.joined_late]
    if not late:
        return ["no peer joined mid-run"]
    found = []
    if not late[0].state_bytes_received:
        found.append("the peer that joined mid-run downloaded no state")
    if not late[0].bytes_sent:
        found.append("the peer that joined mid-run contributed to no round")
    return found


def figures(report: DemoReport) -> Table:
    """Return the run's figures as a table."""
    table = Table(show_header=False, box=None, pad_edge=False)
    sent, dense = report.bytes_sent_per_peer, report.dense_bytes_per_peer
    ratio = f"  ({dense / sent:.0f}x less)" if sent else ""
    entropy = f"{report.unigram_entropy:.3f} nats per text token"
    rows = [
        ("validation loss", f"{report.val_loss_start:.3f} -> {report.val_loss_end:.3f}"),
        ("unigram entropy", f"{entropy} (what byte frequencies alone would reach)"),
        ("trained", f"{report.text_tokens:,} text tokens in {report.rounds} rounds"),
        ("model", f"{report.params:,} parameters"),
        ("sent per peer", f"{sent / 1e6:.2f} MB; dense fp32: {dense / 1e6:.1f} MB{ratio}"),
        ("time", f"{report.seconds:.0f} s"),
        ("exported to", report.export_dir),
    ]
    for name, value in rows:
        table.add_row(f"[bold]{name}[/bold]", value)
    return table


def roll(report: DemoReport) -> Table:
    """Return one row per peer with its state digest."""
    table = Table("peer", "id", "round", "state digest", "sent MB", "")
    for peer in report.peers:
        fate = "killed" if peer.killed else "joined mid-run" if peer.joined_late else ""
        sent = f"{peer.bytes_sent / 1e6:.2f}"
        cells = (str(peer.digest_round), peer.digest[:16], sent, fate)
        table.add_row(peer.name, short(peer.peer_id), *cells)
    return table


def _mean(values: Iterable[int]) -> int:
    numbers = list(values)
    return round(sum(numbers) / len(numbers)) if numbers else 0


def _first_id(peers: Iterable[PeerReport]) -> str | None:
    return next((peer.peer_id for peer in peers), None)
