"""How this node is reached, kept up to date: looks, places at relays, holes, announcements.

One task goes around every few seconds, and as soon as there is news. It asks directly connected
peers where they see us and whether they can dial us back, concludes from that (nat.py), holds
places at relays while others cannot dial us (relays.py), tries to get from relayed connections
to direct ones (punching.py), and keeps to the local networks that this machine is in (lan.py).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from skerry.node.net.multiaddrs import Endpoint, Ip, Scope, endpoint_of, is_relayed
from skerry.node.net.sources import Link, in_order
from skerry.node.net.tasks import OwnedTasks
from skerry.node.reach.asking import look, take_place
from skerry.node.reach.interfaces import is_own
from skerry.node.reach.lan import Neighbours, OnFound
from skerry.node.reach.nat import Observation, Standing, Verdict, judge
from skerry.node.reach.relays import Place, Refusal, candidates, to_ask
from skerry.node.reach.service import ReachService
from skerry.node.reach.upgrade import Upgrades
from skerry.protocol.errors import PeerUnavailable, ProtocolError
from skerry.protocol.ids import PeerId, short

if TYPE_CHECKING:  # it imports hivemind, which not every node has
    from skerry.node.net.p2pd import P2pdTransport

_LOG = logging.getLogger(__name__)
GAP_SECONDS = 3.0
"""Between two rounds."""
SETTLE_SECONDS = 10.0
"""How long whoever needs our addresses waits for the first round."""
LOOK_AGAIN_SECONDS = 300.0
"""After this a peer is asked again, in case a router or a firewall was changed."""
_CONNECT_SECONDS = 5.0
_MAX_OBSERVERS = 4
_MAX_OBSERVATIONS = 32

Members = Mapping[PeerId, tuple[str, ...]]
"""Who takes part in the run, and under which addresses."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is asked by the keeper, and told."""

    members: Callable[[], Members]
    """Returns the other members of the run; none while there is no run."""
    met: Callable[[], Collection[PeerId]]
    """Returns those of them that have answered us in the run, so that it knows us, too."""
    on_addresses: Callable[[], None]
    """Told that this node's addresses, or what is known of them, are other than before."""
    on_link: Callable[[PeerId, Link], None]
    """Told that a member is now connected in this way."""
    on_neighbour: OnFound
    """Told that a peer is in the local network, and where."""


class Reachability:
    """The daemon's knowledge of how it is reached; ``keep`` must run beside it."""

    def __init__(
        self, transport: "P2pdTransport", relays: Iterable[str], lan: bool, listener: Listener
    ) -> None:
        """Begin without knowledge.

        Args:
            relays: full multiaddrs that the settings name.
            lan: whether to find peers in the local network, and be found there.
        """
        self._transport, self._listener = transport, listener
        self._told: dict[str, None] = dict.fromkeys(relays)
        self._members: Members = {}
        self._member_links: dict[PeerId, Link] = {}
        self._own: frozenset[Ip] = frozenset()
        self._observations: list[Observation] = []
        self._looked: dict[PeerId, float] = {}
        self._asked_ports: frozenset[int] = frozenset()
        self._places: dict[PeerId, Place] = {}
        self._refusals: dict[PeerId, Refusal] = {}
        self._known: tuple[tuple[str, ...], Standing] = (transport.addresses, Standing())
        self._wake, self._settled = asyncio.Event(), asyncio.Event()
        self._tasks = OwnedTasks()
        self._upgrades = Upgrades(transport, self._tasks, self._wake.set)
        self._service = ReachService(
            transport, lambda: self.standing.outer, lambda peer: peer in listener.members()
        )
        self._lan = Neighbours(transport.peer_id, self._meet) if lan else None
        self.standing = Standing()
        """What is known of the way here."""
        self.links: dict[PeerId, Link] = {}
        """How each connected peer is connected."""

    @property
    def places(self) -> tuple[Place, ...]:
        """The places held at relays."""
        return tuple(self._places.values())

    @property
    def port(self) -> int:
        """The TCP port that this node listens on."""
        return self._transport.daemon.port

    @property
    def beyond(self) -> bool:
        """Whether other peers may be beyond NATs; false on loopback."""
        return self._transport.daemon.options.traverses_nat

    @property
    def names_as_relay(self) -> tuple[str, ...]:
        """What others write into their settings to be reached through us, if we are a relay."""
        if not self._transport.daemon.options.is_relay:
            return ()
        addresses = [a for a in self._transport.addresses if not is_relayed(a)]
        public = [a for a in addresses if (e := endpoint_of(a)) and e.scope is Scope.PUBLIC]
        return tuple(f"{a}/p2p/{self._transport.peer_id}" for a in public or addresses)

    def in_order(self, holders: Sequence[PeerId]) -> tuple[PeerId, ...]:
        """Return whom to ask first for bytes that ``holders`` have."""
        return in_order(holders, self.links)

    async def start(self) -> None:
        """Answer others and go around from now on; does nothing on loopback."""
        if not self._transport.daemon.options.traverses_nat:
            self._settled.set()
        if self._lan is not None:
            self._transport.ways.hints = self._lan.addresses
        await self._service.start()
        self._tasks.start(self._keep(), "reachability")

    async def close(self) -> None:
        """Stop; holes end with it. Never raises."""
        await self._tasks.cancel()
        await self._service.close()
        if self._lan is not None:
            await self._lan.close()

    async def prepare(self, addresses: Iterable[str]) -> None:
        """Learn of peers by full multiaddrs, and return when our own addresses are known.

        Bounded in time: a relay that does not answer must not stop anyone.
        """
        self._told |= dict.fromkeys(addresses)
        if not self._transport.daemon.options.traverses_nat:
            return
        self._settled.clear()
        self._wake.set()
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._settled.wait()
        except TimeoutError:
            _LOG.warning("how this node can be reached is not known yet")
        if self._lan is not None:
            await self._lan.settled()

    def network_is_down(self) -> None:
        """Begin anew: with the network process all places have ended."""
        self._places, self._looked, self.links, self._member_links = {}, {}, {}, {}

    async def _keep(self) -> None:
        while True:
            asked_for = not self._settled.is_set()
            self._wake.clear()
            try:
                await self._go_around()
            except PeerUnavailable as error:
                _LOG.info("reachability: %s", error)
            if asked_for:
                self._settled.set()
            try:
                async with asyncio.timeout(GAP_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _go_around(self) -> None:
        self._members = self._listener.members()
        connections = await self._transport.daemon.client.connections()
        self.links = links_of(connections)
        # Of members, not of all: a peer connects to us before it is one, to be let into the run.
        before = self._member_links
        self._member_links = {p: x for p, x in self.links.items() if p in self._members}
        for peer, link in self._member_links.items():
            if link != before.get(peer):
                self._listener.on_link(peer, link)
        if self._transport.daemon.options.traverses_nat:
            await self._settle_in(connections)
            await self._find_out(connections)

    async def _settle_in(self, connections: Iterable[tuple[PeerId, str]]) -> None:
        """Notice that this machine is in another network, or has another address in it."""
        own = [e for a in self._transport.daemon.addresses if (e := endpoint_of(a))]
        before, self._own = self._own, outward(own) or self._own  # none: between two networks
        if is_elsewhere(before, self._own):
            # It would take p2pd most of a minute to find out that its connections are dead.
            _LOG.info("this machine has moved to %s", ", ".join(map(str, self._own)))
            gone = {peer for peer, _ in connections}
            await asyncio.gather(*(self._transport.disconnect(peer) for peer in gone))
        if self._lan is not None:
            await self._lan.refresh(own)

    async def _find_out(self, connections: tuple[tuple[PeerId, str], ...]) -> None:
        self._look_at(connections)
        if self.standing.verdict is not Verdict.REACHABLE:
            await self._keep_places(connections)
        else:
            self._places = {}
        self._transport.ways.announced = self._ways()
        met = self._listener.met()  # others would refuse: whoever is still joining knows no member
        relayed = {
            peer: (*self._near(peer), *addresses)
            for peer, addresses in self._members.items()
            if peer in met and self.links.get(peer) == "relayed"
        }
        self._upgrades.try_due(relayed, self.standing)
        known = (self._transport.addresses, self.standing)
        if known != self._known:
            self._known = known
            self._listener.on_addresses()

    def _near(self, peer: PeerId) -> tuple[str, ...]:
        return self._lan.addresses(peer) if self._lan is not None else ()

    def _meet(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        self._listener.on_neighbour(peer, addresses)
        self._wake.set()

    def _look_at(self, connections: Iterable[tuple[PeerId, str]]) -> None:
        """Ask some of those who are connected over the internet; their answers wake us.

        A firewall that drops what it does not expect keeps them busy for seconds.
        """
        due = time.monotonic() - LOOK_AGAIN_SECONDS
        asked, self._asked_ports = self._asked_ports, self._ports_to_ask()
        if self._asked_ports != asked:
            self._looked = {}  # the router has mapped a port since: it may lead here
        far = {p for p, a in connections if (e := endpoint_of(a)) and e.scope is Scope.PUBLIC}
        self._looked = {p: at for p, at in self._looked.items() if p in far}
        new = [p for p in sorted(far) if self._looked.get(p, due - 1) < due][:_MAX_OBSERVERS]
        for peer in new:
            self._looked[peer] = time.monotonic()
            self._tasks.start(self._ask_to_look(peer), f"question to {peer}")

    async def _ask_to_look(self, peer: PeerId) -> None:
        try:
            found = await look(self._transport, peer, sorted(self._ports_to_ask()))
        except (PeerUnavailable, ProtocolError) as error:
            _LOG.info("%s did not tell where it sees us: %s", short(peer), error)
            return
        # Of what it said before, as of who is gone, only the outer ports still count: they show
        # what NAT there is.
        others = self._looked.keys() - {peer}
        old = (
            o if o.observer in others else replace(o, answered=frozenset())
            for o in self._observations
        )
        kept = [o for o in dict.fromkeys(old) if o not in found]
        self._observations = [*kept, *found][-_MAX_OBSERVATIONS:]
        self._conclude()

    def _ports_to_ask(self) -> frozenset[int]:
        """Return where others may lead to us: the port listened on, and any that was mapped."""
        own = (endpoint_of(address) for address in self._transport.daemon.addresses)
        mapped = {e.port for e in own if e and e.scope is Scope.PUBLIC}
        return frozenset({self._transport.daemon.port, *mapped})

    def _conclude(self) -> None:
        known = {e.ip for a in self._transport.daemon.addresses if (e := endpoint_of(a))}
        own = {ip for ip in known if is_own(ip)}
        before = self.standing
        self.standing = judge(own, self._transport.daemon.port, self._observations)
        if self.standing != before:
            _LOG.info("reachability: %s", self.standing)
            self._wake.set()

    async def _keep_places(self, connections: Iterable[tuple[PeerId, str]]) -> None:
        """Hold places at relays; one ends with the connection to its relay."""
        now, direct = time.monotonic(), {p for p, a in connections if not is_relayed(a)}
        self._places = {p: x for p, x in self._places.items() if p in direct and x.until > now}
        members = (f"{a}/p2p/{peer}" for peer, at in self._members.items() for a in at)
        found = candidates((*self._told, *members), self._transport.peer_id)
        due = to_ask(found, self._places, self._refusals, now)
        held = {peer: place.addresses for peer, place in self._places.items()}
        ways = held | found
        await asyncio.gather(*(self._take_place(relay, ways[relay]) for relay in due))

    async def _take_place(self, relay: PeerId, addresses: tuple[str, ...]) -> None:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self._transport.connect(relay, addresses)
            self._places[relay] = await take_place(self._transport, relay, addresses)
            self._refusals.pop(relay, None)
        except (PeerUnavailable, ProtocolError, TimeoutError) as error:
            times = self._refusals[relay].times if relay in self._refusals else 0
            self._refusals[relay] = Refusal(times + 1, time.monotonic())
            _LOG.info("no place at relay %s: %s", short(relay), error or "no answer")

    def _ways(self) -> tuple[str, ...]:
        """Return the addresses to announce besides those of this machine."""
        circuits = (c for place in self._places.values() for c in place.circuits())
        return (*map(str, self.standing.open), *circuits)


def links_of(connections: Iterable[tuple[PeerId, str]]) -> dict[PeerId, Link]:
    """Say of each connected peer whether a direct connection leads to it."""
    found: dict[PeerId, Link] = {}
    for peer, address in connections:
        if found.get(peer) != "direct":
            found[peer] = "relayed" if is_relayed(address) else "direct"
    return found


def outward(own: Iterable[Endpoint]) -> frozenset[Ip]:
    """Return the IP addresses by which a machine is connected to others."""
    return frozenset(endpoint.ip for endpoint in own if endpoint.scope is not Scope.LOOPBACK)


def is_elsewhere(before: Collection[Ip], now: Collection[Ip]) -> bool:
    """Say whether none of the addresses is left from which connections were made.

    While one is, they may well live: machines with several come and go in some networks.
    """
    return bool(before) and not set(before) & set(now)
