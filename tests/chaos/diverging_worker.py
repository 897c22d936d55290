"""A real compute process that takes as many outer steps wrongly as a file says.

    python -P tests/chaos/diverging_worker.py ORDER LAUNCH FD

So may a machine with a bad core or memory. Nothing fails: what it has then is sound, and not what
the others have.
"""

import sys
from dataclasses import replace
from pathlib import Path

from skerry.pipeline import worker
from skerry.pipeline.exchange import Exchange
from skerry.protocol.compute import Applied, Apply

right = Exchange.apply


def disturb(order: Path) -> None:
    """Have outer steps be too large."""

    def apply(self: Exchange[object], request: Apply) -> Applied:
        times = int(order.read_text()) if order.exists() else 0
        if times:
            order.write_text(str(times - 1))
            wrong_lr = 1.25 * self.alpha(request.round, request.outer_lr)
            request = replace(request, outer_lr=wrong_lr)
        return right(self, request)

    Exchange.apply = apply  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    disturb(Path(sys.argv.pop(1)))
    worker.main()
