"""The demo of peers too small for the model: one full replica and a ring of three, in one run.

Uses only what a user has, as demo.py does. What must be shown: the ring's peers host a part each
and contribute it to the same rounds as the replica; every shard has the same digest on all of its
hosts; the validation loss falls as in the plain demo. What the ring's peers have sent each other is
shown as they counted it, beside what the run's file leads one to expect.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from skerry.node.demo_course import (
    PATIENCE_SECONDS,
    Course,
    check_paths,
    check_rounds,
    concluded,
    staged,
)
from skerry.node.demo_hosts import HostReport, disagreements, host_report, roll
from skerry.node.demo_report import LOSS_MARGIN_NATS, run_file
from skerry.node.demo_swarm import LocalSwarm
from skerry.pipeline.stages.sizes import payload_bytes, text_bytes
from skerry.proto import control_pb2 as pb
from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import Manifest, parse_run_file

FULL = "replica"
"""Name of the daemon that hosts the whole model."""
MEMBERS = 3
"""Peers of the ring: its origin and two that host blocks only."""
MEMORY = "13MB"
"""Of a peer of the ring: room for two of the model's four blocks, or for one at the origin, so that
two peers do not suffice."""
MIN_ROUNDS = 4
FIRST_PLAN_SECONDS = 300.0
"""Patience before the first round: the first plan on a machine compiles the planner."""
_BF16_BYTES = 2


@dataclass(frozen=True, slots=True)
class HeteroOptions:
    """What the command line decides."""

    rounds: int = 10
    json_file: Path | None = None
    keep: Path | None = None
    """Folder for the daemons' homes; None: a temporary one, removed unless the demo fails."""


@dataclass(frozen=True, slots=True)
class HopBytes:
    """What a peer of the ring sends the next one, bytes per text token that it passes on."""

    forward: float
    """Activations, and the text token ids where the subspace needs them."""
    backward: float
    """Gradients."""
    control: float
    """Frames and credit that steer both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeteroReport:
    """Everything the demo shows; ``to_json`` is what ``--json`` writes."""

    hosts: tuple[HostReport, ...]
    rounds: int
    text_tokens: int
    params: int
    val_loss_start: float
    """Nats per text token, as are the next two."""
    val_loss_end: float
    unigram_entropy: float
    hop_bytes: HopBytes
    """As the ring's peers counted them on their streams, all headers and repetitions included."""
    hop_bytes_expected: HopBytes
    """Of the payloads alone, from the manifest: no headers, no control, nothing repeated."""
    hop_bytes_dense: float
    """Of rows of the residual stream in bf16, one way."""
    seconds: float
    left_behind: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the report as one JSON object."""
        return json.dumps(asdict(self) | {"failures": failures(self)}, indent=2) + "\n"


def failures(report: HeteroReport) -> list[str]:
    """Say in words what the demo did not show; empty if it showed everything."""
    found = [f"process left behind: {process}" for process in report.left_behind]
    roles = sorted(host.role for host in report.hosts)
    if roles != ["replica", *["stage"] * MEMBERS]:
        found.append(f"roles are {', '.join(role or 'none' for role in roles)}")
    if len({host.digest_round for host in report.hosts}) != 1:
        found.append("the peers stand after different rounds")
    found += disagreements(report.hosts)
    model = {shard for host in report.hosts for shard in host.shards}
    if any(len(host.shards) == len(model) for host in report.hosts if host.role == "stage"):
        found.append("a peer of the ring holds the whole model")
    found += [f"{host.name} sent nothing" for host in report.hosts if not host.bytes_sent]
    if not (report.hop_bytes.forward and report.hop_bytes.backward):
        found.append("nothing was counted on the ring's streams")
    wanted = report.unigram_entropy - LOSS_MARGIN_NATS
    if not 0 < report.val_loss_end <= wanted:
        found.append(f"validation loss {report.val_loss_end:.3f}, must be at most {wanted:.3f}")
    return found


def run_hetero(options: HeteroOptions, console: Console | None = None) -> int:
    """Run the demo and return the exit code: 0, or 130 after Ctrl-C.

    Raises: as run_demo.
    """
    check_rounds(options.rounds, MIN_ROUNDS)
    check_paths(options.keep, FULL, options.json_file)
    console = console or Console()
    report = staged(options.keep, console, lambda at: _run(options, at, console), failures)
    return concluded(report, options.json_file, console, partial(_show, console), failures)


def _run(options: HeteroOptions, folder: Path, console: Console) -> HeteroReport:
    with LocalSwarm(folder) as swarm:
        course = HeteroCourse(swarm, console, options=options)
        course.begin()
        course.train()
        return replace(course.gather(), left_behind=swarm.stop())


def _show(console: Console, report: HeteroReport) -> None:
    console.print(figures(report))
    console.print(roll(report.hosts))


@dataclass(slots=True)
class HeteroCourse(Course):
    """Nothing disturbs it: the daemons find out who hosts what, and train."""

    options: HeteroOptions = field(default_factory=HeteroOptions)
    manifest: Manifest | None = None

    def begin(self) -> None:
        """Start the daemons and the run; the others join to host a stage each."""
        self.began = time.monotonic()
        self.console.print(f"starting one full replica and {MEMBERS} peers that host a part")
        self.swarm.start(FULL)
        for number in range(MEMBERS):
            self.swarm.start(f"ring-{number + 1}", "--role=stage", f"--memory={MEMORY}")
        for daemon in self.swarm.daemons:
            daemon.wait_until_ready()
        text = run_file(self.options.rounds, 1 + MEMBERS)
        reply = self.first.client.init(text)
        owner = PeerId(self.first.client.status().peer_id)
        self.manifest = parse_run_file(text, owner)
        if url := self.first.client.status().page_url:
            self.console.print(f"its status page is {url}", soft_wrap=True)
        for daemon in self.swarm.daemons[1:]:
            daemon.client.join(reply.token)
            self.console.print(f"{daemon.name} joined")

    def gather(self) -> HeteroReport:
        """Collect the figures once all peers hold the parameters after the last round."""
        self.settle()
        run = self.last[self.first.name].run
        assert self.manifest is not None
        return HeteroReport(
            hosts=tuple(host_report(d.name, self.last[d.name]) for d in self.swarm.daemons),
            rounds=run.digest_round,
            text_tokens=run.text_tokens,
            params=run.params,
            val_loss_start=run.val_loss_start,
            val_loss_end=run.val_loss,
            unigram_entropy=run.unigram_entropy,
            hop_bytes=counted(status.run for status in self.last.values()),
            hop_bytes_expected=expected(self.manifest),
            hop_bytes_dense=_BF16_BYTES * self.manifest.model.d_model,
            seconds=self.seconds,
        )

    def outcome(self, run: pb.RunStatus) -> str:
        """Say how many peers the ring has."""
        return f"{sum(peer.role == 'stage' for peer in run.peers)} peers host a stage"

    def patience(self, run: pb.RunStatus) -> float:
        """Return how long nothing may move, seconds."""
        return PATIENCE_SECONDS if run.round.round else FIRST_PLAN_SECONDS


def counted(runs: Iterable[pb.RunStatus]) -> HopBytes:
    """Return what was sent over all hops, per text token that passed one; 0 if none has."""
    sent, tokens = Counter[str](), 0
    for run in runs:
        sent.update(run.ring_sent_bytes)
        tokens += run.ring_text_tokens
    forward, backward, control = (
        sent[lane] / max(1, tokens) for lane in ("forward", "backward", "control")
    )
    return HopBytes(forward, backward, control)


def expected(manifest: Manifest) -> HopBytes:
    """Return what the payloads of one sequence take, per text token."""
    tokens = manifest.model.context
    backward = payload_bytes(manifest, 1) / tokens
    return HopBytes(backward + text_bytes(manifest, 1) / tokens, backward, 0.0)


def figures(report: HeteroReport) -> Table:
    """Return what the run has come to."""
    table = Table(show_header=False, box=None, pad_edge=False)
    hop, payloads = report.hop_bytes, report.hop_bytes_expected
    entropy = f"{report.unigram_entropy:.3f} nats per text token"
    rows = [
        ("validation loss", f"{report.val_loss_start:.3f} -> {report.val_loss_end:.3f}"),
        ("unigram entropy", f"{entropy} (what byte frequencies alone would reach)"),
        ("trained", f"{report.text_tokens:,} text tokens in {report.rounds} rounds"),
        ("model", f"{report.params:,} parameters"),
        (
            "sent per hop",
            f"{hop.forward:.1f} bytes per text token forward, {hop.backward:.1f} backward, "
            f"{hop.control:.1f} control, counted on the ring's streams",
        ),
        (
            "to compare",
            f"{payloads.forward:.1f} and {payloads.backward:.1f} of payload, by the run's file; "
            f"{report.hop_bytes_dense:.0f} each way as dense bf16",
        ),
        ("time", f"{report.seconds:.0f} s"),
    ]
    for name, value in rows:
        table.add_row(f"[bold]{name}[/bold]", value)
    return table
