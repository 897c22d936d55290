"""People who look at a status page: tabs of a real Chromium, each with a profile of its own."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

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


def chromium() -> str | None:
    """Return where Chromium is, or None where it or Playwright is missing."""
    try:
        import playwright.sync_api  # noqa: F401 (of the extra "dev")
    except ImportError:
        return None
    return shutil.which(_CHROMIUM)


@contextmanager
def page_readers(url: str, count: int, executable: str) -> Iterator[None]:
    """Keep ``count`` pages open until they are live.

    Readers sit at other machines as a rule, so the browser yields the processor to everyone.
    """
    from playwright.sync_api import sync_playwright

    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(_FLAGS))
        _yield_processor(before)
        for _ in range(count):
            page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
            page.goto(url, timeout=_PATIENCE_MS)
            page.wait_for_selector("body[data-link=live]", timeout=_PATIENCE_MS)
        try:
            yield
        finally:
            browser.close()


def _yield_processor(before: set[int]) -> None:
    """Lower the priority of what was started; their children inherit it."""
    for child in psutil.Process().children(recursive=True):
        if child.pid not in before and "chrom" in child.name():
            child.nice(_NICE)
