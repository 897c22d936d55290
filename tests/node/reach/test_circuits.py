import asyncio

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry.node.net.p2pd import P2pdOptions
from skerry.node.reach import circuits
from skerry.node.reach.circuits import CircuitsWatch, carries_payloads, start_transport


@pytest.mark.integration
async def test_a_relay_carries_payloads_also_after_its_restart(tmp_path) -> None:
    options = P2pdOptions(run_dir=tmp_path, nat=True, reachability="public")
    relay = await start_transport(options, Ed25519PrivateKey.generate())
    is_settled = asyncio.Event()

    async def settle() -> None:
        if await carries_payloads(relay):
            is_settled.set()

    relay.add_restart_hook(settle)
    try:
        assert await carries_payloads(relay)
        relay.daemon.replace()
        await is_settled.wait()
    finally:
        await relay.close()


class Daemon:
    def __init__(self) -> None:
        self.replaced = 0

    def replace(self) -> None:
        self.replaced += 1


class Relay:
    def __init__(self) -> None:
        self.daemon = Daemon()


async def test_a_relay_that_stays_small_is_not_restarted_forever(monkeypatch, caplog) -> None:
    carried = False

    async def carries(_) -> bool:
        return carried

    monkeypatch.setattr(circuits, "carries_payloads", carries)
    relay = Relay()
    watch = CircuitsWatch(relay)
    for _ in range(circuits._TRIES + 5):
        await watch.look()
    assert relay.daemon.replaced == circuits._TRIES
    assert "only small circuits" in caplog.text
    carried = True
    await watch.look()
    carried = False
    await watch.look()
    assert relay.daemon.replaced == circuits._TRIES + 1
