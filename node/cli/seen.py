"""What was seen of a daemon: its newest status, and what its event log has told."""

import time
from collections import deque

from skerry.node.cli.history import History
from skerry.node.cli.moment import Moment
from skerry.node.control_client import STATUS_SECONDS, ControlClient
from skerry.proto import control_pb2 as pb

_FIRST_LINES = 5000
_NEW_LINES = 200
"""Asked for each time: more than a daemon writes between two looks."""


class Seen:
    """Grows with each ``ask``; the status alone would not show how the run came here."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.status = pb.StatusReply()
        """The newest answer."""
        self._lines: deque[str] = deque(maxlen=_FIRST_LINES)
        self._run_id = ""
        self._history = History(self._run_id)

    def ask(self, client: ControlClient, patience_s: float = STATUS_SECONDS) -> None:
        """Ask the daemon how it is and what is new. Raises: SkerryError."""
        self.status = client.status(patience_s)
        newest = list(client.logs(_NEW_LINES if self._lines else _FIRST_LINES))
        fresh = newest[_known(self._lines, newest) :]
        self._lines.extend(fresh)
        if self._run_id == self.status.run.run_id:
            self._history.take(fresh)
            return
        self._run_id = self.status.run.run_id
        self._history = History(self._run_id)
        self._history.take(self._lines)

    def moment(self, notice: str = "") -> Moment:
        """Return what there is to show now; ``notice`` says what is wrong with it."""
        return Moment(
            status=self.status,
            figures=self._history.figures(),
            troubles=self._history.troubles(),
            events=self._history.events(),
            now=time.time(),
            notice=notice,
        )


def _known(lines: deque[str], newest: list[str]) -> int:
    """Return how many of the newest lines are known: all up to the last one known."""
    if lines:
        for back, line in enumerate(reversed(newest)):
            if line == lines[-1]:
                return len(newest) - back
    return 0
