"""The daemon as a launch agent of the user (macOS)."""

import os
from contextlib import suppress
from pathlib import Path

from skerry.node.home import Home
from skerry.node.service.definition import Service, launchd_plist
from skerry.node.service.manager import ask, check_home_free, put_file
from skerry.protocol.errors import DaemonError


class Launchd:
    """The launchd domain of whoever runs this."""

    def __init__(self, agents: Path | None = None) -> None:
        """Keep property lists in ``agents``; default: where this user's own ones lie."""
        self._agents = agents or Path.home() / "Library" / "LaunchAgents"
        self._domain = f"gui/{os.getuid()}"

    def install(self, home: Home, service: Service) -> list[str]:
        """Write and load the agent; return what was done."""
        loaded = self._loaded(service)
        check_home_free(home, loaded)
        home.create()
        file = self._agents / f"{service.name}.plist"
        changed = put_file(file, launchd_plist(service))
        if loaded and changed:
            ask("launchctl", "bootout", f"{self._domain}/{service.name}")
        if changed or not loaded:
            ask("launchctl", "bootstrap", self._domain, str(file))
        return [
            f"{'wrote' if changed else 'unchanged'}: {file}",
            f"{service.name} runs, and starts when you log in; its log: {service.log}",
        ]

    def uninstall(self, service: Service) -> list[str]:
        """Unload and remove the agent; return what was done."""
        file = self._agents / f"{service.name}.plist"
        loaded = self._loaded(service)
        if not file.exists() and not loaded:
            return [f"there is no {file}: nothing to do"]
        if loaded:
            ask("launchctl", "bootout", f"{self._domain}/{service.name}")
        file.unlink(missing_ok=True)
        return [f"stopped {service.name} and removed {file}; {service.home} is kept"]

    def _loaded(self, service: Service) -> bool:
        """Raises: DaemonError("SK-DMN-007") where there is no launchd."""
        with suppress(DaemonError):
            ask("launchctl", "print", f"{self._domain}/{service.name}")
            return True
        ask("launchctl", "version", code="SK-DMN-007")
        return False
