"""Numbers and names as people read them, and text of others made safe for a terminal."""

import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from skerry.protocol.ids import short

_NAMED = 3
_MAX_TIME = 253_402_300_799
"""The end of the year 9999, the last that a date can show."""
_SIZES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def printable(text: str) -> str:
    """Return ``text`` as one line without control characters: it may come from a peer."""
    return "".join(c if c.isprintable() else " " for c in text)


def name_of(peer: str) -> str:
    """Return a peer id in short; other words pass unchanged."""
    return printable(short(peer) if peer.startswith("12D3") else peer)


def names_of(peers: Sequence[str]) -> str:
    """Return a list of names such as "a, b, c and 5 more"."""
    others = len(peers) - _NAMED
    return ", ".join(map(name_of, peers[:_NAMED])) + (f" and {others} more" if others > 0 else "")


def size(num_bytes: float) -> str:
    """Return a number of bytes such as "1.5 MB"."""
    for factor, unit in _SIZES:
        if num_bytes >= factor:
            return f"{num_bytes / factor:.1f} {unit}"
    return f"{num_bytes:.0f} B"


def duration(seconds: float) -> str:
    """Return a duration such as "42 s", "3 min 05 s" or "2 h 07 min"; a dash for none."""
    if not math.isfinite(seconds):
        return "-"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def clock(unix_seconds: float) -> str:
    """Return a time of day such as "09:05:07", local; dashes for one that no clock shows."""
    try:
        return time.strftime("%H:%M:%S", time.localtime(unix_seconds))
    except (OverflowError, ValueError, OSError):
        return "--:--:--"


def count(number: float) -> str:
    """Return a whole number with thousands apart."""
    return f"{number:,.0f}"


def percent(ratio: float) -> str:
    """Return a share of 1 in whole percent."""
    return f"{100 * ratio:.0f} %" if math.isfinite(ratio) else "-"


def loss(value: float) -> str:
    """Return a loss, or a dash for one that was not measured yet."""
    return f"{value:.3f}" if value else "-"


def date_of(unix_seconds: int) -> datetime:
    """Return a moment that a peer has chosen, or the last that a date can tell."""
    return datetime.fromtimestamp(min(unix_seconds, _MAX_TIME), UTC)
