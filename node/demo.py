"""The main job on one machine: real daemons, a real death, a real join, and the proof at the end.

Uses only what a user has: the daemon command and the control API. What must be shown is decided
in demo_report.py; processes are started and stopped in demo_swarm.py.
"""

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.live import Live

from skerry.node.cli.seen import Seen
from skerry.node.cli.view import Screen
from skerry.node.cli.wording import printable
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
from skerry.node.demo_swarm import INTERRUPTS, LocalDaemon, LocalSwarm
from skerry.proto import control_pb2 as pb
from skerry.protocol.blobs import write_atomic
from skerry.protocol.errors import ConfigError, SkerryError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
POLL_SECONDS = 0.5
TOLD_LINES = 6
"""Of the terminal's height, kept for what was told last."""
PATIENCE_SECONDS = 120.0
"""Without any progress for so long, the demo gives up and says whom it waited for."""
SETTLE_SECONDS = 30.0
"""Time for the last peers to apply the last round."""
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
    folder = options.keep or Path(tempfile.mkdtemp(prefix="skerry-demo-"))
    remove = False
    try:
        with interruptible():
            report = _run(options, folder, console)
        remove = not failures(report)
    except KeyboardInterrupt:
        remove = True
        console.print("interrupted; every process that was started has been stopped")
        return INTERRUPTED
    finally:
        if remove and options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            console.print(f"homes and logs are in {folder}", soft_wrap=True)
    return _conclude(report, options, console)


def _check(options: DemoOptions) -> None:
    if options.peers < 2:
        raise ConfigError("SK-CFG-002", f"--peers {options.peers}, at least 2: one is killed")
    if options.rounds < MIN_ROUNDS:
        raise ConfigError("SK-CFG-002", f"--rounds {options.rounds}, at least {MIN_ROUNDS}")
    if options.keep and (options.keep / "peer-1").exists():
        raise ConfigError("SK-CFG-002", f"--keep {options.keep} holds an earlier demo")
    if options.json_file and not options.json_file.absolute().parent.is_dir():
        raise ConfigError("SK-CFG-003", f"--json {options.json_file}: there is no such folder")


def _run(options: DemoOptions, folder: Path, console: Console) -> DemoReport:
    with LocalSwarm(folder) as swarm:
        course = Course(options, swarm, console)
        course.begin()
        course.train()
        report = course.gather(_export_folder(options))
        console.print("stopping the daemons")
        return replace(report, left_behind=swarm.stop())


def _export_folder(options: DemoOptions) -> Path:
    if options.keep is not None:
        return options.keep.absolute() / "export"
    return Path.cwd() / time.strftime("skerry-demo-export-%Y%m%d-%H%M%S")


def _conclude(report: DemoReport, options: DemoOptions, console: Console) -> int:
    if options.json_file is not None:
        write_atomic(options.json_file, report.to_json().encode())
    console.print(figures(report))
    console.print(roll(report))
    console.print("a sample:", style="bold")
    sample = "\n".join(printable(line) for line in report.sample.splitlines())
    console.print(sample, markup=False, highlight=False)
    if missing := failures(report):
        raise SkerryError("SK-DEMO-001", "; ".join(missing))
    console.print("every peer holds the same parameters", style="green")
    return 0


@dataclass(slots=True)
class Course:
    """The course of one demo: what happens in which order, and what was seen of it."""

    options: DemoOptions
    swarm: LocalSwarm
    console: Console
    token: str = ""
    began: float = 0.0
    seconds: float = 0.0
    round: int = 0
    killed: LocalDaemon | None = None
    late: LocalDaemon | None = None
    late_joined: bool = False
    last: dict[str, pb.StatusReply] = field(default_factory=dict)
    """Newest status of each daemon, by name."""
    seen: Seen = field(default_factory=Seen)
    """Of the first daemon."""

    @property
    def first(self) -> LocalDaemon:
        """The daemon that started the run; it is never killed."""
        return self.swarm.daemons[0]

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

    def train(self) -> None:
        """Watch the run to its end and disturb it on the way.

        Raises: SkerryError if a daemon ends by itself or nothing moves for too long.
        """
        seen, since = "", time.monotonic()
        with Live(console=self.console, transient=True, auto_refresh=False) as live:
            while not self._finished():
                run = self._look().run
                self._tell(run)
                self._disturb(run.round)
                live.update(self._screen(), refresh=True)
                if (now := progress_of(run)) != seen:
                    seen, since = now, time.monotonic()
                elif time.monotonic() > since + PATIENCE_SECONDS:
                    raise SkerryError("SK-DEMO-001", f"nothing moved: {waiting_of(run)}")
                time.sleep(POLL_SECONDS)
        self.seconds = time.monotonic() - self.began

    def gather(self, directory: Path) -> DemoReport:
        """Collect the figures once all peers hold the parameters after the last round."""
        self._settle()
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

    def _status(self, daemon: LocalDaemon) -> pb.StatusReply:
        """Ask a daemon how it is. Raises: DaemonError if it has ended or does not answer."""
        daemon.check_running()
        status = self.last[daemon.name] = daemon.client.status()
        return status

    def _look(self) -> pb.StatusReply:
        """Ask the first daemon for all that is shown. Raises: DaemonError as ``_status``."""
        self.first.check_running()
        self.seen.ask(self.first.client)
        status = self.last[self.first.name] = self.seen.status
        return status

    def _screen(self) -> Screen:
        """Return the first peer's screen, below what was told so far; that stands for events."""
        return Screen(self.seen.moment().without_events(), self.console.size.height - TOLD_LINES)

    def _finished(self) -> bool:
        """Whether the first peer is done; the others follow while the demo settles."""
        first = self.last.get(self.first.name)
        return first is not None and first.run.finished

    def _tell(self, run: pb.RunStatus) -> None:
        """Print a line for each round that has been applied."""
        if run.digest_round <= self.round:
            return
        self.round = run.digest_round
        digest = f"state {run.state_digest[:8]}"
        losses = f"loss {run.loss:.3f}, validation {run.val_loss:.3f}"
        self.console.print(f"round {self.round}/{run.round.rounds}: {losses}, {digest}")

    def _disturb(self, position: pb.RoundStatus) -> None:
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
        self._status(victim)  # its figures, before it is gone
        self.swarm.kill(victim)
        self.killed = victim
        self.console.print(f"{victim.name} killed with SIGKILL", style="red")

    def _settle(self) -> None:
        """Wait until all living peers report the parameters after the same, last round."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            runs = [self._status(daemon).run for daemon in self.living]
            alike = len({run.digest_round for run in runs}) == 1
            if (alike and all(run.finished for run in runs)) or time.monotonic() > deadline:
                return
            time.sleep(POLL_SECONDS)

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


def progress_of(run: pb.RunStatus) -> str:
    """Return something that changes whenever the run gets on."""
    position = run.round
    return f"{run.head} {position.round} {position.view} {position.phase} {position.step}"


def waiting_of(run: pb.RunStatus) -> str:
    """Say where a run that gets on no more is, and for whom it waits."""
    position = run.round
    whom = ", ".join(position.waiting_for) or "nobody"
    where = f"round {position.round}, {position.phase}"
    return f"{where} for {PATIENCE_SECONDS:.0f} s, waiting for {whom}"


@contextmanager
def interruptible() -> Iterator[None]:
    """Treat all interrupts like Ctrl-C, so that the daemons are stopped after any of them."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
