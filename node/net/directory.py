"""Who is in the run: member records in hivemind's DHT, each signed by the peer it names.

All records of a run lie under one key, with the peer id as subkey. Every DHT node checks what it
is asked to store and what it is given (record_validator.py), so that nobody can write into
another peer's place, keep a record alive longer than its author wanted, or fill the store. The
DHTNode runs in our event loop on the transport's p2pd; when p2pd was restarted a new one is
made, which finds the others again and publishes our own record.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterable
from itertools import islice
from typing import Any

from hivemind.dht.node import DHTNode
from hivemind.dht.routing import DHTID
from hivemind.p2p import PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError

from skerry.node.net.p2pd import P2pdTransport
from skerry.node.net.record_validator import (
    MAX_RECORD_BYTES,
    Admit,
    MemberValidator,
    run_key,
)
from skerry.protocol.codec import encode_envelope
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import PeerId, RunId
from skerry.protocol.messages import SignedMember
from skerry.protocol.token import split_bootstrap

_LOG = logging.getLogger(__name__)
_REPLICAS = 8
# Peers to look for after a restart of p2pd, besides the bootstrap peers.
_REMEMBERED = 32
_RPC_SECONDS = 5.0
# Dead peers cost an RPC's patience each, several at once: this is for a swarm in bad shape.
_SEARCH_SECONDS = 60.0
_CLOSE_SECONDS = 3.0


class Directory:
    """The member records of one run; make one with ``create``."""

    def __init__(self, transport: P2pdTransport, validator: MemberValidator, run_id: RunId) -> None:
        """Use ``create`` instead."""
        self._transport, self._validator = transport, validator
        self._key = run_key(run_id)
        self._bootstrap: dict[PeerId, tuple[str, ...]] = {}
        self._seen: dict[PeerId, tuple[str, ...]] = {}
        self._published: SignedMember | None = None
        self._node: DHTNode | None = None
        self._closed = False

    @classmethod
    async def create(
        cls,
        transport: P2pdTransport,
        initial_peers: Iterable[str],
        run_id: RunId,
        admit: Admit | None = None,
    ) -> "Directory":
        """Take part in the run's DHT.

        Args:
            initial_peers: full multiaddrs with ``/p2p/ID``; none for the first peer. It is no
                error if none answers: call ``bootstrap`` again.
            admit: raises ProtocolError for records of peers that may not take part, whatever
                the time (one refusal spoils the whole answer that holds the record); without
                it any peer may take a place.
        Raises: PeerUnavailable if p2pd is being restarted.
        """
        self = cls(transport, MemberValidator(run_id, admit), run_id)
        await self._start_node()
        transport.add_restart_hook(self._after_restart)
        await self.bootstrap(initial_peers)
        return self

    @property
    def refused(self) -> dict[str, int]:
        """How many records of others were refused, by reason."""
        return dict(self._validator.refused)

    async def bootstrap(self, peers: Iterable[str]) -> int:
        """Connect to peers by full multiaddrs and learn whom they know; return how many answered.

        They are remembered for the time after a restart of p2pd; malformed ones are passed over.
        Raises: PeerUnavailable if the directory is closed.
        """
        found = _by_peer(peers)
        found.pop(self._transport.peer_id, None)
        self._bootstrap |= found
        return await self._meet(found)

    async def publish(self, record: SignedMember) -> bool:
        """Store our record until its own expiry, and again after each restart of p2pd.

        Returns: whether a node took it; none does if it holds a newer one or the same.
        Raises: ProtocolError if the record is too large or no node would accept it;
            PeerUnavailable if the DHT does not answer.
        """
        value = encode_envelope(record.envelope)
        if len(value) > MAX_RECORD_BYTES:
            raise ProtocolError("size", f"record of {len(value)} bytes, limit {MAX_RECORD_BYTES}")
        self._validator.check(record)
        self._published = record
        stored = await self._patiently(
            self._running().store(
                self._key,
                value,
                expiration_time=float(record.message.expires_at),
                subkey=str(record.signer),
            ),
            "publish",
        )
        return bool(stored)

    async def members(self) -> list[SignedMember]:
        """Return the verified, unexpired records of all peers, sorted by peer id.

        Raises: PeerUnavailable if the DHT does not answer.
        """
        found = await self._patiently(self._running().get(self._key, latest=True), "members")
        entries = found.value if found is not None and isinstance(found.value, dict) else {}
        members = []
        for subkey, entry in entries.items():
            try:
                members.append(self._validator.open(entry.value, subkey))
            except ProtocolError as error:
                _LOG.debug("member record of %s passed over: %s", subkey, error)
        others = (m for m in members if m.signer != self._transport.peer_id)
        self._seen = {m.signer: m.message.addresses for m in islice(others, _REMEMBERED)}
        return sorted(members, key=lambda member: member.signer)

    async def close(self) -> None:
        """Leave the DHT; never raises."""
        self._closed = True
        node, self._node = self._node, None
        if node is not None:
            await _shut_down(node)

    async def _meet(self, peers: dict[PeerId, tuple[str, ...]]) -> int:
        answers = await asyncio.gather(*(self._greet(*entry) for entry in peers.items()))
        if any(answers):
            node = self._running()
            await self._patiently(node.find_nearest_nodes([node.node_id]), "bootstrap")
        return sum(answers)

    async def _start_node(self) -> None:
        """Start a DHTNode on the p2pd that runs now."""
        old = self._node
        if old is not None:
            old.is_alive = False  # its p2pd is gone: there are no handlers to take back
        creating = DHTNode.create(
            p2p=self._transport.daemon.p2p,
            # From our id, so that after a restart others still know where we stand.
            node_id=DHTID.generate(source=f"skerry/1/node/{self._transport.peer_id}"),
            record_validator=self._validator,
            num_replicas=_REPLICAS,
            wait_timeout=_RPC_SECONDS,
            # Searches always go to the end, for the newest; caches would only add stale answers.
            cache_locally=False,
            cache_nearest=0,
            cache_on_store=False,
            cache_refresh_before_expiry=0,
            reuse_get_requests=False,
        )
        try:
            self._node = await self._patiently(creating, "start")
        except (P2PDaemonError, OSError) as error:
            raise PeerUnavailable("SK-NET-003", f"p2pd takes no DHT: {error}") from error

    async def _after_restart(self) -> None:
        if self._closed:
            return
        await self._start_node()
        answered = await self._meet(self._bootstrap | self._seen)
        _LOG.info("directory restarted; %d of its peers answered", answered)
        if self._published is not None:
            await self.publish(self._published)

    async def _greet(self, peer: PeerId, addresses: tuple[str, ...]) -> bool:
        """Connect to one peer and take it into the routing table; say whether it answered."""
        protocol, remote = self._running().protocol, PeerID.from_base58(peer)
        try:
            await self._transport.connect(peer, addresses)
        except PeerUnavailable as error:
            _LOG.info("bootstrap peer not reached: %s", error)
            return False
        node_id = await protocol.call_ping(remote)
        if node_id is not None:
            await protocol.update_routing_table(node_id, remote)
        return node_id is not None

    def _running(self) -> DHTNode:
        if self._node is None:
            raise PeerUnavailable("SK-NET-003", "the directory is closed")
        return self._node

    async def _patiently(self, work: Coroutine[Any, Any, Any], what: str) -> Any:  # noqa: ANN401
        """Await hivemind for a bounded time; its results are untyped."""
        try:
            async with asyncio.timeout(_SEARCH_SECONDS):
                return await work
        except TimeoutError:
            detail = f"directory: no end of {what} after {_SEARCH_SECONDS:.0f} s"
            raise PeerUnavailable("SK-NET-003", detail) from None


async def _shut_down(node: DHTNode) -> None:
    # Without p2pd there is nobody to answer, and nothing to take back.
    with contextlib.suppress(TimeoutError, P2PDaemonError, OSError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await node.shutdown()


def _by_peer(multiaddrs: Iterable[str]) -> dict[PeerId, tuple[str, ...]]:
    found: dict[PeerId, tuple[str, ...]] = {}
    for multiaddr in multiaddrs:
        try:
            peer, address = split_bootstrap(multiaddr)
        except ProtocolError as error:
            _LOG.warning("bootstrap address %r passed over: %s", multiaddr, error)
            continue
        found[peer] = (*found.get(peer, ()), address)
    return found
