"""Real daemons that can be cut off from each other, slowed down and given a wrong clock."""

import json
import os
import sys
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from faulty_daemon import Weather
from swarm import Peer

from skerry.node.demo_swarm import LocalSwarm
from skerry.node.home import Home

_LAUNCHER = Path(__file__).parent / "faulty_daemon.py"


class FaultySwarm(LocalSwarm):
    """Starts each daemon by way of faulty_daemon.py."""

    def command(self, name: str, home: Home) -> list[str]:
        if not _file(home).exists():
            _write(home, Weather())
        _, _, _, _, *rest = super().command(name, home)
        # The launcher has gRPC loaded before main() can say how it is to be.
        no_forks = ["env", "GRPC_ENABLE_FORK_SUPPORT=false"]
        return [*no_forks, sys.executable, "-P", str(_LAUNCHER), str(_file(home)), *rest]


def weather(peer: Peer) -> Weather:
    """Return what is wrong with a daemon."""
    return Weather(**json.loads(_file(peer.home).read_text()))


def change(peers: Iterable[Peer], **changes: object) -> None:
    """Disturb daemons in another way than before; they notice within a moment."""
    for peer in peers:
        _write(peer.home, replace(weather(peer), **changes))  # type: ignore[arg-type]


def part(side: Collection[Peer], other: Collection[Peer]) -> None:
    """Let nothing through between two sides."""
    change(side, unreachable=[peer.peer_id for peer in other])
    change(other, unreachable=[peer.peer_id for peer in side])


def _file(home: Home) -> Path:
    """Return where its weather stands: beside the home, whose disk may be full."""
    return home.path.with_name(f"{home.path.name}.weather.json")


def _write(home: Home, found: Weather) -> None:
    temporary = _file(home).with_suffix(".tmp")
    fields = {name: getattr(found, name) for name in Weather.__dataclass_fields__}
    temporary.write_text(json.dumps(fields))
    os.replace(temporary, _file(home))
