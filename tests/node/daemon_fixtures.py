"""Fixtures of the tests around a daemon: a home of its own, and a daemon that only pretends."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_daemon
import pytest

from skerry.node.home import Home

FAKE_FILE = Path(__file__).with_name("fake_daemon.py")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home that does not exist yet; no setting of the developer's own reaches the test."""
    for name in [name for name in os.environ if name.startswith(("SKERRY_", "XDG_"))]:
        monkeypatch.delenv(name)
    return Home(tmp_path / "home")


@pytest.fixture
def control(home: Home) -> Iterator[fake_daemon.FakeControl]:
    """A pretended daemon that answers for ``home``."""
    control = fake_daemon.FakeControl()
    with fake_daemon.serving(home, control):
        yield control


@pytest.fixture
def fake_command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make ``start_daemon`` start fake_daemon.py with the given behaviour."""
    from skerry.node.cli import background

    def use(*behaviour: str) -> None:
        def command(home: Home, flags: object) -> list[str]:
            return [sys.executable, str(FAKE_FILE), str(home.path), *behaviour]

        monkeypatch.setattr(background, "_command", command)

    return use
