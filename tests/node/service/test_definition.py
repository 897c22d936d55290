"""What a service manager is told, compared with files that a person has read."""

import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.node.home import Home
from skerry.node.service.definition import Service, launchd_plist, service_of, systemd_unit

GOLDEN = Path(__file__).with_name("golden")
SERVICE = Service(
    name="skerry",
    home=Path("/home/ada/.local/share/skerry"),
    command=(
        "/opt/skerry/bin/python",
        "-P",
        "-m",
        "skerry.node.cli.main",
        "daemon",
        "--home=/home/ada/.local/share/skerry",
        "--port=4001",
    ),
    log=Path("/home/ada/.local/share/skerry/daemon.log"),
)
STRANGE = """/home/a b/100% "$HOME" \\n 'x' \\\n;"""


def test_systemd_unit_is_the_one_that_was_read() -> None:
    assert systemd_unit(SERVICE) == (GOLDEN / "skerry.service").read_text()


def test_launchd_plist_is_the_one_that_was_read() -> None:
    assert launchd_plist(SERVICE) == (GOLDEN / "skerry.plist").read_bytes()


def test_launchd_passes_strange_paths_on() -> None:
    service = Service("s", Path(STRANGE), ("/bin/x", STRANGE), Path(STRANGE))
    assert plistlib.loads(launchd_plist(service))["ProgramArguments"] == ["/bin/x", STRANGE]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
@pytest.mark.parametrize("home", ["/home/ada/skerry", STRANGE])
def test_systemd_finds_nothing_wrong(home, tmp_path) -> None:
    service = Service("s", Path(home), (sys.executable, f"--home={home}"), Path(home))
    unit = tmp_path / "skerry-test.service"
    unit.write_text(systemd_unit(service))
    command = ["systemd-analyze", "--user", "verify", str(unit)]
    env = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert (done.returncode, done.stderr) == (0, "")


class TestServiceOf:
    def test_default_home_has_the_plain_name(self, home, monkeypatch) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", "/data")
        service = service_of(Home(Path("/data/skerry")), ["--port=4001"])
        assert service.name == "skerry"
        assert service.command[0] == sys.executable
        assert service.command[-3:] == ("daemon", "--home=/data/skerry", "--port=4001")

    def test_other_homes_have_names_of_their_own(self, home) -> None:
        names = {service_of(Home(Path(path)), []).name for path in ("/a/skerry", "/b/skerry")}
        assert len(names) == 2
        assert all(name.startswith("skerry-") and name.isascii() for name in names)
