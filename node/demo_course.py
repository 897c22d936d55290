"""What every demo does alike: start real daemons, watch a run to its end, and leave nothing behind.

Which daemons there are, what disturbs them and what must be shown at the end is each demo's own.
"""

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol, TypeVar

from rich.console import Console
from rich.live import Live

from skerry.node.cli.seen import Seen
from skerry.node.cli.view import Screen
from skerry.node.demo_swarm import INTERRUPTS, LocalDaemon, LocalSwarm
from skerry.proto import control_pb2 as pb
from skerry.protocol.blobs import write_atomic
from skerry.protocol.errors import ConfigError, SkerryError


class Report(Protocol):
    """What a demo found."""

    def to_json(self) -> str:
        """Return it as one JSON object."""


R = TypeVar("R", bound=Report)
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
POLL_SECONDS = 0.5
TOLD_LINES = 6
"""Of the terminal's height, kept for what was told last."""
PATIENCE_SECONDS = 120.0
"""Without any progress for so long, a demo gives up and says whom it waited for."""
SETTLE_SECONDS = 30.0
"""Time for the last peers to apply the last round."""


def check_paths(keep: Path | None, first: str, json_file: Path | None) -> None:
    """Refuse, before minutes are spent, what could not be written. Raises: ConfigError.

    ``first`` is the name of the first daemon, whose home an earlier demo has left.
    """
    if keep and (keep / first).exists():
        raise ConfigError("SK-CFG-002", f"--keep {keep} holds an earlier demo")
    if json_file and not json_file.absolute().parent.is_dir():
        raise ConfigError("SK-CFG-003", f"--json {json_file}: there is no such folder")


def check_rounds(rounds: int, least: int) -> None:
    """Refuse a demo too short to show what it must. Raises: ConfigError."""
    if rounds < least:
        raise ConfigError("SK-CFG-002", f"--rounds {rounds}, at least {least}")


def staged(
    keep: Path | None,
    console: Console,
    show: Callable[[Path], R],
    failures: Callable[[R], list[str]],
) -> R | None:
    """Return what ``show`` reports of a demo in a folder; None after Ctrl-C.

    The folder is ``keep``, or a temporary one, which is removed unless the demo fails.
    """
    folder = keep or Path(tempfile.mkdtemp(prefix="skerry-demo-"))
    remove = False
    try:
        with interruptible():
            report = show(folder)
        remove = not failures(report)
    except KeyboardInterrupt:
        remove = True
        console.print("interrupted; every process that was started has been stopped")
        return None
    finally:
        if remove and keep is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            console.print(f"homes and logs are in {folder}", soft_wrap=True)
    return report


def concluded(
    report: R | None,
    json_file: Path | None,
    console: Console,
    show: Callable[[R], None],
    failures: Callable[[R], list[str]],
) -> int:
    """Show a report and return the exit code: 0, or 130 after Ctrl-C.

    Raises: SkerryError("SK-DEMO-001") if the demo did not show what it must.
    """
    if report is None:
        return INTERRUPTED
    if json_file is not None:
        write_atomic(json_file, report.to_json().encode())
    show(report)
    if missing := failures(report):
        raise SkerryError("SK-DEMO-001", "; ".join(missing))
    console.print("every shard is the same on all of its hosts", style="green")
    return 0


@dataclass(slots=True)
class Course:
    """The course of one demo: what happens in which order, and what was seen of it."""

    swarm: LocalSwarm
    console: Console
    began: float = 0.0
    seconds: float = 0.0
    round: int = 0
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
        """All daemons that the demo has not killed."""
        return list(self.swarm.daemons)

    def disturb(self, position: pb.RoundStatus) -> None:
        """Do what the demo is about, if it is time."""

    def outcome(self, run: pb.RunStatus) -> str:
        """Say what a round has come to, beside its losses."""
        return f"state {run.state_digest[:8]}"

    def patience(self, run: pb.RunStatus) -> float:
        """Return how long nothing may move, seconds."""
        return PATIENCE_SECONDS

    def train(self) -> None:
        """Watch the run to its end and disturb it on the way.

        Raises: SkerryError if a daemon ends by itself or nothing moves for too long.
        """
        seen, since = "", time.monotonic()
        with Live(console=self.console, transient=True, auto_refresh=False) as live:
            while not self._finished():
                run = self._look().run
                self._tell(run)
                self.disturb(run.round)
                live.update(self._screen(), refresh=True)
                patience = self.patience(run)
                if (now := progress_of(run)) != seen:
                    seen, since = now, time.monotonic()
                elif time.monotonic() > since + patience:
                    raise SkerryError("SK-DEMO-001", f"nothing moved: {waiting_of(run, patience)}")
                time.sleep(POLL_SECONDS)
        self.seconds = time.monotonic() - self.began

    def settle(self) -> None:
        """Wait until all living peers report the parameters after the same, last round."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            runs = [self.status(daemon).run for daemon in self.living]
            alike = len({run.digest_round for run in runs}) == 1
            if (alike and all(run.finished for run in runs)) or time.monotonic() > deadline:
                return
            time.sleep(POLL_SECONDS)

    def status(self, daemon: LocalDaemon) -> pb.StatusReply:
        """Ask a daemon how it is. Raises: DaemonError if it has ended or does not answer."""
        daemon.check_running()
        status = self.last[daemon.name] = daemon.client.status()
        return status

    def _look(self) -> pb.StatusReply:
        """Ask the first daemon for all that is shown. Raises: DaemonError as ``status``."""
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
        losses = f"loss {run.loss:.3f}"
        if run.val_loss:  # only who hosts the whole model can measure it
            losses += f", validation {run.val_loss:.3f}"
        self.console.print(f"round {self.round}/{run.round.rounds}: {losses}, {self.outcome(run)}")


def progress_of(run: pb.RunStatus) -> str:
    """Return something that changes whenever the run gets on."""
    position = run.round
    return f"{run.head} {position.round} {position.view} {position.phase} {position.step}"


def waiting_of(run: pb.RunStatus, seconds: float) -> str:
    """Say where a run that gets on no more is, for how long, and for whom it waits."""
    position = run.round
    whom = ", ".join(position.waiting_for) or "nobody"
    return f"round {position.round}, {position.phase} for {seconds:.0f} s, waiting for {whom}"


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
