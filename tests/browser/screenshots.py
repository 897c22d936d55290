"""Takes the pictures of the status page for the documentation, of made-up runs.

Usage: python tests/browser/screenshots.py [FOLDER]     writes docs/images/page-*.png
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from page_server import PageServer
from playwright.sync_api import Browser, sync_playwright
from reader import CHROMIUM, FLAGS, Reader
from simulated_swarm import Shape, SimulatedSwarm

IMAGES = Path(__file__).parents[2] / "docs" / "images"


@dataclass(frozen=True, slots=True)
class Picture:
    """One view of one run."""

    name: str
    shape: Shape
    width: int
    height: int
    dark: bool = False
    scale: float = 1.0

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "viewport": {"width": self.width, "height": self.height},
            "color_scheme": "dark" if self.dark else "light",
            "device_scale_factor": self.scale,
            "timezone_id": "UTC",
        }


PICTURES = (
    Picture("wide", Shape(), 1440, 1220),
    Picture("dark", Shape(peers=10, ring=4), 1440, 1220, dark=True),
    Picture("phone", Shape(), 360, 1180, scale=1.5),
    Picture("200-peers", Shape(peers=200, troubled=14, rounds=60, blocks=32), 1440, 1420),
)


def take(browser: Browser, picture: Picture, folder: Path) -> None:
    """Write one picture."""
    answers = SimulatedSwarm(picture.shape).answers()
    with PageServer(answers) as server, Reader(browser, server.url, **picture.settings) as reader:
        page = reader.open()
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => done()))")
        path = folder / f"page-{picture.name}.png"
        page.screenshot(path=path, animations="disabled")
        print(f"{path.name}: {path.stat().st_size} bytes")


def main() -> None:
    """Take all of them."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        for picture in PICTURES:
            take(browser, picture, folder)
        browser.close()


if __name__ == "__main__":
    main()
