"""What the tests of node/ share: where to find the suite that every transport must pass."""

import sys
from pathlib import Path

import pytest

pytest.register_assert_rewrite("transport_conformance")
sys.path.insert(0, str(Path(__file__).parent))

from daemon_fixtures import control, fake_command, home  # noqa: E402, F401 (found by the path above)
