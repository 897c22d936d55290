"""The tests behind NATs use the swarm of the integration tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "integration"))
sys.path.insert(0, str(Path(__file__).parent))

from lab_swarm import LONG_S
from natlab import why_not

from skerry.node import demo_swarm

pytest.register_assert_rewrite("swarm")


@pytest.fixture(scope="session")
def networks() -> Iterator[None]:
    """Skip what needs networks of its own where none can be built; be patient in them."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_swarm, "START_SECONDS", LONG_S)
        yield


@pytest.fixture
def no_leaks() -> None:
    """The swarm says itself, once, in the end, what is left behind."""
