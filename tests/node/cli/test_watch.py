"""The loop behind --watch, on a real terminal and in a pipe."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from moments import OTHER, START, line, rounds

from skerry.node.cli import watch as watch_module
from skerry.node.cli.options import Format
from skerry.node.cli.watch import watch
from skerry.node.home import Home
from skerry.protocol.errors import DaemonError

ENTER, LEAVE, SHOW_CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", screen: int) -> None:
        self.process, self._screen, self.text = process, screen, ""

    def read_until(self, part: str) -> None:
        """Read until the text holds ``part``; the process's end ends that too."""
        while part not in self.text and (more := self._read()):
            self.text += more
        assert part in self.text

    def end(self) -> int:
        """Read what is left and return the exit code."""
        while more := self._read():
            self.text += more
        return self.process.wait()

    def _read(self) -> str:
        try:
            return os.read(self._screen, 65536).decode(errors="replace")
        except OSError:  # how Linux tells that nobody has the other side any more
            return ""


@contextmanager
def terminal(home: Home, *, rows: int = 40, columns: int = 90, **env: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    command = [sys.executable, "-m", "skerry.node.cli.main", "status", "--watch"]
    hidden = ("NO_COLOR", "COLUMNS", "LINES")
    clean = {name: value for name, value in os.environ.items() if name not in hidden}
    process = subprocess.Popen(
        [*command, f"--home={home.path}"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**clean, "TERM": "xterm-256color", **env},
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_terminal_is_given_back(home, control, number, code) -> None:
    control.in_run().peers.add(peer_id=OTHER, alive=True)
    control.lines = [*rounds(3), line("peer-down", START, peer=OTHER)]
    with terminal(home) as shown:
        shown.read_until("events")
        assert ENTER in shown.text
        assert LEAVE not in shown.text
        shown.process.send_signal(number)
        assert shown.end() == code
    after = shown.text.split(LEAVE)[-1]
    assert SHOW_CURSOR in shown.text
    assert "2NASuq fell silent" in after  # what was seen last stays
    assert "events" not in after
    assert "Traceback" not in shown.text


def test_the_view_ends_with_the_run(home, control) -> None:
    control.in_run(finished=True)
    with terminal(home) as shown:
        assert shown.end() == 0
    assert "skerry export DIR writes the model" in shown.text.split(LEAVE)[-1]
    assert "\x1b[32m" in shown.text


def test_no_color_is_honoured(home, control) -> None:
    control.in_run(finished=True)
    with terminal(home, NO_COLOR="1") as shown:
        shown.end()
    assert ENTER in shown.text
    assert "\x1b[32m" not in shown.text


def test_a_terminal_without_unicode_gets_what_it_can_show(home, control) -> None:
    control.in_run(finished=True)
    with terminal(home, PYTHONIOENCODING="ascii") as shown:
        assert shown.end() == 0
    assert shown.text.isascii()
    assert " skerry ? first ? run abababab" in shown.text


def test_a_dumb_terminal_gets_lines(home, control) -> None:
    control.in_run(finished=True)
    with terminal(home, TERM="dumb") as shown:
        assert shown.end() == 0
    assert "\x1b" not in shown.text
    assert "finished" in shown.text


def test_in_a_pipe_a_daemon_that_goes_is_told_once(home, control, monkeypatch, capsys) -> None:
    import grpc

    control.in_run()
    states = iter([True, True, False])

    def advance(_: float) -> None:
        gone = next(states)
        control.refusal = (grpc.StatusCode.UNAVAILABLE, "gone") if gone else None
        control.status.run.finished = not gone

    monkeypatch.setattr(watch_module.time, "sleep", advance)
    watch(home, Format.TEXT)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "the daemon does not answer"
    assert "finished" in lines[2]
    assert len(lines) == 3


def test_beside_json_it_is_told_on_stderr(home, control, monkeypatch, capsys) -> None:
    import grpc

    control.in_run()
    states = iter([True, False])

    def advance(_: float) -> None:
        gone = next(states)
        control.refusal = (grpc.StatusCode.UNAVAILABLE, "gone") if gone else None
        control.status.run.finished = not gone

    monkeypatch.setattr(watch_module.time, "sleep", advance)
    watch(home, Format.JSON)
    printed = capsys.readouterr()
    assert [text.startswith("{") for text in printed.out.splitlines()] == [True, True]
    assert printed.err == "the daemon does not answer\n"


def test_nobody_to_watch_is_an_error_and_so_is_one_who_hangs(home, control, monkeypatch) -> None:
    from skerry.node.cli import watched

    with pytest.raises(DaemonError, match="SK-DMN-001: nothing listens"):
        watch(Home(home.path / "other"))
    monkeypatch.setattr(watched, "LOOK_SECONDS", 0.2)
    control.hang.clear()
    with pytest.raises(DaemonError, match=r"SK-DMN-001: .* did not answer in time"):
        watch(home)
