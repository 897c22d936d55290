"""The chaos tests use the swarm of the integration tests."""

import sys
from pathlib import Path

import pytest

pytest.register_assert_rewrite("swarm")
sys.path.insert(0, str(Path(__file__).parent.parent / "integration"))


@pytest.fixture
def no_leaks() -> None:
    """The test itself asks its swarm for what is left behind."""
