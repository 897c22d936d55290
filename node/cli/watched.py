"""A daemon as it is watched: also while it is gone, and after it came back."""

import time
from typing import Self

from skerry.node.cli.moment import Moment
from skerry.node.cli.seen import Seen
from skerry.node.cli.wording import duration
from skerry.node.control_client import ControlClient
from skerry.node.home import Home
from skerry.protocol.errors import DaemonError

LOOK_SECONDS = 3.0
"""An answer that takes longer counts as none."""
_NO_DAEMON = "SK-DMN-001"


class Watched:
    """What is known of the daemon of a home. Use as a context, which closes the connection."""

    def __init__(self, home: Home) -> None:
        """Watch the daemon that answers for ``home``; nothing is asked yet."""
        self._home = home
        self._client: ControlClient | None = None
        self._seen = Seen()
        self._answered = 0.0
        """When the daemon answered last, monotonic seconds."""
        self.trouble = ""
        """What is wrong with the daemon; empty while it answers."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the connection."""
        self._close()

    @property
    def over(self) -> bool:
        """Whether the run is finished, by a daemon that answers."""
        return not self.trouble and self._seen.status.run.finished

    def look(self) -> bool:
        """Ask once; say whether a daemon answered. Raises: SkerryError but SK-DMN-001."""
        # A new connection after each failure: a refused one waits ever longer before it tries.
        self._client = self._client or ControlClient(self._home.control_socket)
        try:
            self._seen.ask(self._client, LOOK_SECONDS)
        except DaemonError as error:
            if error.code != _NO_DAEMON:
                raise
            self._close()
            there = self._home.in_use
            self.trouble = f"the daemon {'does not answer' if there else 'is not running'}"
            return False
        self._answered, self.trouble = time.monotonic(), ""
        return True

    def moment(self) -> Moment:
        """Return what there is to show now."""
        if not self.trouble:
            return self._seen.moment()
        ago = duration(time.monotonic() - self._answered)
        notice = f"{self.trouble} and is waited for; below is what it said {ago} ago"
        return self._seen.moment(notice)

    def _close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
