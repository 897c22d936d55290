"""What a daemon is doing, by its event log on disk, which is read as it grows.

That costs the daemon nothing, takes no time, and goes on to tell what was when the daemon is dead.
"""

import json
from pathlib import Path
from typing import Any

IN_STEP = ("training", "encoding", "collecting")
"""Phases of a peer that has the newest parameters and takes part."""


class EventTail:
    """Follows one daemon's event log."""

    def __init__(self, path: Path) -> None:
        """Begin with the lines that are there."""
        self._path, self._offset = path, 0
        self.phase = ""
        """The phase of the rounds that the present process is in; "" before it is in any."""
        self.round = 0
        """The round that the present process is in."""
        self.downloads = False
        """Whether it is getting a state from others."""

    def read(self) -> None:
        """Take in what has been added."""
        try:
            size = self._path.stat().st_size
            if size == self._offset:
                return
            self._offset = min(self._offset, size)
            with self._path.open("rb") as file:
                file.seek(self._offset)
                whole = file.read().rpartition(b"\n")[0]
        except FileNotFoundError:
            return
        self._offset += len(whole) + bool(whole)
        for line in whole.splitlines():
            self._take(json.loads(line))

    def begin(self) -> None:
        """The process has ended: what comes now is said by another."""
        self.read()
        self.phase, self.round, self.downloads = "", 0, False

    def _take(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "started" | "left":
                self.phase, self.downloads = "", False
            case "entered":
                self.phase = "starting"
            case "phase":
                self.phase, self.round = event["phase"], event["round"]
                self.downloads = False
            case "state-downloaded" | "compute-lost":
                self.downloads = False
            case "note" if event["text"].startswith("downloading the state"):
                self.downloads = True
            case _:
                pass
