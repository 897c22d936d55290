"""Lets the tests of this folder import what they share, and the simulator of the rounds."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "protocol/rounds")]
