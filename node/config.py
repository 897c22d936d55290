"""A node's settings, from flags, SKERRY_* variables, config.toml and defaults, in that order.

The only place that reads settings from the environment. Each source is checked on its own, so
that a message can say where the wrong value stands.
"""

import os
import tomllib
from collections.abc import Mapping
from datetime import time
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from skerry.protocol.errors import ConfigError, ProtocolError
from skerry.protocol.manifest import Section, validated
from skerry.protocol.token import split_bootstrap
from skerry.protocol.units import Bytes, BytesPerSecond, Seconds

PREFIX = "SKERRY_"
OTHER_VARIABLES = frozenset({"SKERRY_HOME"})
"""Variables that are no settings of a daemon."""


LEAST_RATE = 125_000.0
"""Bytes per second: with less, a piece of a payload takes longer than its receiver waits."""


def _comma_separated(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


TransportName = Literal["auto", "p2pd", "py-libp2p"]


def _a_rate(value: float) -> float:
    if value and not value >= LEAST_RATE:
        raise ValueError("at least 1mbit, or 0 for no limit")
    return value


Rate = Annotated[BytesPerSecond, AfterValidator(_a_rate)]
"""Bytes per second."""


class ListenSection(Section):
    """Where other peers reach this node, and by what."""

    host: str = "0.0.0.0"
    """IP address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """TCP port; 0 lets the system choose one."""
    announce: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_separated)] = ()
    """Further multiaddrs under which this node can be reached, such as a forwarded port."""
    transport: TransportName = "auto"
    """The library that carries streams: p2pd, or py-libp2p where there is no p2pd."""
    relay: bool = False
    """Whether to relay for peers behind NATs; needs an address that the internet can dial."""
    relays: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_separated)] = ()
    """Full multiaddrs of relays to be reached through, while nobody can dial this node."""
    mdns: bool = True
    """Whether to find peers in the local network, and be found there, by multicast DNS."""

    @field_validator("host")
    @classmethod
    def _is_address(cls, value: str) -> str:
        ip_address(value)  # raises ValueError, which pydantic reports
        return value

    @field_validator("relays")
    @classmethod
    def _are_relays(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            try:
                split_bootstrap(address)
            except ProtocolError:
                example = "/ip4/203.0.113.7/tcp/4001/p2p/12D3Koo…"
                raise ValueError(f"{address!r} is not a relay such as {example}") from None
        return value

    @field_validator("announce")
    @classmethod
    def _are_multiaddrs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            if not address.startswith("/") or "/p2p/" in address:
                raise ValueError(
                    f"{address!r} is not a multiaddr such as /ip4/203.0.113.7/tcp/4001"
                )
        return value


class ComputeSection(Section):
    """What the compute process may use."""

    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Torch threads; 0 means as many as the machine has cores."""
    role: Literal["auto", "replica", "stage"] = "auto"
    """What to host of a run that is joined: the whole model, a stage of it, or what fits."""
    memory: Bytes = 0
    """Main memory that a run may use, such as "2gb"; 0 means all that is free."""


class LogSection(Section):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class HeartbeatSection(Section):
    """Signs of life between peers."""

    interval: Annotated[Seconds, Field(ge=0.05, le=60)] = 1.0
    """Time between two heartbeats; written "500ms" or "2s"."""


class BandwidthSection(Section):
    """How much of its connection this node may use; rates such as "20mbit", 0: no limit."""

    max_upload: Rate = 0.0
    max_download: Rate = 0.0
    quiet_hours: Annotated[str, Field(pattern=r"^(none|\d\d:\d\d-\d\d:\d\d)$")] = "none"
    """Local time of day, such as "18:00-23:30" or "22:00-06:00", with limits of its own."""
    quiet_upload: Rate = 0.0
    quiet_download: Rate = 0.0

    @field_validator("quiet_hours")
    @classmethod
    def _are_times(cls, value: str) -> str:
        _hours(value)  # raises ValueError, which pydantic reports
        return value

    @model_validator(mode="after")
    def _quiet_is_used(self) -> "BandwidthSection":
        given = _hours(self.quiet_hours) is not None
        if given != bool(self.quiet_upload or self.quiet_download):
            raise ValueError("quiet_hours need quiet_upload or quiet_download, and these need them")
        return self

    def is_quiet(self, now: time) -> bool:
        """Say whether a time of day is among the quiet hours, which may pass midnight."""
        hours = _hours(self.quiet_hours)
        if hours is None:
            return False
        begin, end = hours
        return begin <= now < end if begin <= end else now >= begin or now < end


def _hours(text: str) -> tuple[time, time] | None:
    """Read quiet hours; None: there are none. Raises: ValueError."""
    if text == "none":
        return None
    begin, _, end = text.partition("-")
    return time.fromisoformat(begin), time.fromisoformat(end)


class SinksSection(Section):
    """Where a run's figures go besides the event log; needs the extra of the same name."""

    tensorboard: bool = False
    """TensorBoard event files in the run's folder."""
    wandb: bool = False
    """Weights & Biases, which reads its own WANDB_* variables."""
    wandb_project: Annotated[str, Field(min_length=1, max_length=128)] = "skerry"


class PageSection(Section):
    """The status page."""

    enabled: bool = True
    """Whether this daemon serves one."""
    host: str = "127.0.0.1"
    """IP address to serve it on; one that others can reach needs the page token."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8787
    """TCP port, or the next free one; 0 lets the system choose."""
    require_token: bool = False
    """Ask for the page token even to read, for machines that several people use."""
    names: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_separated)] = ()
    """Further host names under which the page is asked for, such as a proxy's."""

    @field_validator("host")
    @classmethod
    def _is_address(cls, value: str) -> str:
        ip_address(value)  # raises ValueError, which pydantic reports
        return value

    @field_validator("names")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not name or any(c in name for c in "/:@* "):
                raise ValueError(f"{name!r} is not a host name such as skerry.example.org")
        return tuple(name.lower() for name in value)


class NodeConfig(BaseSettings):
    """All settings of one daemon; ``load_config`` builds it."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    listen: ListenSection = ListenSection()
    compute: ComputeSection = ComputeSection()
    log: LogSection = LogSection()
    heartbeat: HeartbeatSection = HeartbeatSection()
    bandwidth: BandwidthSection = BandwidthSection()
    sinks: SinksSection = SinksSection()
    page: PageSection = PageSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take given values only: ``NodeConfig()`` is the defaults, whatever the environment."""
        return (init_settings,)


def load_config(file: Path, flags: Mapping[str, Mapping[str, object]] | None = None) -> NodeConfig:
    """Merge all sources: ``flags`` (section → key → value) > environment > ``file`` > default.

    Raises: ConfigError, naming the source of the wrong key or value.
    """
    sources: dict[str, Mapping[str, Any]] = {
        str(file): _from_file(file),
        "environment": _from_environment(),
        "command line": flags or {},
    }
    merged: dict[str, dict[str, Any]] = {}
    for name, data in reversed(sources.items()):
        _check(name, data)
        for section, values in data.items():
            merged[section] = {**values, **merged.get(section, {})}
    return validated(NodeConfig, merged)


def _check(source: str, data: Mapping[str, Any]) -> None:
    try:
        validated(NodeConfig, data)
    except ConfigError as error:
        raise ConfigError(error.code, f"{source}: {error.detail}") from None


def _from_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # a home that is a file is told by its lock
        return {}
    except OSError as error:
        raise ConfigError("SK-CFG-003", f"{file}: {error.strerror}") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError("SK-CFG-003", f"{file} is not TOML: {error}") from None


def _from_environment() -> dict[str, Any]:
    known = _variables()
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known | OTHER_VARIABLES:
            near = get_close_matches(name, known | OTHER_VARIABLES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            raise ConfigError("SK-CFG-001", f"unknown environment variable {name}; {hint}")
    return EnvSettingsSource(NodeConfig)()


def _variables() -> set[str]:
    """Return the names of all variables that hold a setting."""
    return {
        f"{PREFIX}{section}__{key}".upper()
        for section, field in NodeConfig.model_fields.items()
        for key in getattr(field.annotation, "model_fields", {})
    }
