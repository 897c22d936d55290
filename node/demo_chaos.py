"""The demo of faults: one full replica, a ring of three and a peer that stands by; all of it fails.

Uses only what a user has, as demo.py does, and SIGKILL. A seed draws the order. What must be shown:
the run completes; every shard is the same on all of its hosts; no text token is lost or counted
twice; of each failure, how what was lost came back, and how soon it trained again.
"""

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console

from skerry.node.cli.seen import Seen
from skerry.node.demo_account import Account, counted_text_tokens, mean_loss
from skerry.node.demo_chaos_report import ChaosReport, failures, figures, injuries
from skerry.node.demo_course import (
    PATIENCE_SECONDS,
    Course,
    check_paths,
    check_rounds,
    concluded,
    staged,
)
from skerry.node.demo_hetero import FIRST_PLAN_SECONDS, FULL, MEMBERS, MEMORY
from skerry.node.demo_hosts import host_report, roll
from skerry.node.demo_injuries import OWN_DISK, Injury, Kind, Recovery, drawn_script
from skerry.node.demo_report import run_file
from skerry.node.demo_swarm import LocalDaemon, LocalSwarm
from skerry.proto import control_pb2 as pb
from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import parse_run_file
from skerry.recovery.healing import Rung
from skerry.recovery.healing_words import named

SPARE = "spare"
MIN_ROUNDS = 12
_STEPS = 10
"""Inner steps of a round: few, so that what fails costs little."""
_VALIDATION_EVERY = 6
"""Rounds."""
_EMBED, _COMPUTE = "embed", "skerry.pipeline.worker"
Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChaosOptions:
    """What the command line decides."""

    seed: int = 0
    rounds: int = 48
    json_file: Path | None = None
    keep: Path | None = None
    """Folder for the daemons' homes; None: a temporary one, removed unless the demo fails."""


def run_chaos(options: ChaosOptions, console: Console | None = None) -> int:
    """Run the demo and return the exit code: 0, or 130 after Ctrl-C.

    Raises: as run_demo.
    """
    check_rounds(options.rounds, MIN_ROUNDS)
    check_paths(options.keep, FULL, options.json_file)
    console = console or Console()
    report = staged(options.keep, console, lambda at: _run(options, at, console), failures)
    return concluded(report, options.json_file, console, partial(_show, console), failures)


def _run(options: ChaosOptions, folder: Path, console: Console) -> ChaosReport:
    with LocalSwarm(folder) as swarm:
        course = ChaosCourse(swarm, console, options=options)
        course.begin()
        course.train()
        return replace(course.gather(), left_behind=swarm.stop())


def _show(console: Console, report: ChaosReport) -> None:
    console.print(figures(report))
    console.print(injuries(report.recoveries))
    console.print(roll(report.hosts))


@dataclass(slots=True)
class ChaosCourse(Course):
    """One failure after the other, each when the one before has been recovered from."""

    options: ChaosOptions = field(default_factory=ChaosOptions)
    token: str = ""
    script: list[Kind] = field(default_factory=list)
    dice: Random = field(default_factory=Random)
    names: dict[str, str] = field(default_factory=dict)
    """Of the daemons, by peer id."""
    down: set[str] = field(default_factory=set)
    """Killed, and not back yet."""
    gone: set[str] = field(default_factory=set)
    """Killed for good."""
    open: list[Injury] = field(default_factory=list)
    """The newest last: only the coordinator's lasts while another one happens."""
    recoveries: list[Recovery] = field(default_factory=list)
    account: Account = field(default_factory=Account)
    step_tokens: int = 0
    """That a replica reads in a round."""
    calm_since: int = 0
    """Round in which the last recovery was seen."""
    watched: str = FULL
    """Whose screen is shown."""
    logs: dict[str, list[Event]] = field(default_factory=dict)
    """What each daemon has written down, by its name."""
    read: dict[str, int] = field(default_factory=dict)
    """How many bytes of it were read."""

    @property
    def daemons(self) -> dict[str, LocalDaemon]:
        """The newest daemon of each name."""
        return {daemon.name: daemon for daemon in self.swarm.daemons}

    @property
    def peer_ids(self) -> dict[str, str]:
        """By the daemons' names."""
        return {name: peer for peer, name in self.names.items()}

    @property
    def living(self) -> list[LocalDaemon]:
        """All daemons that take commands."""
        return [d for d in self.daemons.values() if d.name not in self.down | self.gone]

    @property
    def first(self) -> LocalDaemon:
        """Who is watched: the coordinator, or while it is away a peer of the ring."""
        return self.daemons[self.watched]

    def begin(self) -> None:
        """Start the daemons and the run; the one that stands by joins when the run has begun."""
        self.began = time.monotonic()
        self.script, self.dice = list(drawn_script(self.options.seed)), Random(self.options.seed)
        self.console.print(f"starting one full replica, {MEMBERS} peers of a ring, and a spare")
        self.swarm.start(FULL)
        ring = [f"ring-{number + 1}" for number in range(MEMBERS)]
        for name in (*ring, SPARE):
            self._start(name)
        for daemon in self.swarm.daemons:
            daemon.wait_until_ready()
            self.names[daemon.client.status().peer_id] = daemon.name
        text = run_file(self.options.rounds, 1 + MEMBERS, _STEPS, _VALIDATION_EVERY)
        manifest = parse_run_file(text, PeerId(self.first.client.status().peer_id))
        self.step_tokens = manifest.max_round_tokens // manifest.inner.steps
        reply = self.first.client.init(text)
        self.token = reply.token
        if url := self.first.client.status().page_url:
            self.console.print(f"the coordinator's status page is {url}", soft_wrap=True)
        for name in ring:
            self.daemons[name].client.join(self.token)
            self.console.print(f"{name} joined")

    def disturb(self, position: pb.RoundStatus) -> None:
        """Let the next thing fail when it is time, and see what became of those before."""
        if self.token and self.round:
            self.daemons[SPARE].client.join(self.token)
            self.token = ""
            self.calm_since = self.round
            self.console.print(f"{SPARE} joined, and stands by")
        self._read_logs()
        self._welcome_back()
        for injury in list(reversed(self.open)):
            self._treat(injury)
        if self.script and not self.token and self._may_strike(position):
            self._strike(self.script.pop(0))

    def gather(self) -> ChaosReport:
        """Collect the figures once all peers hold the parameters after the last round."""
        self.settle()
        self._read_logs()
        run = self.last[FULL].run
        chain = self.account.chain(run.head)
        return ChaosReport(
            seed=self.options.seed,
            recoveries=tuple(self.recoveries),
            hosts=tuple(host_report(d.name, self.last[d.name]) for d in self.living),
            rounds=run.digest_round,
            text_tokens=counted_text_tokens(chain),
            contributed_text_tokens=self.account.contributed_text_tokens(chain),
            trained_text_tokens=self.account.trained_text_tokens(self.step_tokens),
            val_loss_start=run.val_loss_start,
            val_loss_end=run.val_loss,
            unigram_entropy=run.unigram_entropy,
            seconds=self.seconds,
        )

    def outcome(self, run: pb.RunStatus) -> str:
        """Say who hosts a stage."""
        hosts = [self.names[p.peer_id] for p in run.peers if p.shards]
        return f"{', '.join(sorted(hosts))} host a stage"

    def patience(self, run: pb.RunStatus) -> float:
        """Return how long nothing may move, seconds."""
        return PATIENCE_SECONDS if run.round.round else FIRST_PLAN_SECONDS

    # -- what fails --------------------------------------------------------------------------

    def _may_strike(self, position: pb.RoundStatus) -> bool:
        """Say whether all is well again, or as bad as it is to be."""
        if self.script[0] is Kind.STAGE:
            (injury,) = self.open
            return any(c["round"] > injury.round for c in self._since(injury))
        if self.open or self.round <= self.calm_since or len(self._hosted()) < MEMBERS:
            return False
        if self.script[0] is Kind.LEADER:  # while the others wait for its commit
            return position.phase == "collecting"
        return position.phase == "training"

    def _strike(self, kind: Kind) -> None:
        victims = self._victims(kind)
        hosted = self._hosted()
        shards = tuple(shard for name in victims for shard in hosted.get(name, ()))
        chain = self.account.chain(self.last[self.watched].run.head)
        loss = mean_loss(chain[-1]) if chain else 0.0
        injury = Injury(kind, victims, shards, time.time(), self.round + 1, loss)
        for name in victims:
            self._kill(name, kind)
        self.open.append(injury)
        what = f"{kind}: {', '.join(victims)} killed with SIGKILL"
        self.console.print(f"{what} ({named(shards) or 'the whole model'})", style="red")

    def _victims(self, kind: Kind) -> tuple[str, ...]:
        hosted = self._hosted()
        bodies = sorted(name for name, shards in hosted.items() if _EMBED not in shards)
        match kind:
            case Kind.LEADER | Kind.COORDINATOR:
                return (FULL,)
            case Kind.ADJACENT:
                return tuple(bodies)
            case Kind.COMPUTE:
                return (self.dice.choice([FULL, *bodies]),)
            case _:
                return (self.dice.choice(bodies),)

    def _kill(self, name: str, kind: Kind) -> None:
        if kind is Kind.COMPUTE:
            with suppress(ProcessLookupError):
                os.kill(self.swarm.child(self.daemons[name], _COMPUTE), signal.SIGKILL)
            return
        self.swarm.kill(self.daemons[name])
        (self.gone if kind is Kind.STAGE else self.down).add(name)
        if name == self.watched:
            hosted = self._hosted()
            self.watched = next(n for n, shards in hosted.items() if _EMBED in shards)
            self.seen = Seen()

    # -- what becomes of it ------------------------------------------------------------------

    def _treat(self, injury: Injury) -> None:
        """Start what was killed once the others have noticed, and see whether it trains again."""
        stages = [one for one in self.recoveries if one.kind is Kind.STAGE]
        waits = injury.kind is Kind.COORDINATOR and not stages
        for name in injury.victims:
            killed = name in self.down and not self.daemons[name].running
            if killed and not waits and self._noticed(name, injury.time):
                self._start(name)
                self.console.print(f"{name} starts again")
        commit = next((c for c in self._since(injury) if self._includes(c, injury)), None)
        if commit is None:
            return
        self.open.remove(injury)
        self.calm_since = self.round
        recovery = Recovery(
            kind=injury.kind,
            victims=injury.victims,
            shards=injury.shards,
            rung=self._rung(injury),
            seconds=round(commit["time"] - injury.time, 3),
            loss_before=round(injury.loss, 4),
            loss_after=round(mean_loss(commit), 4),
        )
        self.recoveries.append(recovery)
        told = f"{injury.kind}: trains again after {recovery.seconds:.1f} s ({recovery.rung})"
        self.console.print(told, style="green")

    def _includes(self, commit: Event, injury: Injury) -> bool:
        """Say whether a commit holds what was trained of all that had failed."""
        if commit["round"] <= injury.round:
            return False  # it may have been contributed before
        included = {self.names[one["peer"]] for one in commit["included"]}
        if FULL in injury.victims:
            return FULL in included
        hosted = self._hosted()
        trained = {shard for name in included for shard in hosted.get(name, ())}
        return set(injury.shards) <= trained and not self.down & set(injury.victims)

    def _rung(self, injury: Injury) -> str:
        """Return how what was lost came back: as it was told, or else seen at the victims."""
        found: dict[str, None] = {}
        for name, log in self.logs.items():
            for event in (event for event in log if event["time"] > injury.time):
                own = name in injury.victims
                match event["event"]:
                    case "healed" if own or set(event["shards"]) & set(injury.shards):
                        found[event["rung"]] = None
                    case "state-downloaded" if own:
                        found[str(Rung.COPY)] = None
        return ", ".join(found) or OWN_DISK

    def _noticed(self, name: str, since: float) -> bool:
        """Say whether the one that is watched knows that a peer is gone."""
        return any(
            event["event"] == "peer-down"
            and self.names.get(event["peer"]) == name
            and event["time"] > since
            for event in self.logs.get(self.watched, [])
        )

    def _welcome_back(self) -> None:
        """Count those as there again that take commands in the run."""
        for name in sorted(self.down):
            daemon = self.daemons[name]
            if daemon.running and daemon.is_ready() and daemon.client.status().HasField("run"):
                self.down.discard(name)
                if name == FULL:
                    self.watched, self.seen = FULL, Seen()

    # -- what is known -----------------------------------------------------------------------

    def _start(self, name: str) -> None:
        flags = () if name == FULL else ("--role=stage", f"--memory={MEMORY}")
        self.swarm.start(name, *flags)

    def _hosted(self) -> dict[str, tuple[str, ...]]:
        """Return the shards of each peer of the ring, by the name of its daemon."""
        peers = self.last[self.watched].run.peers if self.watched in self.last else ()
        return {self.names[p.peer_id]: tuple(p.shards) for p in peers if p.shards}

    def _since(self, injury: Injury) -> list[Event]:
        """Return the commits since a failure, oldest first."""
        found = [c for c in self.account.commits.values() if c["time"] > injury.time]
        return sorted(found, key=lambda commit: (commit["round"], commit["time"]))

    def _read_logs(self) -> None:
        """Take in what the daemons have written since the last time."""
        for name, daemon in self.daemons.items():
            if not daemon.home.events_file.exists():
                continue
            with daemon.home.events_file.open("rb") as file:
                file.seek(self.read.get(name, 0))
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self.read[name] = self.read.get(name, 0) + len(whole)
            events = [json.loads(line) for line in whole.splitlines()]
            self.logs.setdefault(name, []).extend(events)
            self.account.read(self.peer_ids.get(name, ""), events)
