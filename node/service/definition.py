"""What a service manager is told about the daemon: the text of a systemd unit or a launchd plist.

Pure functions of the service; who writes the files is ``systemd``'s and ``launchd``'s business.
"""

import plistlib
import sys
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from skerry.node.home import Home

STOP_SECONDS = 20
"""After this the manager kills what is left; the daemon needs at most half of it."""
_UNIT = """\
# Written by skerry daemon --install, removed by skerry daemon --uninstall.
[Unit]
Description=skerry node in {home}
# Whatever ends it, it is started again, however often.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=5
# A wrong setting (2) or a home in use (8) does not get better by trying again.
RestartPreventExitStatus=2 8
# A first start reads torch from disk.
TimeoutStartSec=180
TimeoutStopSec={stop}
WatchdogSec=60
# The daemon ends its processes itself; what is left is killed with it.
KillMode=mixed
# A compute process that ran out of memory is restarted and healed by the daemon.
OOMPolicy=continue
UMask=0077
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""


@dataclass(frozen=True, slots=True)
class Service:
    """One daemon that is to run without a terminal."""

    name: str
    """Letters, digits and dashes; unique among the user's services."""
    home: Path
    command: tuple[str, ...]
    """Absolute program and its arguments."""
    log: Path
    """Where the output goes if the manager keeps none itself."""


def service_of(home: Home, arguments: list[str]) -> Service:
    """Return the service of a home; ``arguments`` are flags of ``skerry daemon``."""
    digest = blake2b(str(home.path).encode(), digest_size=4).hexdigest()
    name = "skerry" if home.path == Home.resolve(None).path else f"skerry-{digest}"
    # -P: a file called like a module in some folder must not be imported.
    program = (sys.executable, "-P", "-m", "skerry.node.cli.main", "daemon")
    return Service(name, home.path, (*program, f"--home={home.path}", *arguments), home.log_file)


def systemd_unit(service: Service) -> str:
    """Return the unit file of a service."""
    command = " ".join(map(_systemd_word, service.command))
    home = " ".join(str(service.home).replace("%", "%%").split())
    return _UNIT.format(home=home, command=command, stop=STOP_SECONDS)


def launchd_plist(service: Service) -> bytes:
    """Return the property list of a service: the same behaviour in launchd's words."""
    return plistlib.dumps(
        {
            "Label": service.name,
            "ProgramArguments": list(service.command),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 10,
            "ExitTimeOut": STOP_SECONDS,
            "ProcessType": "Background",
            "Umask": 0o077,
            "StandardOutPath": str(service.log),
            "StandardErrorPath": str(service.log),
        }
    )


def _systemd_word(word: str) -> str:
    """Quote one argument so that systemd passes it on unchanged (systemd.service(5))."""
    special = {"\\": r"\\", '"': r"\"", "\n": r"\n", "%": "%%", "$": "$$"}
    return f'"{"".join(special.get(character, character) for character in word)}"'
