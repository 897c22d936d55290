from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node.net.multiaddrs import circuit
from skerry.node.reach.relays import (
    MAX_HELD,
    RENEW_BEFORE_S,
    RETRY_S,
    WANTED,
    Place,
    Refusal,
    candidates,
    to_ask,
)
from skerry.protocol.signing import Signer

ME, *RELAYS = (Signer(Ed25519PrivateKey.generate()).peer_id for _ in range(7))
PUBLIC = "/ip4/51.10.0.1/tcp/4001"


def place(relay: str, until: float = 3600.0, size: int = 2**32) -> Place:
    return Place(relay, (PUBLIC,), until, size, 1800.0)


def test_candidates_are_public_peers_and_relays_that_others_use() -> None:
    known = [
        f"{PUBLIC}/p2p/{RELAYS[0]}",
        f"/ip4/192.168.1.1/tcp/1/p2p/{RELAYS[1]}",
        f"{circuit(PUBLIC, RELAYS[2])}/p2p/{RELAYS[1]}",
        f"/dns4/example.org/tcp/1/p2p/{RELAYS[3]}",
        f"{PUBLIC}/p2p/{ME}",
        "rubbish",
        f"/ip4/51.10.0.2/tcp/1/p2p/{RELAYS[0]}",
    ]
    found = candidates(known, ME)
    assert list(found) == [RELAYS[0], RELAYS[2], RELAYS[3]]
    assert found[RELAYS[0]] == (PUBLIC, "/ip4/51.10.0.2/tcp/1")


def test_as_many_are_asked_as_are_missing() -> None:
    assert to_ask(RELAYS, {}, {}, 0.0) == RELAYS[:WANTED]
    held = {RELAYS[0]: place(RELAYS[0])}
    assert to_ask(RELAYS, held, {}, 0.0) == RELAYS[1:WANTED]


def test_a_place_is_renewed_before_it_ends() -> None:
    held = {relay: place(relay) for relay in RELAYS[:WANTED]}
    assert to_ask(RELAYS, held, {}, 3600.0 - RENEW_BEFORE_S) == []
    assert to_ask(RELAYS, held, {}, 3601.0 - RENEW_BEFORE_S) == RELAYS[:WANTED]


def test_small_places_do_not_count_but_are_bounded() -> None:
    held = {RELAYS[0]: place(RELAYS[0], size=128 * 1024)}
    assert to_ask(RELAYS, held, {}, 0.0) == RELAYS[1 : 1 + WANTED]
    held = {relay: place(relay, size=128 * 1024) for relay in RELAYS[:MAX_HELD]}
    assert to_ask(RELAYS, held, {}, 0.0) == []
    assert not place(RELAYS[0], size=0).is_small  # without limit


def test_who_refused_is_left_alone_ever_longer() -> None:
    for times, wait in enumerate(RETRY_S, start=1):
        refused = {RELAYS[0]: Refusal(times, 10.0)}
        assert to_ask(RELAYS[:1], {}, refused, 9.9 + wait) == []
        assert to_ask(RELAYS[:1], {}, refused, 10.0 + wait) == RELAYS[:1]
    assert to_ask(RELAYS[:1], {}, {RELAYS[0]: Refusal(99, 0.0)}, RETRY_S[-1]) == RELAYS[:1]


def test_a_place_tells_the_addresses_it_gives() -> None:
    assert place(RELAYS[0]).circuits() == (f"{PUBLIC}/p2p/{RELAYS[0]}/p2p-circuit",)
