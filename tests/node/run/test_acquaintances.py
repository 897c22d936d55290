"""Whom a node without a directory asks for members."""

from random import Random
from types import SimpleNamespace

from skerry.node.run.acquaintances import FEW, whom_to_ask
from skerry.protocol.ids import PeerId
from skerry.protocol.signing import peer_id_of

PEERS = [peer_id_of(bytes([number]) * 32) for number in range(1, 12)]
ME = peer_id_of(bytes(32))


def address(peer: PeerId) -> str:
    return f"/ip4/192.0.2.{PEERS.index(peer) + 1}/tcp/1"


def world(members: list[PeerId], greeted: list[PeerId], bootstrap: list[PeerId], removal=None):
    records = {
        peer: SimpleNamespace(message=SimpleNamespace(addresses=(address(peer),)))
        for peer in members
    }
    rounds = SimpleNamespace(members=records, removal=removal)
    context = SimpleNamespace(
        me=ME,
        state=SimpleNamespace(rounds=rounds),
        bootstrap=(f"/ip4/192.0.2.99/tcp/1/p2p/{ME}", *(f"/any/p2p/{peer}" for peer in bootstrap)),
    )
    return context, SimpleNamespace(greeted=frozenset(greeted))


def test_a_few_of_those_who_answered_are_asked_and_all_when_it_is_due() -> None:
    context, peers = world(members=PEERS, greeted=PEERS[:8], bootstrap=PEERS[:1])
    asked = whom_to_ask(context, peers, Random(1), everyone=False)
    assert len(asked) == FEW
    assert asked.keys() <= set(PEERS[:8])
    assert all(addresses == (address(peer),) for peer, addresses in asked.items())
    assert whom_to_ask(context, peers, Random(1), everyone=True).keys() == set(PEERS[:8])
    over_time = {
        peer
        for seed in range(40)
        for peer in whom_to_ask(context, peers, Random(seed), everyone=False)
    }
    assert over_time == set(PEERS[:8])


def test_peers_of_the_token_are_asked_until_they_have_answered() -> None:
    context, peers = world(members=[], greeted=[], bootstrap=[PEERS[0], PEERS[1], PEERS[0]])
    asked = whom_to_ask(context, peers, Random(1), everyone=False)
    assert asked == {PEERS[0]: ("/any", "/any"), PEERS[1]: ("/any",)}
    context, peers = world(members=PEERS[:1], greeted=PEERS[:1], bootstrap=PEERS[:2])
    asked = whom_to_ask(context, peers, Random(1), everyone=False)
    assert asked == {PEERS[0]: (address(PEERS[0]),), PEERS[1]: ("/any",)}


def test_a_removed_peer_asks_nobody() -> None:
    context, peers = world(members=PEERS, greeted=PEERS, bootstrap=PEERS, removal="why")
    assert whom_to_ask(context, peers, Random(1), everyone=True) == {}
