"""The demo's course, against daemons played by a script; the real ones are in tests/integration."""

import io
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console

from skerry.node import demo, demo_course
from skerry.node.demo import DemoCourse, DemoOptions, run_demo
from skerry.node.demo_course import INTERRUPTED
from skerry.proto import control_pb2 as pb
from skerry.protocol.errors import ConfigError, DaemonError, SkerryError

DIGEST = "ab" * 32


def status(name: str, round_: int, step: int, rounds: int) -> pb.StatusReply:
    """What a daemon says while it trains ``round_``; beyond the last one, it is done."""
    reply = pb.StatusReply(peer_id=f"12D3KooW{name}")
    reply.run.round.round, reply.run.round.rounds = round_, rounds
    reply.run.round.step, reply.run.round.steps = step, 30
    reply.run.round.phase = "training" if round_ <= rounds else "done"
    reply.run.digest_round = round_ - 1
    reply.run.state_digest = DIGEST
    reply.run.finished = round_ > rounds
    reply.run.val_loss_start, reply.run.val_loss, reply.run.unigram_entropy = 5.5, 2.5, 3.2
    reply.run.payload_bytes_sent, reply.run.dense_bytes = 1000, 200_000
    return reply


@dataclass
class World:
    """What all scripted daemons share: time, counted in questions to the first one."""

    rounds: int
    now: int = 0
    stuck_after: int = 10**9
    told: list[str] = field(default_factory=list)

    @property
    def position(self) -> tuple[int, int]:
        """Round and step: four questions make a round."""
        return min(self.now, self.stuck_after) // 4 + 1, self.now % 4 * 10


@dataclass
class ScriptedClient:
    name: str
    world: World

    def status(self, deadline: float = 0.0) -> pb.StatusReply:
        if self.name == "peer-1":
            self.world.now += 1
        reply = status(self.name, *self.world.position, self.world.rounds)
        if "late" in self.name or self.name == "peer-4":
            reply.run.received_bytes["state"] = 3_000_000
        return reply

    def logs(self, last: int, follow: bool = False) -> list[str]:
        assert not follow
        return ['{"time": 1.0, "event": "peer-down", "peer": "12D3KooWpeer-3"}'][-last:]

    def init(self, manifest_toml: str) -> pb.RunReply:
        self.world.told.append(f"init {self.name}")
        return pb.RunReply(run_id="cd" * 32, token="skerry-token")

    def join(self, token: str) -> pb.RunReply:
        assert token == "skerry-token"
        self.world.told.append(f"join {self.name} in {self.world.position[0]}")
        return pb.RunReply()

    def sample(self, request: pb.SampleRequest) -> str:
        return request.prompt + "f():\n    return\x1b[31m 1"

    def export(self, directory: Path) -> pb.ExportReply:
        return pb.ExportReply(directory=str(directory), state_digest=DIGEST)


@dataclass
class ScriptedDaemon:
    name: str
    client: ScriptedClient
    ended: bool = False

    def wait_until_ready(self) -> None: ...

    def is_ready(self) -> bool:
        return True

    def check_running(self) -> None:
        if self.ended:
            raise DaemonError("SK-DMN-005", f"{self.name} ended")


@dataclass
class ScriptedSwarm:
    world: World
    left: tuple[str, ...] = ()
    daemons: list[ScriptedDaemon] = field(default_factory=list)
    closed: bool = False

    def __enter__(self) -> "ScriptedSwarm":
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def start(self, name: str) -> ScriptedDaemon:
        self.daemons.append(ScriptedDaemon(name, ScriptedClient(name, self.world)))
        self.world.told.append(f"start {name} in {self.world.position[0]}")
        return self.daemons[-1]

    def kill(self, daemon: ScriptedDaemon) -> None:
        daemon.ended = True
        self.world.told.append(f"kill {daemon.name} in {self.world.position[0]}")

    def stop(self) -> tuple[str, ...]:
        self.world.told.append("stop")
        return self.left


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch) -> ScriptedSwarm:
    """Replace the real daemons, and the waiting between two questions."""
    swarm = ScriptedSwarm(World(rounds=8))
    monkeypatch.setattr(demo, "LocalSwarm", lambda folder: swarm)
    monkeypatch.setattr(demo_course, "POLL_SECONDS", 0.0)
    return swarm


def quiet() -> Console:
    return Console(file=io.StringIO(), width=140)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_course_kills_half_way_and_lets_one_join(swarm: ScriptedSwarm, tmp_path: Path) -> None:
    console = quiet()
    options = DemoOptions(rounds=8, json_file=tmp_path / "out.json", keep=tmp_path / "kept")
    assert run_demo(options, console) == 0
    assert swarm.world.told == [
        "start peer-1 in 1",
        "start peer-2 in 1",
        "start peer-3 in 1",
        "init peer-1",
        "join peer-2 in 1",
        "join peer-3 in 1",
        "kill peer-3 in 4",
        "start peer-4 in 5",
        "join peer-4 in 5",
        "stop",
    ]
    assert swarm.closed
    out = text_of(console)
    assert "round 8/8" in out
    assert "validation loss" in out
    assert "\x1b" not in out  # what the model wrote cannot steer the terminal
    assert '"joined_late_peer": "12D3KooWpeer-4"' in (tmp_path / "out.json").read_text()


def test_screen_shows_failures_below_what_is_told(
    swarm: ScriptedSwarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = DemoCourse(swarm, quiet(), options=DemoOptions(rounds=8))  # type: ignore[arg-type]
    course.begin()
    course._look()
    console = Console(width=100, height=30, record=True, file=io.StringIO())
    console.print(course._screen())
    assert "peer-3 fell silent" in console.export_text()
    assert "round" in text_of(console)


def test_process_left_behind_fails_the_demo(swarm: ScriptedSwarm, tmp_path: Path) -> None:
    swarm.left = ("42 p2pd",)
    options = DemoOptions(rounds=8, json_file=tmp_path / "out.json", keep=tmp_path / "kept")
    with pytest.raises(SkerryError, match="SK-DEMO-001: process left behind: 42 p2pd") as caught:
        run_demo(options, quiet())
    assert caught.value.exit_code == 1
    assert '"left_behind": [\n    "42 p2pd"' in (tmp_path / "out.json").read_text()


def test_daemon_that_dies_by_itself_ends_the_demo(swarm: ScriptedSwarm, tmp_path: Path) -> None:
    course = DemoCourse(swarm, quiet(), options=DemoOptions(rounds=8))  # type: ignore[arg-type]
    course.begin()
    swarm.daemons[0].ended = True
    with pytest.raises(DaemonError, match="peer-1 ended"):
        course.train()


def test_standstill_names_whom_it_waits_for(
    swarm: ScriptedSwarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_course, "PATIENCE_SECONDS", 0.0)
    answer = status("peer-1", 2, 30, 8)
    answer.run.round.phase = "collecting"
    answer.run.round.waiting_for.append("peer-2")
    course = DemoCourse(swarm, quiet(), options=DemoOptions(rounds=8))  # type: ignore[arg-type]
    course.begin()
    monkeypatch.setattr(swarm.daemons[0].client, "status", lambda deadline=0.0: answer)
    with pytest.raises(SkerryError, match="round 2, collecting for 0 s, waiting for peer-2"):
        course.train()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_stops_everything(
    swarm: ScriptedSwarm,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    monkeypatch.setattr(demo_course.tempfile, "mkdtemp", folder_maker(tmp_path / "homes"))

    def interrupted(token: str) -> pb.RunReply:
        os.kill(os.getpid(), number)
        time.sleep(10)  # never passes: the signal arrives before
        raise AssertionError

    monkeypatch.setattr(ScriptedClient, "join", lambda self, token: interrupted(token))
    assert run_demo(DemoOptions(), quiet()) == INTERRUPTED
    assert swarm.closed
    assert not (tmp_path / "homes").exists()


def folder_maker(folder: Path) -> Callable[..., str]:
    def make(prefix: str) -> str:
        folder.mkdir()
        return str(folder)

    return make


def test_temporary_homes_go_with_success_and_stay_with_failure(
    swarm: ScriptedSwarm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo_course.tempfile, "mkdtemp", folder_maker(tmp_path / "homes"))
    assert run_demo(DemoOptions(rounds=8), quiet()) == 0
    assert not (tmp_path / "homes").exists()
    swarm.daemons.clear()
    swarm.world, swarm.left = World(rounds=8), ("42 p2pd",)
    with pytest.raises(SkerryError):
        run_demo(DemoOptions(rounds=8), quiet())
    assert (tmp_path / "homes").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (DemoOptions(peers=1), "--peers 1"),
        (DemoOptions(rounds=5), "--rounds 5"),
        (DemoOptions(json_file=Path("/nowhere/at/all/out.json")), "no such folder"),
    ],
)
def test_senseless_options_are_refused_before_anything_starts(
    swarm: ScriptedSwarm, options: DemoOptions, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        run_demo(options, quiet())
    assert swarm.daemons == []


def test_folder_of_an_earlier_demo_is_refused(swarm: ScriptedSwarm, tmp_path: Path) -> None:
    (tmp_path / "peer-1").mkdir()
    with pytest.raises(ConfigError, match="earlier demo"):
        run_demo(DemoOptions(keep=tmp_path), quiet())
