"""The transport in memory: peers of one process on a network with delay, loss and partitions.

All randomness comes from one seed, all time from the running loop: on a VirtualTimeLoop the same
program gives the same trace. On an ordinary loop it works just as well, in real time.

What a stream does here:
- Its bytes arrive in order; different streams overtake each other (jitter, loss).
- Loss delays (link.py); only many losses in a row reset the stream.
- A partition stalls what crosses it. If it heals within ``Limits.stall_s`` the bytes go on,
  else both ends are reset and the connection is gone.
- A killed peer resets its streams at the other ends as soon as the news can travel there; one
  whose machine lost power stays silent, like a partition around it, until it is back.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from skerry.protocol.errors import PeerUnavailable, SkerryError
from skerry.protocol.ids import PeerId, short
from skerry.protocol.link import Link, Wire
from skerry.protocol.memory_stream import Limits, Mark, MemoryStream, stream_pair
from skerry.protocol.transport import ByteStream, StreamHandler

__all__ = ["Delivery", "Limits", "Link", "Mark", "MemoryTransport", "VirtualNetwork"]

_LOG = logging.getLogger(__name__)

Pair = tuple[PeerId, PeerId]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing that arrived: what a trace is made of."""

    at: float
    """Seconds of the loop."""
    source: PeerId
    target: PeerId
    stream: int
    item: bytes | Mark


class VirtualNetwork:
    """The wires between all peers of a simulation."""

    def __init__(
        self,
        seed: int = 0,
        link: Link | None = None,
        limits: Limits | None = None,
        observe: Callable[[Delivery], None] | None = None,
    ) -> None:
        """Start without peers; ``link`` joins every pair until ``set_link`` says otherwise."""
        self.limits = limits or Limits()
        self._seed, self._link, self._observe = seed, link or Link(), observe
        self._wires: dict[Pair, Wire] = {}
        self._transports: dict[PeerId, MemoryTransport] = {}
        self._connected: dict[Pair, None] = {}
        self._streams: dict[int, tuple[MemoryStream, MemoryStream]] = {}
        self._protocols: dict[int, str] = {}
        self._num_streams = self._num_transports = 0
        self._groups: dict[PeerId, int] = {}
        self._powerless: dict[PeerId, None] = {}
        self._stalls: dict[Pair, asyncio.TimerHandle] = {}

    def transport(self, peer: PeerId) -> "MemoryTransport":
        """Return a new endpoint for ``peer``.

        Raises: ValueError if it has one that is neither closed nor crashed.
        """
        if peer in self._transports:
            raise ValueError(f"{peer} is already on the network")
        self._num_transports += 1
        self._transports[peer] = MemoryTransport(self, peer, self._num_transports)
        if peer in self._powerless:
            del self._powerless[peer]
            self._drop_connections(peer)
            for end in self._ends_of(peer):  # a machine that is back knows nothing of them
                end.send(Mark.RESET)
            self._resume()
        return self._transports[peer]

    def set_link(self, source: PeerId, target: PeerId, link: Link) -> None:
        """Change one direction, for all that is sent from now on."""
        self._wire(source, target).link = link

    def set_partition(self, groups: Iterable[Iterable[PeerId]]) -> None:
        """Let only peers of one group reach each other; those not named form one as well."""
        self._groups = {
            peer: number for number, group in enumerate(groups, start=1) for peer in group
        }
        self._stall()
        self._resume()

    def heal(self) -> None:
        """End every partition."""
        self._groups = {}
        self._resume()

    def blocked(self, one: PeerId, other: PeerId) -> bool:
        """Say whether nothing gets from one peer to the other."""
        dark = one in self._powerless or other in self._powerless
        return dark or self._groups.get(one, 0) != self._groups.get(other, 0)

    def crash(self, peer: PeerId, *, power: bool = False) -> None:
        """End a peer's endpoint as if its process were killed or (``power``) its machine died.

        Its stream handlers are cancelled; ``transport(peer)`` makes a new endpoint.
        """
        self._transports.pop(peer).halt()
        if power:
            self._powerless[peer] = None
            self._stall()
        else:
            self._drop_connections(peer)
        for end in self._ends_of(peer):
            if not power and not end.over:
                end.send(Mark.RESET)
            end.reset("this peer has crashed")

    async def connect(self, one: PeerId, other: PeerId) -> bool:
        """Take a round trip to connect two peers; say whether that worked."""
        now = asyncio.get_running_loop().time()
        there = self._wire(one, other).send(0, now)
        back = self._wire(other, one).send(0, there.at)
        took_s = back.at - now
        if self.blocked(one, other) or back.lost or there.lost or took_s > self.limits.connect_s:
            await asyncio.sleep(self.limits.connect_s)
            return False
        await asyncio.sleep(took_s)
        if one not in self._transports or other not in self._transports or self.blocked(one, other):
            return False
        self._connected[_pair(one, other)] = None
        return True

    def connected(self, one: PeerId, other: PeerId) -> bool:
        """Say whether two peers have a connection."""
        return _pair(one, other) in self._connected

    def disconnect(self, one: PeerId, other: PeerId) -> None:
        """End the connection of two peers, and their streams at both ends."""
        self._connected.pop(_pair(one, other), None)
        self._reset_between(_pair(one, other), "the connection was ended")

    def open(self, source: PeerId, target: PeerId, protocol: str) -> MemoryStream:
        """Make a stream, send its opening and return the near end."""
        self._streams = {n: ends for n, ends in self._streams.items() if not _over(ends)}
        self._num_streams += 1
        ends = stream_pair(self._num_streams, (source, target), self.limits, self._transmit)
        self._streams[self._num_streams] = ends
        self._protocols[self._num_streams] = protocol
        ends[0].send(Mark.OPEN)
        return ends[0]

    async def leave(self, peer: PeerId) -> None:
        """Close a peer's streams and take it off the network; what it sent still arrives."""
        for end in self._ends_of(peer):
            await end.close()
        self._transports.pop(peer, None)
        self._drop_connections(peer)

    def _transmit(self, end: MemoryStream, item: bytes | Mark) -> None:
        loop, lane = asyncio.get_running_loop(), end.other.inbound
        if lane.cut:
            return
        size = len(item) if isinstance(item, bytes) else 0
        passage = self._wire(end.owner, end.peer).send(size, loop.time())
        if passage.lost:
            lane.cut = True
            loop.call_at(passage.at, _reset_both, end, "too many losses in a row")
            return
        lane.items.append(item)
        lane.busy_until = max(lane.busy_until, passage.at)
        loop.call_at(lane.busy_until, self._deliver, end.other)

    def _deliver(self, end: MemoryStream) -> None:
        # Timers of one instant run in any order, so each takes whatever comes next in the lane.
        if self.blocked(end.peer, end.owner):
            end.inbound.overdue += 1
            return
        item = end.inbound.items.popleft()
        if self._observe is not None:
            now = asyncio.get_running_loop().time()
            self._observe(Delivery(now, end.peer, end.owner, end.serial, item))
        if item is Mark.OPEN:
            self._accept(end)
        else:
            end.receive(item)

    def _accept(self, end: MemoryStream) -> None:
        endpoint = self._transports.get(end.owner)
        if endpoint is not None and endpoint.serve(end, self._protocols.pop(end.serial)):
            end.send(Mark.ACCEPT)
        else:
            end.send(Mark.RESET)
            end.reset("nobody serves it")

    def _stall(self) -> None:
        """Start the patience of every pair that has just been separated."""
        loop = asyncio.get_running_loop()
        pairs = list(self._connected)
        pairs += [_pair(near.owner, far.owner) for near, far in self._streams.values()]
        for pair in dict.fromkeys(pairs):
            if self.blocked(*pair) and pair not in self._stalls:
                self._stalls[pair] = loop.call_later(self.limits.stall_s, self._sever, pair)

    def _resume(self) -> None:
        """Let everything go on between pairs that are no longer separated."""
        for pair in [pair for pair in self._stalls if not self.blocked(*pair)]:
            self._stalls.pop(pair).cancel()
        loop = asyncio.get_running_loop()
        for end in [end for ends in self._streams.values() for end in ends]:
            lane = end.inbound
            if self.blocked(end.owner, end.peer) or not lane.overdue:
                continue
            again = self._wire(end.peer, end.owner).send(0, loop.time())
            lane.busy_until = max(lane.busy_until, again.at)
            for _ in range(lane.overdue):
                loop.call_at(lane.busy_until, self._deliver, end)
            lane.overdue = 0

    def _sever(self, pair: Pair) -> None:
        del self._stalls[pair]
        self._connected.pop(pair, None)
        self._reset_between(pair, "it stalled for too long")

    def _reset_between(self, pair: Pair, why: str) -> None:
        for near, far in self._streams.values():
            if _pair(near.owner, far.owner) == pair:
                _reset_both(near, why)

    def _wire(self, source: PeerId, target: PeerId) -> Wire:
        # Randomness of its own, so that traffic elsewhere does not change what happens here.
        if (source, target) not in self._wires:
            rng = Random(f"{self._seed}/{source}/{target}")
            self._wires[source, target] = Wire(self._link, rng)
        return self._wires[source, target]

    def _ends_of(self, peer: PeerId) -> list[MemoryStream]:
        return [end for ends in self._streams.values() for end in ends if end.owner == peer]

    def _drop_connections(self, peer: PeerId) -> None:
        self._connected = {pair: None for pair in self._connected if peer not in pair}


class MemoryTransport:
    """One peer's endpoint on a VirtualNetwork; a Transport."""

    def __init__(self, network: VirtualNetwork, peer_id: PeerId, number: int) -> None:
        """Use ``VirtualNetwork.transport`` instead."""
        self._network, self._peer_id = network, peer_id
        self._address = f"/memory/{number}"
        self._handlers: dict[str, StreamHandler] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._closed = False

    @property
    def peer_id(self) -> PeerId:
        """This node's id."""
        return self._peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        """One address, for the sake of form: peers find each other by id."""
        return (self._address,)

    async def connect(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        """Take a round trip to connect; ``addresses`` are not needed. Raises: PeerUnavailable."""
        self._check_open()
        if self._network.connected(self._peer_id, peer):
            return
        if peer == self._peer_id or not await self._network.connect(self._peer_id, peer):
            raise PeerUnavailable("SK-NET-003", f"{short(peer)} cannot be reached")

    async def disconnect(self, peer: PeerId) -> None:
        """End the connection to ``peer`` and all streams on it; never raises."""
        self._network.disconnect(self._peer_id, peer)

    async def open_stream(self, peer: PeerId, protocol: str) -> ByteStream:
        """Open a stream, in a round trip. Raises: PeerUnavailable, also if nobody serves it."""
        self._check_open()
        if not self._network.connected(self._peer_id, peer):
            raise PeerUnavailable("SK-NET-003", f"not connected to {short(peer)}")
        stream = self._network.open(self._peer_id, peer, protocol)
        opened = False
        try:
            async with asyncio.timeout(self._network.limits.connect_s):
                await stream.accepted()
            opened = True
        except TimeoutError:
            detail = f"{short(peer)} did not accept {protocol} in time"
            raise PeerUnavailable("SK-NET-003", detail) from None
        finally:
            if not opened:
                await stream.close()
        return stream

    async def handle(self, protocol: str, handler: StreamHandler) -> None:
        """Call ``handler`` for every stream that others open under ``protocol``."""
        self._check_open()
        self._handlers[protocol] = handler

    async def close(self) -> None:
        """End the handlers, close all streams and leave the network."""
        if not self._closed:
            self.halt()
            await self._network.leave(self._peer_id)
        others = [task for task in self._tasks if task is not asyncio.current_task()]
        if others:
            await asyncio.wait(others)

    def serve(self, stream: MemoryStream, protocol: str) -> bool:
        """Start the handler of an incoming stream; False if there is none."""
        handler = self._handlers.get(protocol)
        if handler is None or self._closed:
            return False
        task = asyncio.create_task(_serve(handler, stream), name=f"stream {stream.serial}")
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return True

    def halt(self) -> None:
        """Stop serving at once and cancel the handlers, without telling anybody."""
        self._closed = True
        self._handlers.clear()
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()

    def _check_open(self) -> None:
        if self._closed:
            raise PeerUnavailable(
                "SK-NET-003", f"the transport of {short(self._peer_id)} is closed"
            )

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("%s failed", task.get_name(), exc_info=error)


async def _serve(handler: StreamHandler, stream: MemoryStream) -> None:
    try:
        await handler(stream)
    except SkerryError as error:
        _LOG.debug("stream of %s ended: %s", stream.peer, error)
    finally:
        await stream.close()


def _reset_both(end: MemoryStream, why: str) -> None:
    end.reset(why)
    end.other.reset(why)


def _over(ends: tuple[MemoryStream, MemoryStream]) -> bool:
    return ends[0].over and ends[1].over


def _pair(one: PeerId, other: PeerId) -> Pair:
    return (one, other) if one < other else (other, one)
