"""Settings read again by a running daemon: which ones take effect at once, and which do not."""

from dataclasses import dataclass

from skerry.node.config import BandwidthSection, NodeConfig

LIVE = frozenset(
    {"log.level", "heartbeat.interval", "listen.announce"}
    | {f"bandwidth.{key}" for key in BandwidthSection.model_fields}
)
"""What can change while the daemon runs; everything else waits for its next start."""


@dataclass(frozen=True, slots=True)
class Change:
    """How settings that were read again differ from those in force."""

    config: NodeConfig
    """From now on in force."""
    live: tuple[str, ...]
    """Keys that changed and take effect."""
    waiting: tuple[str, ...]
    """Keys that changed and take effect with the next start."""


def change_of(old: NodeConfig, new: NodeConfig) -> Change:
    """Compare settings; only what is LIVE is taken over."""
    changed = [
        (section, key)
        for section in NodeConfig.model_fields
        for key in type(getattr(old, section)).model_fields
        if getattr(getattr(old, section), key) != getattr(getattr(new, section), key)
    ]
    names = [f"{section}.{key}" for section, key in changed]
    merged = {section: getattr(old, section) for section in NodeConfig.model_fields}
    for (section, key), name in zip(changed, names, strict=True):
        if name in LIVE:
            value = getattr(getattr(new, section), key)
            merged[section] = merged[section].model_copy(update={key: value})
    return Change(
        config=NodeConfig(**merged),
        live=tuple(name for name in names if name in LIVE),
        waiting=tuple(name for name in names if name not in LIVE),
    )
