"""The user guide as data: its blocks, and a story that runs them as its readers would.

A block of docs/guide/ says behind its language how it is tried:

    on=NAME       on the machine of that name, a folder that is HOME; several names by commas
    on=any        needs no daemon: tried in every run of the tests
    until=ctrl-c  shows something until it is left
    wait=run      first waits until the node trains; wait=alive: until it sees two peers;
                  wait=removed: until its log says that one was removed
    file=PATH     of TOML: is written there; below HOME
    untried=WHY   not tried by tests: needs what a test has not

A block of plain text right behind one of commands is what they print; "…" stands for anything.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Self

import psutil

from skerry.node.control_client import ControlClient
from skerry.node.home import Home
from skerry.protocol.errors import SkerryError

GUIDE = Path(__file__).parents[1] / "docs" / "guide"
PAGES = sorted(page.name for page in GUIDE.glob("*.md"))
WHY_UNTRIED = {"account", "demo", "docker", "install", "nat", "ssh", "systemd", "tensorboard"}
PATIENCE_S = 600.0
"""For one block; a daemon starts in seconds, on a busy machine in a minute."""
_FENCED = re.compile(r"^( *)```(\w+) ?([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_TOKEN = re.compile(r"\bskerry1[\w-]{50,}")
_SMALLER = {"d_model = 256": "d_model = 32", "layers = 6": "layers = 1", "context = 256": ""}
"""What is trained here need not be worth it."""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    marks: dict[str, str]
    text: str
    printed: str | None
    """What the page says that the commands print."""

    @property
    def machines(self) -> list[str]:
        return self.marks["on"].split(",") if "on" in self.marks else []

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page, in order."""
    text = (GUIDE / page).read_text(encoding="utf-8")
    found = list(_FENCED.finditer(text))
    blocks = []
    for fence, after in zip_longest(found, found[1:]):
        printed = None
        if after and after[2] == "text" and not text[fence.end() : after.start()].strip():
            printed = textwrap.dedent(after[4])
        marks = dict(mark.split("=", 1) for mark in fence[3].split())
        line = text.count("\n", 0, fence.start()) + 1
        body = textwrap.dedent(fence[4])
        blocks.append(Block(page, line, fence[2], marks, body, printed))
    return blocks


def free_port() -> int:
    """Return a TCP port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class Machine:
    """What stands for one machine: a folder that is HOME, and ports of its own."""

    folder: Path
    port: int = field(default_factory=free_port)
    page_port: int = field(default_factory=free_port)

    @property
    def home(self) -> Home:
        return Home(self.folder / ".local" / "share" / "skerry")

    @property
    def environment(self) -> dict[str, str]:
        """The variables of its shell: the user's, without any of skerry's own."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SKERRY_", "XDG_"))}
        return kept | {
            "HOME": str(self.folder),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "SKERRY_LISTEN__HOST": "127.0.0.1",
            "SKERRY_LISTEN__PORT": str(self.port),
            "SKERRY_PAGE__PORT": str(self.page_port),
            "SKERRY_COMPUTE__THREADS": "1",
            "COLUMNS": "200",
        }


class Story:
    """Runs the blocks of one page; in the end, no daemon of it is left."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="guide-"))  # short: sockets lie below it
        self._machines: dict[str, Machine] = {}
        self._token = ""
        self._first: Machine | None = None
        """Whose token it is."""

    def __enter__(self) -> Self:
        corpus = self._folder / "srv"
        corpus.mkdir()
        line = '{"text": "What is written here is read again and again, number %d."}\n'
        (corpus / "a.jsonl").write_text("".join(line % number for number in range(500)))
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self._machines.values():
            with contextlib.suppress(SkerryError), ControlClient(machine.home.control_socket) as c:
                c.stop()
        _, alive = psutil.wait_procs(self._processes(), timeout=PATIENCE_S)
        for process in alive:
            process.kill()
        assert not alive, f"left behind: {alive}"
        shutil.rmtree(self._folder)

    def try_block(self, block: Block) -> None:
        """Write the file of a block or run its commands, on each of its machines."""
        for name in block.machines:
            machine = self._machine(name)
            if block.language == "toml":
                self._write(machine, block)
            else:
                self._run(machine, block)

    def _machine(self, name: str) -> Machine:
        if name not in self._machines:
            folder = self._folder / name
            (folder / "skerry-text").mkdir(parents=True)
            for number in range(20):
                text = f"A note of {name}, number {number}. " * 40
                (folder / "skerry-text" / f"{number}.txt").write_text(text)
            self._machines[name] = Machine(folder)
        return self._machines[name]

    def _write(self, machine: Machine, block: Block) -> None:
        text = self._as_here(block.text, machine)
        for large, small in _SMALLER.items():
            text = text.replace(large, small)
        path = machine.folder / block.marks["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _run(self, machine: Machine, block: Block) -> None:
        if "wait" in block.marks:
            wait_for(machine, block.marks["wait"])
        command = ["bash", "-euo", "pipefail", "-c", self._as_here(block.text, machine)]
        with tempfile.TemporaryFile() as output:
            shell = subprocess.Popen(
                command,
                cwd=machine.folder,
                env=machine.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            if "until" in block.marks:
                wait_until(lambda: os.fstat(output.fileno()).st_size > 0, f"{block}: no output")
                os.killpg(shell.pid, signal.SIGINT)
            code = shell.wait(PATIENCE_S)
            output.seek(0)
            printed = output.read().decode()
        assert code == (130 if "until" in block.marks else 0), f"{block}: {code}\n{printed}"
        if block.printed is not None:
            expected = self._as_here(block.printed, machine)
            assert pattern_of(expected).fullmatch(printed.strip()), f"{block}:\n{printed}"
        if tokens := _TOKEN.findall(printed):
            self._token, self._first = tokens[-1], machine

    def _as_here(self, text: str, machine: Machine) -> str:
        """Return a text of the guide with this machine's ports, folders and token."""
        first = self._first or machine
        text = text.replace("192.0.2.10/4001", f"127.0.0.1/{first.port}")
        text = text.replace("4001", str(machine.port)).replace("8787", str(machine.page_port))
        text = text.replace("/srv/skerry/text", str(self._folder / "srv"))
        text = re.sub(r"\bTOKEN\b", self._token or "TOKEN", text)
        return re.sub(r"\bPEER\b", self._other(machine), text) if "PEER" in text else text

    def _other(self, machine: Machine) -> str:
        """Return the peer id of another machine of this story."""
        [other, *_] = [each for each in self._machines.values() if each is not machine]
        with ControlClient(other.home.control_socket) as client:
            return client.status().peer_id

    def _processes(self) -> list[psutil.Process]:
        """Return what runs with a folder of this story on its command line."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if f"{self._folder}/" in " ".join(process.cmdline()):
                    found.append(process)
        return found


def pattern_of(printed: str) -> re.Pattern[str]:
    """Return what matches an output of the guide, "…" being anything."""
    return re.compile(re.escape(printed.strip()).replace("…", ".*"), re.DOTALL)


def wait_for(machine: Machine, what: str) -> None:
    """Wait until a node is where a block needs it."""

    def ready() -> bool:
        if what == "removed":
            return '"event": "removed"' in machine.home.events_file.read_text()
        with ControlClient(machine.home.control_socket) as client:
            run = client.status(deadline=PATIENCE_S).run
        alive = sum(peer.alive for peer in run.peers)
        return run.round.phase == "training" and (what != "alive" or alive >= 2)

    wait_until(ready, f"{machine.folder.name} does not get there: {what}")


def wait_until(true: Callable[[], bool], else_say: str) -> None:
    """Ask again and again; fails when the patience ends."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, else_say
        time.sleep(0.1)
