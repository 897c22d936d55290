"""Own addresses, and those of others."""

from ipaddress import ip_address

import pytest

from skerry.node.reach.interfaces import is_own


def test_loopback_is_ours() -> None:
    assert is_own(ip_address("127.0.0.1"))


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
def test_addresses_for_documentation_are_nobodys(address: str) -> None:
    assert not is_own(ip_address(address))
