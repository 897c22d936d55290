"""The systemd user service: what is written and asked, again and again, and what is refused."""

import getpass

import pytest

from skerry.node.service.definition import service_of, systemd_unit
from skerry.node.service.systemd import Systemd
from skerry.protocol.errors import DaemonError, StateError


@pytest.fixture
def systemctl(recorded):
    return recorded("systemctl")


@pytest.fixture
def manager(tmp_path) -> Systemd:
    return Systemd(tmp_path / "units", booted=tmp_path)


@pytest.fixture
def service(home):
    return service_of(home, ["--port=4001"])


@pytest.fixture
def file(tmp_path, service):
    return tmp_path / "units" / f"{service.name}.service"


def test_install_writes_enables_and_starts(manager, home, service, file, systemctl) -> None:
    systemctl.fails("--user is-active")
    lines = manager.install(home, service)
    assert file.read_text() == systemd_unit(service)
    unit = file.name
    assert systemctl.asked() == [
        "--user show-environment",
        f"--user is-active {unit}",
        "--user daemon-reload",
        f"--user enable {unit}",
        f"--user restart {unit}",
    ]
    assert lines[0] == f"wrote: {file}"
    assert lines[-1] == f"  loginctl enable-linger {getpass.getuser()}"


def test_again_changes_nothing_and_restarts_nothing(
    manager, home, service, file, systemctl
) -> None:
    manager.install(home, service)
    systemctl.asked()
    assert manager.install(home, service)[0] == f"unchanged: {file}"
    assert f"--user start {file.name}" in systemctl.asked()


def test_other_flags_are_taken_over(manager, home, service, file, systemctl) -> None:
    manager.install(home, service)
    systemctl.asked()
    manager.install(home, service_of(home, ["--port=4002"]))
    assert "--port=4002" in file.read_text()
    assert f"--user restart {file.name}" in systemctl.asked()


def test_uninstall_removes_it_and_again_does_nothing(
    manager, home, service, file, systemctl
) -> None:
    manager.install(home, service)
    systemctl.asked()
    assert manager.uninstall(service)[0].startswith(f"stopped {file.name}")
    assert not file.exists()
    assert systemctl.asked()[1:] == [f"--user disable --now {file.name}", "--user daemon-reload"]
    assert "nothing to do" in manager.uninstall(service)[0]
    assert systemctl.asked() == ["--user show-environment"]


def test_home_of_another_daemon_is_refused_before_anything_is_written(
    manager, home, service, file, systemctl
) -> None:
    systemctl.fails("--user is-active")
    with home.lock(), pytest.raises(DaemonError, match=r"SK-DMN-002.*skerry stop"):
        manager.install(home, service)
    assert not file.exists()


def test_home_of_the_service_itself_is_not(manager, home, service, file, systemctl) -> None:
    with home.lock():
        manager.install(home, service)
    assert file.exists()


def test_service_that_does_not_start_is_an_error_with_what_was_said(
    manager, home, service, systemctl
) -> None:
    systemctl.fails("--user restart")
    with pytest.raises(DaemonError, match=r"SK-DMN-008: systemctl --user restart .*: Failed: "):
        manager.install(home, service)


class TestNoManager:
    def test_another_init_system(self, tmp_path, home, service, systemctl) -> None:
        manager = Systemd(tmp_path / "units", booted=tmp_path / "no")
        for work in (lambda: manager.install(home, service), lambda: manager.uninstall(service)):
            with pytest.raises(DaemonError, match="SK-DMN-007: systemd does not run"):
                work()
        assert systemctl.asked() == []

    def test_no_command(self, manager, home, service, monkeypatch) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(DaemonError, match="SK-DMN-007: there is no systemctl"):
            manager.install(home, service)

    def test_no_session_of_this_user(self, manager, home, service, systemctl) -> None:
        systemctl.fails("--user show-environment")
        with pytest.raises(DaemonError, match=r"SK-DMN-007: .*Failed"):
            manager.install(home, service)


def test_folder_that_cannot_be_made_is_coded(tmp_path, home, service, systemctl) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="SK-DSK-003"):
        Systemd(tmp_path / "file" / "units", booted=tmp_path).install(home, service)
