"""How fast stale copies leave this node: by what the rest of its traffic leaves of the uplink.

The uplink is as fast as the user allows; where nothing is set, as fast as others say that things
come from here, and until they do as fast as a usual one.
"""

import asyncio
import math
from collections.abc import Callable

from skerry.node.net.shaping import Throttle
from skerry.protocol.quota import QuotaLimits
from skerry.recovery.shadowing import ShadowRules, SpareUplink

_USUAL_UPLINK = 12.5e6
"""Bytes per second: 100 Mbit/s, the usual link of the planner."""
_LOOK_S = 1.0
"""Seconds between two looks at what else is sent."""
_LEAST = 0.01
"""Of the uplink: so much copies get however busy it is, or one that is never idle has none."""
_MOST_WAIT_S = 1.0
_PIECE_BYTES = 64 * 1024


class SpareUpload:
    """Lets pieces of copies wait for their turn."""

    def __init__(self, upload: Throttle, rules: ShadowRules, met: Callable[[], float]) -> None:
        """Go by all that passes ``upload``, this node's own pieces among it.

        ``met`` returns the bytes per second that others have met; 0 where nobody has said.
        """
        self._upload, self._rules, self._met = upload, rules, met
        self._bucket: SpareUplink | None = None
        self._looked_at, self._passed = -math.inf, 0
        self._own = 0
        """Bytes of copies since the last look."""

    @property
    def piece_bytes(self) -> int:
        """How much is to be sent at once: less than what may go after a pause."""
        return max(1, min(_PIECE_BYTES, int(_LEAST * self._uplink * self._rules.burst_s)))

    async def take(self, num_bytes: int) -> None:
        """Return when so many bytes, at most ``piece_bytes``, may go."""
        while True:
            now = asyncio.get_running_loop().time()
            bucket = self._look(now)
            # The limit may have been lowered since the piece was cut: more never gathers.
            due = min(num_bytes, int(bucket.rate * self._rules.burst_s))
            lacking = due - bucket.allowed(now)
            if lacking <= 0:
                bucket.spend(due, now)
                self._own += num_bytes
                return
            await asyncio.sleep(min(lacking / bucket.rate, _MOST_WAIT_S))

    @property
    def _uplink(self) -> float:
        limit = self._upload.bytes_per_s
        known = (self._met() or _USUAL_UPLINK) if math.isinf(limit) else limit
        # A holder takes no more than this unasked (protocol/quota.py).
        return min(known, QuotaLimits().bytes_per_s / 2 / self._rules.share)

    def _look(self, now: float) -> SpareUplink:
        """Take in what has passed since the last look, once that is long enough ago."""
        if self._bucket is None:
            self._bucket = SpareUplink(self._rules, self._uplink, now)
        elif now - self._looked_at < _LOOK_S:
            return self._bucket
        passed, span_s = self._upload.passed - self._passed, now - self._looked_at
        busy = min(max(0.0, (passed - self._own) / span_s), (1 - _LEAST) * self._uplink)
        self._bucket.measured(self._uplink, busy, now)
        self._looked_at, self._passed, self._own = now, self._upload.passed, 0
        return self._bucket
