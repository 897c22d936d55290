"""Taking part in a run: begin an own one, join one by token, or go on after a restart."""

import asyncio
import contextlib
import os
import secrets
import shutil
import time
from dataclasses import dataclass, field

from skerry.node.config import NodeConfig
from skerry.node.home import Home
from skerry.node.net.fetch import Order
from skerry.node.net.node_transport import NodeTransport
from skerry.node.net.rpc import RpcClient
from skerry.node.net.shaping import ShapedTransport, Throttle
from skerry.node.reach.keeper import Reachability
from skerry.node.run.context import RunContext
from skerry.node.run.journal import Journal
from skerry.node.run.offering import offer_of
from skerry.node.run.orders import check_owner
from skerry.node.run.own_speed import with_speed
from skerry.node.run.peers import RECORD_SECONDS, hello, member_record
from skerry.node.run.record import Recorder, initial_state, start_of
from skerry.node.run.session import Discovery, Session
from skerry.node.run.store import RunStore
from skerry.pipeline.capacity import needed_bytes
from skerry.pipeline.codecs import payload_limits
from skerry.protocol.blobs import BlobStore, write_atomic
from skerry.protocol.codec import (
    MAX_ADDRESSES,
    MAX_INVITE_USES,
    envelope_from_pb,
    open_member,
)
from skerry.protocol.errors import (
    ConfigError,
    NetworkError,
    OrderError,
    ProtocolError,
    TokenError,
)
from skerry.protocol.fields import NONCE_BYTES
from skerry.protocol.ids import PeerId, RunId
from skerry.protocol.launch import Launch
from skerry.protocol.manifest import Manifest, parse_canonical, parse_run_file
from skerry.protocol.messages import Envelope, Kind, Offer, RoleOffer, SignedMember
from skerry.protocol.quota import Quotas
from skerry.protocol.signing import Signer, verify
from skerry.protocol.token import (
    JoinToken,
    check_invite,
    decode_token,
    encode_token,
    make_invite,
)

JOIN_SECONDS = 25.0
"""For all bootstrap peers together: whoever types the command is waiting."""
MAX_INVITE_SECONDS = 10 * 365 * 86400


@dataclass(frozen=True, slots=True)
class NodeParts:
    """What of the daemon a run is made from."""

    home: Home
    config: NodeConfig
    signer: Signer
    transport: NodeTransport
    client: RpcClient
    journal: Journal
    discovery: Discovery | None = None
    """How a run finds its members besides greeting those it knows."""
    reach: Reachability | None = None
    """How this node is reached; None where the transport alone knows."""
    quotas: Quotas = field(default_factory=Quotas)
    """What peers may ask of this node, in whatever run."""
    shaped: ShapedTransport | None = None
    """The transport with the node's limits; None where there are none."""

    async def prepare(self, bootstrap: tuple[str, ...]) -> None:
        """Learn of peers and relays by full multiaddrs, and find out our own addresses."""
        if self.reach is not None:
            await self.reach.prepare(bootstrap)


@dataclass(frozen=True, slots=True)
class Opened:
    """A run that is ready to begin, and what others join it with."""

    session: Session
    members: tuple[SignedMember, ...]
    token: str


async def begin(parts: NodeParts, toml: str, nonce: bytes) -> Opened:
    """Start a run that this node owns. Raises: SkerryError; then nothing is left behind."""
    manifest = parse_run_file(toml, parts.signer.peer_id)
    expires_at = int(time.time() + manifest.admission.invite_lifetime)
    await parts.prepare(())
    token = JoinToken(
        bootstrap=_full_addresses(parts),
        run_id=manifest.run_id,
        owner=manifest.owner,
        invite=make_invite(parts.signer, manifest.run_id, expires_at, nonce)
        if manifest.admission.mode == "invite"
        else None,
    )
    envelope = parts.signer.sign(Kind.MANIFEST, manifest.canonical())
    return await _open(parts, envelope, token, ())


async def join(parts: NodeParts, text: str) -> Opened:
    """Join a run by its token. Raises: SkerryError; then nothing is left behind."""
    token = decode_token(text)
    check_invite(token, time.time())
    if token.owner == parts.signer.peer_id:
        raise ConfigError("SK-CFG-002", "this node owns the run; others join with the token")
    await parts.prepare(token.bootstrap)
    envelope, members = await _fetch_manifest(parts, token)
    return await _open(parts, envelope, token, members)


async def go_on(parts: NodeParts, run_id: RunId) -> Opened:
    """Continue a run of which this node kept manifest and token. Raises: SkerryError, OSError."""
    envelope, text = RunStore(parts.home.run(run_id)).load_manifest()
    token = decode_token(text)
    await parts.prepare(token.bootstrap)
    return await _open(parts, envelope, token, ())


async def _open(
    parts: NodeParts, envelope: Envelope, token: JoinToken, members: tuple[SignedMember, ...]
) -> Opened:
    manifest = check_manifest(envelope, token)
    folder = parts.home.run(token.run_id).folder
    text = encode_token(token)
    # The compute process checks it too, but only after we have laid out all of the model's tiles.
    offer = offer_of(parts.config.compute, manifest, parts.signer.peer_id == manifest.owner)
    async with contextlib.AsyncExitStack() as undo:
        if not folder.exists():
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
        offer = await with_speed(offer, manifest, _threads(parts), folder / "speed.json")
        session = _session(parts, manifest, envelope, token, offer)
        undo.push_async_callback(session.close)
        await session.start()
        session.context.store.save_manifest(envelope, text)
        write_atomic(parts.home.path / CURRENT_FILE, token.run_id.encode())
        undo.pop_all()
    if parts.signer.peer_id in manifest.standby:  # the first owner's machine may be gone
        text = encode_token(new_token(parts, session.context))
    return Opened(session, members, text)


def new_token(
    parts: NodeParts, context: RunContext, lifetime_s: float = 0.0, max_uses: int = 0
) -> JoinToken:
    """Return a token that this node, which owns the run or stands by, gives to others.

    It names this node first, and then whoever its own token named.

    Args:
        lifetime_s: of the invite in it; 0: as the manifest says.
        max_uses: how many peers may come by it; 0: any number.
    Raises: OrderError.
    """
    check_owner(context)
    manifest = context.manifest
    invite: Envelope | None = None
    if max_uses > MAX_INVITE_USES or (max_uses and manifest.admission.mode != "invite"):
        detail = f"this run's tokens hold no invite for {max_uses} peers"
        raise OrderError("SK-OWN-002", detail)
    if not 0 <= lifetime_s <= MAX_INVITE_SECONDS:
        detail = f"an invite lasts up to {MAX_INVITE_SECONDS // 86400} days, not {lifetime_s} s"
        raise OrderError("SK-OWN-002", detail)
    if manifest.admission.mode == "invite":
        expires_at = int(time.time() + (lifetime_s or manifest.admission.invite_lifetime))
        nonce = secrets.token_bytes(NONCE_BYTES)
        invite = make_invite(parts.signer, manifest.run_id, expires_at, nonce, max_uses)
    addresses = dict.fromkeys((*_full_addresses(parts), *context.bootstrap))
    bootstrap = tuple(addresses)[:MAX_ADDRESSES]
    return JoinToken(bootstrap, manifest.run_id, manifest.owner, invite)


CURRENT_FILE = "current"
"""Names the run that a daemon goes on with when it starts."""


def check_manifest(envelope: Envelope, token: JoinToken) -> Manifest:
    """Check that a manifest is the one the token names, and the token one of its owners'.

    Raises: TokenError("SK-MAN-001") or TokenError("SK-TOK-002").
    """
    try:
        if envelope.kind is not Kind.MANIFEST or envelope.signer != token.owner:
            raise ProtocolError("signature", "it is not signed by the run's owner")
        verify(envelope)
        manifest = parse_canonical(envelope.body)
    except (ProtocolError, ConfigError) as error:
        raise TokenError("SK-MAN-001", f"the manifest is not valid: {error.detail}") from None
    if manifest.run_id != token.run_id or manifest.owner != token.owner:
        raise TokenError("SK-MAN-001", f"it is the manifest of run {manifest.run_id[:8]}")
    if token.invite is not None and token.invite.signer not in manifest.owner_keys:
        raise TokenError("SK-TOK-002", f"{token.invite.signer} may not invite to this run")
    return manifest


def _session(
    parts: NodeParts, manifest: Manifest, envelope: Envelope, token: JoinToken, offer: Offer
) -> Session:
    home = parts.home.run(token.run_id)
    store, blobs = RunStore(home), BlobStore(home.blobs)
    blobs.clear_leftovers()
    me, gap = parts.signer.peer_id, parts.config.heartbeat.interval
    replica_bytes = needed_bytes(manifest)
    start = start_of(
        me,
        manifest.canonical(),
        payload_limits(manifest),
        gap,
        time.monotonic(),
        replica_bytes=replica_bytes,
        whole=offer.is_whole(replica_bytes),
    )
    context = RunContext(
        signer=parts.signer,
        manifest=manifest,
        manifest_envelope=envelope,
        invite=token.invite if me not in manifest.owner_keys else None,
        transport=parts.shaped or parts.transport,
        client=parts.client,
        upload=parts.shaped.up if parts.shaped else Throttle(),
        store=store,
        blobs=blobs,
        journal=parts.journal,
        quotas=parts.quotas,
        state=initial_state(start, store.chain),
        heartbeat_s=gap,
        announced=parts.config.listen.announce,
        bootstrap=token.bootstrap,
        facts=store.load_facts(),
        offer=offer,
    )
    launch = Launch(
        manifest=manifest.canonical().decode(),
        store=str(home.blobs),
        folder=str(home.compute),
        author=me,
        threads=_threads(parts),
    )
    recorder = Recorder(home.folder / "events.record.jsonl", start)
    order: Order = parts.reach.in_order if parts.reach is not None else tuple
    return Session(context, launch, parts.home.compute_log, recorder, parts.discovery, order)


def _threads(parts: NodeParts) -> int:
    return parts.config.compute.threads or len(os.sched_getaffinity(0))


async def _fetch_manifest(
    parts: NodeParts, token: JoinToken
) -> tuple[Envelope, tuple[SignedMember, ...]]:
    """Ask all bootstrap peers at once; the first that gives the token's manifest is believed.

    Raises: NetworkError("SK-NET-001") if none can be reached; otherwise what is wrong with those
        that answered: TokenError("SK-MAN-001") or ProtocolError.
    """
    refusals: list[TokenError | ProtocolError] = []
    failures: list[str] = []
    asking = [
        asyncio.create_task(_ask_manifest(parts, token, peer, addresses))
        for peer, addresses in _bootstrap_peers(token).items()
    ]
    try:
        for answer in asyncio.as_completed(asking, timeout=JOIN_SECONDS):
            try:
                return await answer
            except NetworkError as error:
                failures.append(error.detail)
            except (TokenError, ProtocolError) as error:
                refusals.append(error)
    except TimeoutError:
        failures.append(f"no answer within {JOIN_SECONDS:.0f} s")
    finally:
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
    if refusals:
        raise refusals[0]
    raise NetworkError("SK-NET-001", "; ".join(failures))


async def _ask_manifest(
    parts: NodeParts, token: JoinToken, peer: PeerId, addresses: tuple[str, ...]
) -> tuple[Envelope, tuple[SignedMember, ...]]:
    own = (*parts.config.listen.announce, *parts.transport.addresses)
    # What can be hosted follows from the manifest, which is still to come; so does a newer record.
    offer, until = Offer(RoleOffer.STAGE), int(time.time()) + RECORD_SECONDS // 2
    record = member_record(parts.signer, token.run_id, own, token.invite, offer, until)
    await parts.transport.connect(peer, addresses)
    reply = await hello(parts.client, token.run_id, peer, record)
    envelope = envelope_from_pb(reply.manifest)
    check_manifest(envelope, token)
    return envelope, tuple(open_member(envelope_from_pb(m)) for m in reply.members)


def _bootstrap_peers(token: JoinToken) -> dict[PeerId, tuple[str, ...]]:
    """Group the token's full multiaddrs by peer."""
    peers: dict[PeerId, tuple[str, ...]] = {}
    for full in token.bootstrap:
        address, _, name = full.rpartition("/p2p/")
        peers[PeerId(name)] = (*peers.get(PeerId(name), ()), address)
    return peers


def _full_addresses(parts: NodeParts) -> tuple[str, ...]:
    addresses = (*parts.config.listen.announce, *parts.transport.addresses)
    return tuple(f"{address}/p2p/{parts.signer.peer_id}" for address in addresses)
