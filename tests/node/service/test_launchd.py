"""The launch agent: what is written and asked. launchd itself runs on macOS alone."""

import os

import pytest

from skerry.node.service.definition import launchd_plist, service_of
from skerry.node.service.launchd import Launchd
from skerry.protocol.errors import DaemonError

DOMAIN = f"gui/{os.getuid()}"


@pytest.fixture
def launchctl(recorded):
    program = recorded("launchctl")
    program.fails(f"print {DOMAIN}/{NAME}")
    return program


NAME = "skerry"


@pytest.fixture
def service(home, monkeypatch):
    monkeypatch.setenv("SKERRY_HOME", str(home.path))
    return service_of(home, [])


@pytest.fixture
def manager(tmp_path) -> Launchd:
    return Launchd(tmp_path / "agents")


def test_install_writes_and_loads_and_changes_only_what_differs(
    manager, home, service, launchctl, tmp_path
) -> None:
    file = tmp_path / "agents" / f"{NAME}.plist"
    assert manager.install(home, service)[0] == f"wrote: {file}"
    assert file.read_bytes() == launchd_plist(service)
    look = f"print {DOMAIN}/{NAME}"
    assert launchctl.asked() == [look, "version", f"bootstrap {DOMAIN} {file}"]
    launchctl.fails()  # now it is loaded
    assert manager.install(home, service)[0] == f"unchanged: {file}"
    assert launchctl.asked() == [look]
    manager.install(home, service_of(home, ["--port=4001"]))
    assert launchctl.asked() == [look, f"bootout {DOMAIN}/{NAME}", f"bootstrap {DOMAIN} {file}"]
    assert manager.uninstall(service)[0].startswith(f"stopped {NAME}")
    assert not file.exists()
    assert launchctl.asked() == [look, f"bootout {DOMAIN}/{NAME}"]


def test_nothing_to_uninstall_is_said(manager, service, launchctl) -> None:
    assert "nothing to do" in manager.uninstall(service)[0]


def test_home_in_use_is_refused(manager, home, service, launchctl) -> None:
    with home.lock(), pytest.raises(DaemonError, match="SK-DMN-002"):
        manager.install(home, service)


def test_no_launchd_is_refused(manager, home, service, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DaemonError, match="SK-DMN-007: there is no launchctl"):
        manager.install(home, service)
