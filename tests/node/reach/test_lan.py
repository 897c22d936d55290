from ipaddress import ip_address

from skerry.node.net.multiaddrs import Endpoint
from skerry.node.reach.lan import MAX_ADDRESSES, Neighbours, local_addresses
from skerry.protocol.ids import PeerId


def packed(*texts: str) -> list[bytes]:
    return [ip_address(text).packed for text in texts]


def test_of_a_neighbour_only_what_a_local_network_has_is_dialled() -> None:
    told = packed("192.168.1.2", "51.10.0.1", "127.0.0.1", "224.0.0.1", "0.0.0.0", "10.0.0.3")
    assert local_addresses(told, 4001) == ("/ip4/192.168.1.2/tcp/4001", "/ip4/10.0.0.3/tcp/4001")
    assert local_addresses(told, 0) == local_addresses(told, 2**16) == ()
    many = packed(*(f"10.0.0.{last}" for last in range(1, 20)))
    assert len(local_addresses(many, 1)) == MAX_ADDRESSES
    assert local_addresses([b"", b"12345", bytes(16)], 1) == ()


async def test_without_a_local_address_nothing_is_opened() -> None:
    def nobody(peer: PeerId, addresses: tuple[str, ...]) -> None:
        raise AssertionError(peer)

    neighbours = Neighbours(PeerId("me"), nobody)
    await neighbours.refresh([Endpoint(ip_address(ip), 1) for ip in ("127.0.0.1", "51.10.0.1")])
    await neighbours.settled()
    assert neighbours.addresses(PeerId("other")) == ()
    await neighbours.close()


async def test_an_address_that_is_gone_again_is_passed_over(caplog) -> None:
    neighbours = Neighbours(PeerId("me"), lambda peer, addresses: None)
    await neighbours.refresh([Endpoint(ip_address("192.0.2.77"), 1)])  # for examples (RFC 5737)
    assert not caplog.records
    await neighbours.close()
