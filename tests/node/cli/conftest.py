"""What the tests of the command line share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
