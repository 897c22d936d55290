"""The tests behind NATs use the swarm of the integration tests."""

import sys
from pathlib import Path

import pytest

pytest.register_assert_rewrite("swarm")
sys.path.insert(0, str(Path(__file__).parent.parent / "integration"))
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def no_leaks() -> None:
    """The swarm says itself, once, in the end, what is left behind."""
