"""The process behind the sinks: takes lines of the event log from stdin, and ends with them.

A process of its own, because the libraries of others run in it: what they block, leak or raise
must not reach a run. ``process`` starts it with the home and the settings.
"""

import json
import logging
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from skerry.node.config import SinksSection
from skerry.node.home import Home
from skerry.node.sinks.scalars import Scalars
from skerry.node.sinks.sink import RunName, Sink, open_sinks
from skerry.protocol.ids import RunId


class Feed:
    """Gives the points of each run that the daemon enters to sinks of its own."""

    def __init__(self, home: Home, settings: SinksSection) -> None:
        """Begin outside of any run."""
        self._home, self._settings = home, settings
        self._peer_id = ""
        self._sinks: list[Sink] = []
        self._scalars = Scalars()

    def take(self, line: dict[str, Any]) -> None:
        """Take in one line of the event log."""
        match line:
            case {"event": "started", "peer": str(peer)}:
                self._peer_id = peer
            case {"event": "entered", "run": str(run_id), "name": str(name)}:
                self.close()
                folder = self._home.run(RunId(run_id)).folder
                run = RunName(run_id, name, self._peer_id, folder)
                self._scalars, self._sinks = Scalars(), open_sinks(self._settings, run)
            case {"event": "left"}:
                self.close()
            case _:
                if (point := self._scalars.take(line)) is not None:
                    for sink in self._sinks:
                        sink.write(point)

    def close(self) -> None:
        """Close the sinks of the run."""
        sinks, self._sinks = self._sinks, []
        for sink in sinks:
            sink.close()


def feed(lines: Iterable[str], target: Feed) -> None:
    """Give ``target`` every line but one that was cut short; returns when they end."""
    try:
        for text in lines:
            with suppress(json.JSONDecodeError):
                target.take(json.loads(text))
    finally:
        target.close()


def main() -> None:
    """Run as the daemon's child: HOME SETTINGS."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = SinksSection.model_validate_json(sys.argv[2])
    feed(sys.stdin, Feed(Home(Path(sys.argv[1])), settings))


if __name__ == "__main__":
    main()
