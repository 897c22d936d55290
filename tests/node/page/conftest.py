"""What the tests of the page share: a run that was really trained, and a page over it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "run"))

import page_world


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> page_world.Trained:
    """What two members left that trained three rounds with real compute processes."""
    return page_world.train(tmp_path_factory.mktemp("trained"))


@pytest.fixture
async def page(trained, tmp_path):
    """A page over that run, open on loopback."""
    async with page_world.page_world(trained, tmp_path) as page:
        yield page
