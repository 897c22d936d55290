"""A browser tab that notes what goes wrong in it, and every request that leaves the origin."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request

AXE = Path(__file__).parent / "vendor" / "axe" / "axe.min.js"
CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 240_000
"""For one thing to happen; far more than it takes, since the machine may be busy."""
SERIOUS = ("serious", "critical")


class Reader:
    """One tab on one status page; use as a context."""

    def __init__(self, browser: Browser, url: str, **settings: Any) -> None:
        """Open a tab without going anywhere; ``settings`` are those of a browser context."""
        settings.setdefault("viewport", {"width": 1440, "height": 900})
        self._context = browser.new_context(**settings)
        self._context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self._context.new_page()
        self.url = url
        self.complaints: list[str] = []
        """Errors and warnings of the console, and exceptions nobody caught."""
        self.foreign: list[str] = []
        """Requests to any other origin."""
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._on_request)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *exception: object) -> None:
        self._context.close()

    def open(self, state: str = "run") -> Page:
        """Go to the page and wait until it shows all of a run, no run, or that it is connecting."""
        self.page.goto(self.url)
        whole = "[data-link=live]" if state != "connecting" else ""
        self.page.wait_for_selector(f"body[data-state={state}]{whole}")
        return self.page

    def text(self, selector: str) -> str:
        """Return the text of an element."""
        return self.page.inner_text(selector).strip()

    def wait(self, script: str, argument: object = None) -> None:
        """Wait until a function of the page returns something true."""
        self.page.wait_for_function(script, arg=argument)

    def wait_for_text(self, selector: str, text: str) -> None:
        """Wait until an element holds ``text``."""
        self.wait(
            "([selector, text]) => document.querySelector(selector)?.textContent.includes(text)",
            [selector, text],
        )

    def check_clean(self, allowed: Callable[[str], bool] = lambda complaint: False) -> None:
        """Fail on a complaint that is not allowed, and on any request that left the origin."""
        assert [text for text in self.complaints if not allowed(text)] == []
        assert self.foreign == []

    def violations(self) -> list[str]:
        """Return what axe-core finds of serious or critical impact."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = self.page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
        return [
            f"{one['id']}: {json.dumps([node['html'][:160] for node in one['nodes'][:3]])}"
            for one in found["violations"]
            if one["impact"] in SERIOUS
        ]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        here, there = urlsplit(self.url), urlsplit(request.url)
        if there.scheme not in ("data", "blob") and there.netloc != here.netloc:
            self.foreign.append(request.url)
