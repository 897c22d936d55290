"""The home folder: where it is, what is in it, and that one daemon at a time has it."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.node.home import MAX_SOCKET_PATH_BYTES, Home
from skerry.protocol.errors import DaemonError, StateError
from skerry.protocol.ids import RunId

HOLD_LOCK = """
import sys
from pathlib import Path
from skerry.node.home import Home
with Home(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("flag", "environ", "expected"),
    [
        (Path("/flag"), {"SKERRY_HOME": "/env", "XDG_DATA_HOME": "/xdg"}, "/flag"),
        (None, {"SKERRY_HOME": "/env", "XDG_DATA_HOME": "/xdg"}, "/env"),
        (None, {"SKERRY_HOME": "", "XDG_DATA_HOME": "/xdg"}, "/xdg/skerry"),
        (None, {"XDG_DATA_HOME": "relative"}, str(Path.home() / ".local/share/skerry")),
        (None, {}, str(Path.home() / ".local/share/skerry")),
    ],
)
def test_home_is_chosen_by_flag_then_environment_then_xdg(flag, environ, expected) -> None:
    assert str(Home.resolve(flag, environ).path) == expected


def test_relative_path_stays_the_same_when_the_folder_changes(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = Home(Path("here"))
    monkeypatch.chdir("/")
    assert home.path == tmp_path / "here"


def test_files_lie_in_the_home_and_nothing_is_made_by_asking(home) -> None:
    names = [home.identity_file, home.config_file, home.lock_file, home.control_socket]
    names += [home.log_file, home.events_file, home.compute_log, home.runs]
    assert {path.parent for path in names} == {home.path}
    assert len(set(names)) == len(names)
    assert not home.path.exists()


def test_run_has_its_own_folder(home) -> None:
    run = home.run(RunId("ab" * 32))
    assert run.folder == home.runs / ("ab" * 32)
    assert len({run.manifest_file, run.chain_file, run.blobs, run.compute}) == 4


@pytest.mark.parametrize("bad", ["", "..", "../" + "a" * 61, "AB" * 32])
def test_only_a_run_id_names_a_run_folder(home, bad) -> None:
    with pytest.raises(ValueError, match="not a run id"):
        home.run(RunId(bad))


def test_home_is_made_for_its_owner_only(home) -> None:
    home.create()
    home.create()
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700


def test_home_below_a_file_is_a_coded_error(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="SK-DSK-003"):
        Home(tmp_path / "file" / "home").create()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with room for a socket's name: pytest's own are too long."""
    with tempfile.TemporaryDirectory(prefix="s") as name:
        yield Path(name)


class TestControlSocket:
    def test_is_in_the_home_up_to_the_limit(self) -> None:
        exact = Path("/" + "a" * (MAX_SOCKET_PATH_BYTES - len("//control.sock")))
        assert Home(exact).control_socket == exact / "control.sock"
        assert len(str(Home(exact).control_socket)) == MAX_SOCKET_PATH_BYTES

    def test_of_a_long_home_is_in_a_private_folder(self, short_folder, monkeypatch) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_folder))
        one, two = Home(Path("/" + "a" * 100)), Home(Path("/" + "b" * 100))
        assert one.control_socket == Home(one.path).control_socket
        assert one.control_socket != two.control_socket
        assert one.control_socket.parent == short_folder / "skerry"
        assert stat.S_IMODE((short_folder / "skerry").stat().st_mode) == 0o700

    def test_counts_bytes_not_characters(self, short_folder, monkeypatch) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_folder))
        assert Home(Path("/" + "ä" * 60)).control_socket.parent == short_folder / "skerry"

    def test_goes_to_the_temporary_folder_without_a_runtime_one(
        self, short_folder, monkeypatch
    ) -> None:
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        monkeypatch.setattr("tempfile.tempdir", str(short_folder))
        folder = Home(Path("/" + "a" * 100)).control_socket.parent
        assert folder == short_folder / f"skerry-{os.getuid()}"

    def test_refuses_a_folder_that_others_can_enter(self, short_folder, monkeypatch) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_folder))
        (short_folder / "skerry").mkdir()
        (short_folder / "skerry").chmod(0o777)
        with pytest.raises(StateError, match="SK-DSK-003"):
            _ = Home(Path("/" + "a" * 100)).control_socket

    def test_refuses_a_link_in_place_of_the_folder(self, short_folder, monkeypatch) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_folder))
        (short_folder / "elsewhere").mkdir(mode=0o700)
        (short_folder / "skerry").symlink_to(short_folder / "elsewhere")
        with pytest.raises(StateError, match="SK-DSK-003"):
            _ = Home(Path("/" + "a" * 100)).control_socket


class TestLock:
    def test_second_daemon_is_told_who_has_the_home(self, home) -> None:
        assert not home.in_use
        with home.lock():
            assert home.in_use
            taken = pytest.raises(DaemonError, match=rf"SK-DMN-002: .* {os.getpid()} uses")
            with taken, home.lock():
                pytest.fail("locked twice")
            assert home.lock_file.read_text() == f"{os.getpid()}\n"
        assert not home.in_use
        with home.lock():
            pass

    def test_shorter_pid_leaves_nothing_of_a_longer_one(self, home) -> None:
        home.create()
        home.lock_file.write_text("12345678901234567890\n")
        with home.lock():
            assert home.lock_file.read_text() == f"{os.getpid()}\n"

    def test_killed_daemon_leaves_no_lock(self, home) -> None:
        command = [sys.executable, "-c", HOLD_LOCK, str(home.path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None and child.stdout.readline() == b"locked\n"
            with pytest.raises(DaemonError, match=f"{child.pid} uses"), home.lock():
                pytest.fail("locked twice")
            child.send_signal(signal.SIGKILL)
        assert home.lock_file.read_text() == f"{child.pid}\n"
        with home.lock():
            assert home.in_use
