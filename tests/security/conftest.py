"""What the attack tests share: doors of runs, and the small run of the round state machine."""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
for folder in ("node", "node/run", "protocol/rounds", "."):
    sys.path.insert(0, str(TESTS / folder))
