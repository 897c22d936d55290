"""People who look at a status page: tabs of a real Chromium, each with a profile of its own."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:  # of the extra "dev"; a bench runs without it
    from playwright.sync_api import Browser

_CHROMIUM = "chromium"
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_NICE = 15
_PATIENCE_MS = 120_000
_PAINTED = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1"


def chromium() -> str | None:
    """Return where Chromium is, or None where it or Playwright is missing."""
    try:
        import playwright.sync_api  # noqa: F401 (only whether it is there)
    except ImportError:
        return None
    return shutil.which(_CHROMIUM)


@dataclass(frozen=True, slots=True)
class Load:
    """How long one page took to load, ms since it was asked for."""

    painted_ms: float
    """Its first content was painted."""
    live_ms: float
    """It showed the run, and its event stream was open."""


@contextmanager
def page_readers(url: str, count: int, executable: str) -> Iterator[list[Load]]:
    """Keep ``count`` pages open; yields how long each took to load, the first with nothing cached.

    Readers sit at other machines as a rule, so once its pages are open the browser yields the
    processor to everyone.
    """
    from playwright.sync_api import sync_playwright

    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(_FLAGS))
        loads = [_open(browser, url) for _ in range(count)]
        _yield_processor(before)
        try:
            yield loads
        finally:
            browser.close()


def _open(browser: "Browser", url: str) -> Load:
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.goto(url, timeout=_PATIENCE_MS)
    page.wait_for_selector("body[data-link=live]", timeout=_PATIENCE_MS)
    live_ms = page.evaluate("() => performance.now()")
    return Load(round(page.evaluate(_PAINTED), 1), round(live_ms, 1))


def _yield_processor(before: set[int]) -> None:
    """Lower the priority of every thread of what was started."""
    for child in psutil.Process().children(recursive=True):
        if child.pid not in before and "chrom" in child.name():
            for thread in child.threads():
                with suppress(ProcessLookupError):  # ended meanwhile
                    os.setpriority(os.PRIO_PROCESS, thread.id, _NICE)
