"""Options that several commands share."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How a read command prints."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """What a daemon logs."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="The node's folder; several nodes on one machine need one each. "
        "Default: SKERRY_HOME, else $XDG_DATA_HOME/skerry, else ~/.local/share/skerry.",
        show_default=False,
    ),
]
FormatOption = Annotated[Format, typer.Option("--format", help="Text for people or JSON.")]
HostOption = Annotated[
    str | None, typer.Option("--host", help="IP address to listen on.", show_default="0.0.0.0")
]
PortOption = Annotated[
    int | None,
    typer.Option("--port", help="TCP port; 0: any free one.", show_default="0"),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", help="Torch threads; 0: one per core.", show_default="0"),
]
LogLevelOption = Annotated[
    LogLevel | None, typer.Option("--log-level", help="What to log.", show_default="info")
]
PageHostOption = Annotated[
    str | None,
    typer.Option(
        "--page-host",
        help="IP address of the status page; others than loopback need the page token.",
        show_default="127.0.0.1",
    ),
]
PagePortOption = Annotated[
    int | None,
    typer.Option(
        "--page-port",
        help="TCP port of the status page, or the next free one.",
        show_default="8787",
    ),
]
WatchOption = Annotated[bool, typer.Option("--watch", help="Show the live view.")]


@dataclass(frozen=True, slots=True)
class DaemonFlags:
    """Settings of a daemon that were given as flags; None where none was."""

    host: str | None = None
    port: int | None = None
    threads: int | None = None
    log_level: LogLevel | None = None
    page_host: str | None = None
    page_port: int | None = None

    def settings(self) -> dict[str, dict[str, object]]:
        """Return them as section → key → value, as load_config takes them."""
        found: dict[str, dict[str, object]] = {}
        for section, key, value in (
            ("listen", "host", self.host),
            ("listen", "port", self.port),
            ("compute", "threads", self.threads),
            ("log", "level", self.log_level and self.log_level.value),
            ("page", "host", self.page_host),
            ("page", "port", self.page_port),
        ):
            if value is not None:
                found.setdefault(section, {})[key] = value
        return found

    def arguments(self) -> list[str]:
        """Return them as they stand on a command line."""
        given = {
            "--host": self.host,
            "--port": self.port,
            "--threads": self.threads,
            "--log-level": self.log_level,
            "--page-host": self.page_host,
            "--page-port": self.page_port,
        }
        return [f"{name}={value}" for name, value in given.items() if value is not None]
