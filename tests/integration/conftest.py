"""Real daemons for the tests of a module: three that are started once, and the way to more."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("swarm")
sys.path.insert(0, str(Path(__file__).parent))

from swarm import Peer, Swarm  # noqa: E402 (found by the path above)


@pytest.fixture
def no_leaks() -> None:
    """Daemons outlive a test here; ``swarm`` checks what is left of them, once, in the end."""


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """Yield a swarm without daemons; in the end no process may be left."""
    with Swarm(tmp_path_factory.mktemp("swarm")) as swarm:
        yield swarm
        left = swarm.stop()
    assert not left, f"left behind: {left}"


@pytest.fixture
def trio(swarm: Swarm) -> list[Peer]:
    """Return three daemons that run and take part in no run."""
    if not swarm.peers:
        swarm.start("a", "b", "c")
    trio = swarm.peers[:3]
    for peer in trio:
        peer.free()
    return trio
