"""What the tests of a run share: members of a run in this process, and one run that was real."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import run_world


@pytest.fixture
async def world(tmp_path):
    """A network in memory, and members of a run upon it that a test makes as it needs them."""
    async with run_world.World(tmp_path) as world:
        yield world


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> list[run_world.Outcome]:
    """What two members with real compute processes left when they had trained all rounds."""
    folder = tmp_path_factory.mktemp("trained")
    return asyncio.run(run_world.train(folder, members=2))


@pytest.fixture
def member(world) -> Callable[..., run_world.Member]:
    return world.member
