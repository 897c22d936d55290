"""The chaos tests use the swarm of the integration tests and the simulator of the rounds."""

import sys
from pathlib import Path

import pytest

pytest.register_assert_rewrite("swarm")
TESTS = Path(__file__).parent.parent
sys.path[:0] = [
    str(folder) for folder in (TESTS / "chaos", TESTS / "integration", TESTS / "protocol/rounds")
]


@pytest.fixture
def no_leaks() -> None:
    """The test itself asks its swarm for what is left behind."""
