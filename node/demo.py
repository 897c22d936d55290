"""The main job on one machine: real daemons, a real death, a real join, and the proof at the end.

Uses only what a user has: the daemon command and the control API. What must be shown is decided
in demo_report.py; what all demos do alike is in demo_course.py, processes are in demo_swarm.py.
"""

import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from skerry.node.cli.wording import printable
from skerry.node.demo_course import Course, check_paths, check_rounds, concluded, staged
from skerry.node.demo_report import (
    MIN_ROUNDS,
    DemoReport,
    PeerReport,
    Timetable,
    failures,
    figures,
    roll,
    run_file,
)
from skerry.node.demo_swarm import LocalDaemon, LocalSwarm
from skerry.proto import control_pb2 as pb
from skerry.protocol.errors import ConfigError

_SAMPLE = pb.SampleRequest(prompt="def ", text_tokens=160, temperature=0.7, seed=1)


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line decides."""

    peers: int = 3
    rounds: int = 12
    json_file: Path | None = None
    """Where to write the report as data."""
    keep: Path | None = None
    """Folder for the daemons' homes and the export; None: a temporary one for the homes, removed
    unless the demo fails, and a new one in the current folder for the export."""


def run_demo(options: DemoOptions, console: Console | None = None) -> int:
    """Run the demo and return the exit code: 0, or 130 after Ctrl-C.

    Raises: ConfigError for options that make no sense, SkerryError("SK-DEMO-001") if the demo
        did not show what it must, other SkerryErrors from the daemons.
    """
    _check(options)
    console = console or Console()
    report = staged(options.keep, console, lambda at: _run(options, at, console), failures)
    return concluded(report, options.json_file, console, partial(_show, console), failures)


def _check(options: DemoOptions) -> None:
    if options.peers < 2:
        raise ConfigError("SK-CFG-002", f"--peers {options.peers}, at least 2: one is killed")
    check_rounds(options.rounds, MIN_ROUNDS)
    check_paths(options.keep, "peer-1", options.json_file)


def _run(options: DemoOptions, folder: Path, console: Console) -> DemoReport:
    with LocalSwarm(folder) as swarm:
        course = DemoCourse(swarm, console, options=options)
        course.begin()
        course.train()
        report = course.gather(_export_folder(options))
        console.print("stopping the daemons")
        return replace(report, left_behind=swarm.stop())


def _export_folder(options: DemoOptions) -> Path:
    if options.keep is not None:
        return options.keep.absolute() / "export"
    return Path.cwd() / time.strftime("skerry-demo-export-%Y%m%d-%H%M%S")


def _show(console: Console, report: DemoReport) -> None:
    console.print(figures(report))
    console.print(roll(report))
    console.print("a sample:", style="bold")
    sample = "\n".join(printable(line) for line in report.sample.splitlines())
    console.print(sample, markup=False, highlight=False)


@dataclass(slots=True)
class DemoCourse(Course):
    """One peer is killed half-way, and another joins."""

    options: DemoOptions = field(default_factory=DemoOptions)
    token: str = ""
    killed: LocalDaemon | None = None
    late: LocalDaemon | None = None
    late_joined: bool = False

    @property
    def living(self) -> list[LocalDaemon]:
        """All daemons but the killed one."""
        return [daemon for daemon in self.swarm.daemons if daemon is not self.killed]

    def begin(self) -> None:
        """Start the daemons, the run on the first, and let the others join."""
        self.began = time.monotonic()
        self.console.print(f"starting {self.options.peers} daemons")
        daemons = [self.swarm.start(f"peer-{i + 1}") for i in range(self.options.peers)]
        with self.console.status("waiting until they answer"):
            for daemon in daemons:
                daemon.wait_until_ready()
        reply = self.first.client.init(run_file(self.options.rounds, self.options.peers))
        self.token = reply.token
        self.console.print(f"peer-1 started run {reply.run_id[:8]}")
        if url := self.first.client.status().page_url:
            self.console.print(f"its status page is {url}", soft_wrap=True)
        for daemon in daemons[1:]:
            daemon.client.join(self.token)
            self.console.print(f"{daemon.name} joined")

    def gather(self, directory: Path) -> DemoReport:
        """Collect the figures once all peers hold the parameters after the last round."""
        self.settle()
        run = self.last[self.first.name].run
        export = self.first.client.export(directory)
        return DemoReport(
            rounds=run.digest_round,
            peers=tuple(self._report_of(daemon) for daemon in self.swarm.daemons),
            params=run.params,
            text_tokens=run.text_tokens,
            val_loss_start=run.val_loss_start,
            val_loss_end=run.val_loss,
            unigram_entropy=run.unigram_entropy,
            export_dir=export.directory,
            sample=self.first.client.sample(_SAMPLE),
            seconds=self.seconds,
        )

    def disturb(self, position: pb.RoundStatus) -> None:
        """Kill and let join, each in its round."""
        timetable = Timetable(self.options.rounds)
        half = position.step >= position.steps // 2 and position.phase == "training"
        if self.killed is None:
            if position.round > timetable.kill_round or (
                position.round == timetable.kill_round and half
            ):
                self._kill()
        elif self.late is None:
            if position.round >= timetable.join_round:
                self.late = self.swarm.start(f"peer-{self.options.peers + 1}")
                self.console.print(f"starting {self.late.name}")
        elif not self.late_joined and self.late.is_ready():
            self.late.client.join(self.token)
            self.late_joined = True
            self.console.print(f"{self.late.name} joined mid-run", style="green")

    def _kill(self) -> None:
        victim = self.swarm.daemons[-1]
        self.status(victim)  # its figures, before it is gone
        self.swarm.kill(victim)
        self.killed = victim
        self.console.print(f"{victim.name} killed with SIGKILL", style="red")

    def _report_of(self, daemon: LocalDaemon) -> PeerReport:
        status = self.last.get(daemon.name, pb.StatusReply())
        return PeerReport(
            peer_id=status.peer_id,
            name=daemon.name,
            digest=status.run.state_digest,
            digest_round=status.run.digest_round,
            bytes_sent=status.run.payload_bytes_sent,
            dense_bytes=status.run.dense_bytes,
            state_bytes_received=status.run.received_bytes.get("state", 0),
            joined_late=daemon is self.late,
            killed=daemon is self.killed,
        )
