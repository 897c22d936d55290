"""The doctor: each check passes on a sound machine and names the fix on an unsound one."""

import socket
import sys

import pytest
from fake_daemon import FakeControl, serving

from skerry.node import doctor
from skerry.node.config import load_config
from skerry.node.doctor import Verdict, examine
from skerry.node.home import Home
from skerry.node.identity import load_or_create_identity
from skerry.proto import control_pb2 as pb


def verdicts(home: Home) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in examine(home)}


def test_checks_change_nothing(home) -> None:
    found = verdicts(home)
    assert found["python"] is found["config"] is found["key"] is found["home"] is Verdict.PASS
    assert found["port"] is found["daemon"] is Verdict.PASS
    assert not home.path.exists()


def test_whatever_does_not_pass_has_a_fix(home) -> None:
    home.create()
    home.config_file.write_text("nonsense")
    home.identity_file.write_text("nonsense")
    checks = examine(home)
    assert all(bool(check.fix) is (check.verdict is not Verdict.PASS) for check in checks)
    found = {check.name: check for check in checks}
    assert found["config"].verdict is found["key"].verdict is Verdict.FAIL
    assert "SK-CFG-003" in found["config"].detail


def test_old_python_fails(monkeypatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    assert doctor.check_python().verdict is Verdict.FAIL


def test_missing_packages_fail(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert doctor.check_torch().verdict is Verdict.FAIL
    assert doctor.check_p2pd().verdict is Verdict.FAIL


class TestP2pd:
    @pytest.fixture
    def binary(self, tmp_path, monkeypatch):
        """Where hivemind's p2pd would be."""
        (tmp_path / "hivemind_cli").mkdir()
        spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
        monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
        return tmp_path / "hivemind_cli" / "p2pd"

    def test_that_is_missing_fails(self, binary) -> None:
        assert "is missing" in doctor.check_p2pd().detail

    def test_for_another_machine_fails(self, binary) -> None:
        binary.write_bytes(b"\x7fELF nonsense")
        binary.chmod(0o755)
        assert "does not run" in doctor.check_p2pd().detail

    def test_that_ends_at_once_fails(self, binary) -> None:
        binary.write_text("#!/bin/sh\nexit 3\n")
        binary.chmod(0o755)
        assert doctor.check_p2pd().detail.endswith("ended with 3")

    def test_that_shows_its_options_passes(self, binary) -> None:
        binary.write_text("#!/bin/sh\necho '  -hostAddrs string' >&2\nexit 2\n")
        binary.chmod(0o755)
        assert doctor.check_p2pd().verdict is Verdict.PASS


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_port_in_use_fails(kind) -> None:
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            other.listen()
        port = other.getsockname()[1]
        check = doctor.check_port("127.0.0.1", port)
    assert check.verdict is Verdict.FAIL
    assert str(port) in check.detail
    assert doctor.check_port("127.0.0.1", port).verdict is Verdict.PASS


def test_foreign_address_fails() -> None:
    assert doctor.check_port("203.0.113.7", 0).verdict is Verdict.FAIL


def test_configured_port_is_the_one_that_is_tried(home) -> None:
    home.create()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        home.config_file.write_text(f'[listen]\nhost = "127.0.0.1"\nport = {port}\n')
        assert load_config(home.config_file).listen.port == port
        assert verdicts(home)["port"] is Verdict.FAIL


def test_key_of_others_fails(home) -> None:
    home.create()
    load_or_create_identity(home.identity_file)
    assert verdicts(home)["key"] is Verdict.PASS
    home.identity_file.chmod(0o644)
    assert verdicts(home)["key"] is Verdict.FAIL


def test_home_without_room_for_files_fails(home, monkeypatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert doctor.check_home(home).detail.endswith("Permission denied")


@pytest.mark.parametrize(
    ("free", "verdict"),
    [(10**8, Verdict.FAIL), (10**9, Verdict.WARN), (10**10, Verdict.PASS)],
)
def test_little_space_warns_and_less_fails(home, monkeypatch, free, verdict, tmp_path) -> None:
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert doctor.check_disk(home).verdict is verdict
    (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {free // 1024} kB\n")
    monkeypatch.setattr(doctor, "MEMORY_FILE", tmp_path / "meminfo")
    assert doctor.check_memory().verdict is verdict


@pytest.mark.parametrize(
    ("name", "verdict"), [("bbr", Verdict.PASS), ("bbr3", Verdict.PASS), ("cubic", Verdict.WARN)]
)
def test_bbr_is_advised(monkeypatch, tmp_path, name, verdict) -> None:
    (tmp_path / "control").write_text(f"{name}\n")
    monkeypatch.setattr(doctor, "CONGESTION_FILE", tmp_path / "control")
    check = doctor.check_congestion()
    assert check.verdict is verdict
    assert ("tcp_congestion_control=bbr" in check.fix) is (verdict is Verdict.WARN)


def test_what_the_system_does_not_tell_is_no_failure(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(doctor, "CONGESTION_FILE", tmp_path / "missing")
    monkeypatch.setattr(doctor, "MEMORY_FILE", tmp_path / "missing")
    assert doctor.check_congestion().verdict is doctor.check_memory().verdict is Verdict.PASS


@pytest.mark.parametrize("now", [0.0, 946_684_800.0, 5e9])
def test_clock_without_a_battery_fails(now) -> None:
    assert doctor.check_clock(now).verdict is Verdict.FAIL


def test_running_daemon_is_asked_and_keeps_its_port(home, control) -> None:
    found = {check.name: check for check in examine(home)}
    assert "answered in" in found["daemon"].detail
    assert "port" not in found


def test_reachability_is_told_with_what_to_do(home) -> None:
    assert "while no daemon runs" in doctor.check_reachability(home).detail
    control = FakeControl()
    with serving(home, control):
        assert doctor.check_reachability(home).verdict is Verdict.PASS
        control.status.reach.CopyFrom(pb.ReachStatus(summary="a wall", advice="Dig."))
        found = doctor.check_reachability(home)
    assert (found.verdict, found.detail, found.fix) == (
        Verdict.WARN,
        "a wall",
        "Dig.",
    )


def test_hung_daemon_fails(home) -> None:
    with home.lock():
        assert doctor.check_daemon(home).verdict is Verdict.FAIL
