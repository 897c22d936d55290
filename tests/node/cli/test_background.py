"""Starting a daemon in the background: it answers, or says why not, and nothing is left over."""

from pathlib import Path

import pytest

from skerry.node.cli import background
from skerry.node.cli.background import answers, daemon_for, start_daemon, stop_daemon
from skerry.node.cli.options import DaemonFlags, LogLevel
from skerry.node.control_client import ControlClient
from skerry.node.home import Home
from skerry.protocol.errors import ConfigError, DaemonError, NetworkError

NO_FLAGS = DaemonFlags()


def test_flags_become_arguments_and_settings() -> None:
    flags = DaemonFlags(host="::1", port=0, threads=2, log_level=LogLevel.DEBUG)
    assert flags.arguments() == ["--host=::1", "--port=0", "--threads=2", "--log-level=debug"]
    assert flags.settings() == {
        "listen": {"host": "::1", "port": 0},
        "compute": {"threads": 2},
        "log": {"level": "debug"},
    }
    assert NO_FLAGS.arguments() == []
    assert NO_FLAGS.settings() == {}


def test_started_daemon_answers_until_it_is_stopped(home, fake_command) -> None:
    fake_command("serve")
    assert not answers(home)
    child = start_daemon(home, NO_FLAGS)
    assert answers(home)
    with ControlClient(home.control_socket) as client:
        assert client.status().pid == child.pid
        stop_daemon(home, client)
    assert not home.in_use
    assert child.wait() == 0


def test_error_of_a_daemon_that_ends_is_passed_on(home, fake_command) -> None:
    home.create()
    home.log_file.write_text("error SK-KEY-001: of an earlier start\n")
    fake_command(
        "fail", "error SK-CFG-002: first", "error SK-NET-002: port 4001 is in use", "fix: choose"
    )
    with pytest.raises(NetworkError, match=r"SK-NET-002: port 4001 is in use$"):
        start_daemon(home, NO_FLAGS)
    assert not home.in_use


def test_daemon_that_ends_without_a_code_points_to_its_last_line(home, fake_command) -> None:
    home.create()
    home.log_file.write_text("error SK-KEY-001: of an earlier start\n")
    fake_command("fail", "Segmentation fault")
    with pytest.raises(DaemonError, match=r"SK-DMN-005: .* code 4: Segmentation fault"):
        start_daemon(home, NO_FLAGS)


def test_daemon_that_never_answers_is_ended(home, fake_command, monkeypatch) -> None:
    fake_command("silent")
    monkeypatch.setattr(background, "START_SECONDS", 0.3)
    with pytest.raises(DaemonError, match=r"SK-DMN-005: no answer .*daemon\.log"):
        start_daemon(home, NO_FLAGS)  # the leak check sees whether it has ended


def test_interrupted_start_ends_the_daemon(home, fake_command, monkeypatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    fake_command("silent")
    monkeypatch.setattr(background, "_wait_until_ready", interrupt)
    with pytest.raises(KeyboardInterrupt):
        start_daemon(home, NO_FLAGS)


def test_running_daemon_is_used_and_kept(home, control) -> None:
    with pytest.raises(ConfigError), daemon_for(home, NO_FLAGS) as client:
        assert client.status().peer_id == control.status.peer_id
        raise ConfigError("SK-CFG-001", "the command failed")
    assert not control.ended.is_set()


def test_flags_that_come_too_late_are_warned_about(home, control, capsys) -> None:
    with daemon_for(home, DaemonFlags(port=4001)):
        pass
    assert "warning: a daemon already runs, so --port=4001 has no effect" in capsys.readouterr().err


def test_daemon_started_for_a_command_that_fails_is_stopped(home, fake_command, monkeypatch):
    started = []
    monkeypatch.setattr(
        background, "start_daemon", lambda *given: started.append(start_daemon(*given))
    )
    fake_command("serve")
    with pytest.raises(ConfigError), daemon_for(home, NO_FLAGS):
        assert home.in_use
        raise ConfigError("SK-CFG-001", "the command failed")
    assert not home.in_use
    assert started[0].wait() == 0


def test_daemon_started_for_a_command_that_succeeds_goes_on(home, fake_command, monkeypatch):
    started = []
    monkeypatch.setattr(
        background, "start_daemon", lambda *given: started.append(start_daemon(*given))
    )
    fake_command("serve")
    with daemon_for(home, NO_FLAGS):
        pass
    assert answers(home)
    with ControlClient(home.control_socket) as client:
        stop_daemon(home, client)
    assert started[0].wait() == 0


def test_hung_daemon_is_not_taken_for_none(home) -> None:
    with home.lock(), pytest.raises(DaemonError, match="SK-DMN-001"):
        answers(home)


def test_stop_waits_for_the_home_and_says_so_when_it_is_not_freed(home, control, monkeypatch):
    monkeypatch.setattr(background, "STOP_SECONDS", 0.2)
    with (
        ControlClient(home.control_socket) as client,
        pytest.raises(DaemonError, match=r"SK-DMN-006: .*still runs"),
    ):
        stop_daemon(home, client)  # the pretended daemon of this process keeps its lock


def test_daemon_is_started_with_the_same_home_and_flags_and_no_foreign_modules() -> None:
    command = background._command(Home(Path("/h")), DaemonFlags(port=7))
    assert command[1:] == [
        "-P",
        "-m",
        "skerry.node.cli.main",
        "daemon",
        "--home=/h",
        "--port=7",
    ]
