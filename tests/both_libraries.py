"""py-libp2p and hivemind in one process: imported first by tests that use the former.

Both bring a protobuf file that defines ``crypto.pb.KeyType``, and the one that is imported second
fails. A daemon only ever imports one of them. Tests have both in one process, so py-libp2p's
messages are put into a descriptor pool of their own while it is imported.
"""

import importlib
import importlib.util
from unittest.mock import patch

import pytest
from google.protobuf import descriptor_pool

_MODULES = (
    "libp2p",
    "libp2p.protocol_muxer.generic_selector",
    "libp2p.security.noise.transport",
    "libp2p.transport.upgrader",
    "libp2p.utils.address_validation",
)
REASON = "py-libp2p is not installed (extra libp2p)"
INSTALLED = importlib.util.find_spec("libp2p") is not None
needs_libp2p = pytest.mark.skipif(not INSTALLED, reason=REASON)

if INSTALLED:
    _pool = descriptor_pool.DescriptorPool()
    with patch.object(descriptor_pool, "Default", lambda: _pool):
        for _name in _MODULES:
            importlib.import_module(_name)
