"""The daemon as a service of systemd's user manager (Linux)."""

import getpass
import os
from pathlib import Path

from skerry.node.home import Home
from skerry.node.service.definition import Service, systemd_unit
from skerry.node.service.manager import ask, check_home_free, put_file
from skerry.protocol.errors import DaemonError

_BOOTED = Path("/run/systemd/system")
"""Exists where systemd is the init system: sd_booted(3)."""


class Systemd:
    """The user manager of whoever runs this."""

    def __init__(self, units: Path | None = None, booted: Path = _BOOTED) -> None:
        """Keep unit files in ``units``; default: where this user's own ones lie."""
        self._units = units or _config_home() / "systemd" / "user"
        self._booted = booted

    def install(self, home: Home, service: Service) -> list[str]:
        """Write, enable and start the unit; return what was done."""
        self._check()
        unit = f"{service.name}.service"
        check_home_free(home, self._active(unit))
        changed = put_file(self._units / unit, systemd_unit(service).encode())
        ask("systemctl", "--user", "daemon-reload")
        ask("systemctl", "--user", "enable", unit)
        ask("systemctl", "--user", "restart" if changed else "start", unit)
        return [
            f"{'wrote' if changed else 'unchanged'}: {self._units / unit}",
            f"{unit} runs, and starts with your session; its log: journalctl --user -u {unit}",
            "to have it run from the machine's start and after you log out:",
            f"  loginctl enable-linger {getpass.getuser()}",
        ]

    def uninstall(self, service: Service) -> list[str]:
        """Stop, disable and remove the unit; return what was done."""
        self._check()
        unit = f"{service.name}.service"
        file = self._units / unit
        if not file.exists():
            return [f"there is no {file}: nothing to do"]
        ask("systemctl", "--user", "disable", "--now", unit)
        file.unlink(missing_ok=True)
        ask("systemctl", "--user", "daemon-reload")
        return [f"stopped {unit} and removed {file}; {service.home} is kept"]

    def _check(self) -> None:
        """Raises: DaemonError("SK-DMN-007") unless this user's manager answers."""
        if not self._booted.is_dir():
            raise DaemonError("SK-DMN-007", "systemd does not run this machine")
        ask("systemctl", "--user", "show-environment", code="SK-DMN-007")

    def _active(self, unit: str) -> bool:
        try:
            ask("systemctl", "--user", "is-active", unit)
        except DaemonError:
            return False
        return True


def _config_home() -> Path:
    named = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(named) if os.path.isabs(named) else Path.home() / ".config"
