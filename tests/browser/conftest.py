"""Debian's Chromium for the tests of the status page: one browser per module, a tab per reader."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

HERE = Path(__file__).parent
for name in ("hostile_member", "reader", "swarm"):
    pytest.register_assert_rewrite(name)
for folder in (HERE, HERE.parent / "integration"):
    sys.path.insert(0, str(folder))

from reader import CHROMIUM, FLAGS, Reader  # noqa: E402 (found by the path above)


@pytest.fixture
def no_leaks() -> None:
    """Browser and daemons outlive a test here; who starts them checks what is left."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Yield a browser with an empty profile."""
    assert shutil.which(CHROMIUM), "these tests need Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def read(chromium: Browser) -> Iterator[Callable[..., Reader]]:
    """Return what opens tabs, which are closed after the test."""
    with ExitStack() as tabs:

        def opened(url: str, **settings: Any) -> Reader:
            return tabs.enter_context(Reader(chromium, url, **settings))

        yield opened
