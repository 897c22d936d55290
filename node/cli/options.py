"""Options that several commands share; ``spreading`` takes the dataclasses apart for them."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

DAEMON_PANEL = "Settings of the daemon"
"""Heading in the help of commands."""
RUN_PANEL = "Take part in a run"
LOOK_PANEL = "See what happens"
MACHINE_PANEL = "This machine and its daemon"
"""Headings in the help of skerry itself."""


class Format(StrEnum):
    """How a read command prints."""

    TEXT = "text"
    JSON = "json"


class RoleWanted(StrEnum):
    """What a peer hosts of a run."""

    AUTO = "auto"
    REPLICA = "replica"
    STAGE = "stage"


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


def _setting(name: str, help: str, default: str) -> object:
    """Return an option that overrides a setting of the daemon, whose own default is shown."""
    return typer.Option(name, help=help, show_default=default, rich_help_panel=DAEMON_PANEL)


WatchOption = Annotated[bool, typer.Option("--watch", help="Show the live view.")]


@dataclass(frozen=True, slots=True)
class OutputFlags:
    """How a command prints what it found."""

    format: Annotated[
        Format, typer.Option("--format", help="Text for people, or JSON for programs.")
    ] = Format.TEXT
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False

    @property
    def kind(self) -> Format:
        """The format that was asked for, in whichever way."""
        return Format.JSON if self.json else self.format

    @property
    def as_json(self) -> bool:
        """Whether that is JSON."""
        return self.kind is Format.JSON


@dataclass(frozen=True, slots=True)
class DaemonFlags:
    """Settings of a daemon that were given as flags; None where none was."""

    host: Annotated[
        str | None,
        _setting("--host", "IP address to listen on.", "0.0.0.0"),
    ] = None
    port: Annotated[int | None, _setting("--port", "TCP port; 0: any free one.", "0")] = None
    relay: Annotated[
        bool | None,
        _setting("--relay", "Relay for peers behind NATs; needs a public address.", "no"),
    ] = None
    relays: Annotated[
        str | None,
        _setting(
            "--relays",
            "Relays to be reached through, as they name themselves; comma-separated.",
            "those of the token",
        ),
    ] = None
    threads: Annotated[
        int | None, _setting("--threads", "Torch threads; 0: one per core.", "0")
    ] = None
    role: Annotated[
        RoleWanted | None,
        _setting("--role", "Host all of a model, a stage of it, or what fits.", "auto"),
    ] = None
    memory: Annotated[
        str | None,
        _setting("--memory", 'Main memory that a run may use, such as "2gb".', "all that is free"),
    ] = None
    log_level: Annotated[LogLevel | None, _setting("--log-level", "What to log.", "info")] = None
    page_host: Annotated[
        str | None,
        _setting(
            "--page-host",
            "IP address of the status page; others than loopback need the page token.",
            "127.0.0.1",
        ),
    ] = None
    page_port: Annotated[
        int | None,
        _setting("--page-port", "TCP port of the status page, or the next free one.", "8787"),
    ] = None

    def settings(self) -> dict[str, dict[str, object]]:
        """Return them as section → key → value, as load_config takes them."""
        found: dict[str, dict[str, object]] = {}
        for section, key, value in (
            ("listen", "host", self.host),
            ("listen", "port", self.port),
            ("listen", "relay", self.relay),
            ("listen", "relays", self.relays),
            ("compute", "threads", self.threads),
            ("compute", "role", self.role and self.role.value),
            ("compute", "memory", self.memory),
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
            "--relays": self.relays,
            "--threads": self.threads,
            "--role": self.role,
            "--memory": self.memory,
            "--log-level": self.log_level,
            "--page-host": self.page_host,
            "--page-port": self.page_port,
        }
        switches = ["--relay"] if self.relay else []
        return [*(f"{n}={value}" for n, value in given.items() if value is not None), *switches]
