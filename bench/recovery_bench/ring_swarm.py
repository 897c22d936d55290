"""A ring of four daemons with two that stand by, and a full replica for as long as it is wanted.

Each member has memory for one block, the origin for embedding and head besides. So there are four
stages of a block each, whatever the planner thinks of the machine.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from recovery_bench.stage_sizes import STAGES, Setting
from recovery_bench.timeline import Event
from skerry.protocol.ids import PeerId
from skerry.protocol.token import decode_token, encode_token

TESTS = Path(__file__).parents[2] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "integration")]

from swarm import Peer, Swarm  # noqa: E402

SPARES = 2
LONG_S = 900.0
"""For processes that import torch one after the other on a busy machine."""
_POLL_S = 0.02
_REPLAY = 2
"""Rounds whose payloads are kept: what is older nobody can make anew from the seed."""


@dataclass(slots=True)
class RingSwarm:
    """The daemons; one run after the other."""

    swarm: Swarm
    setting: Setting
    replica: Peer
    ring: list[Peer]
    """The origin first."""
    spares: list[Peer]
    placed_since: dict[str, float] = field(default_factory=dict)
    """Since when a daemon has been in the run, by name; Unix seconds."""

    @property
    def origin(self) -> Peer:
        """Who has embedding and head; it is killed only with all others."""
        return self.ring[0]

    @property
    def small(self) -> list[Peer]:
        """All but the replica."""
        return [*self.ring, *self.spares]

    def begin(self, *, shadows: bool, beside_replica: bool) -> None:
        """Start a run, and return when the ring trains and both spares stand by."""
        before = "" if shadows else "\n[recovery]\nshadow_every = 0\n"
        changes = {**self.setting.size.changes, "replay": _REPLAY, "deadline_max": "60s"}
        for peer in (self.replica, *self.small):
            peer.free()
            self.placed_since[peer.name] = time.time()
        members = [self.replica, *self.ring]
        self.swarm.begin(members, 0, sections=before, **changes)
        self.replica.wait_for("applied", patience=LONG_S, contributions=len(members))
        for spare in self.spares:
            spare.client.join(self.swarm.token)
        self.replica.wait_until(lambda r: r.digest_round > 2 + _REPLAY, "far enough", LONG_S)
        if not beside_replica:
            self.replica.client.leave()
        self.settle()

    def settle(self) -> None:
        """Wait until everyone has a place and a whole ring's round is applied by its members."""
        names = {peer.peer_id for peer in self.small}
        self._until(lambda: names <= self._placed(), "a place for everyone")
        told = self.event(self.origin, self._is_whole, time.time())
        for one in told["included"]:
            for peer in self.small:
                if peer.peer_id == one["peer"]:
                    self.event(peer, lambda e: _applies(e, told["round"]), self._since(peer))

    def hosts(self) -> dict[str, Peer]:
        """Return who of the ring hosts each shard."""
        by_id = {peer.peer_id: peer for peer in self.small}
        told = [p for p in self.origin.status().run.peers if p.peer_id in by_id]
        return {shard: by_id[PeerId(p.peer_id)] for p in told for shard in p.shards}

    def freshen(self) -> None:
        """Make new machines of those who stand by and once hosted a stage: their disks have it."""
        members = {peer.peer_id for peer in self.hosts().values()}
        left = [p for p in self.small if p.peer_id not in members and self._has_hosted(p)]
        for peer in left:
            peer.kill()
        self.restore(left)
        if left:
            self.settle()

    def restore(self, victims: Sequence[Peer]) -> None:
        """Start what was killed as new machines that stand by."""
        for peer in victims:
            peer.forget()
            peer.restart()
        for peer in victims:
            self.placed_since[peer.name] = time.time()
            peer.ready().client.join(self._token())

    def event(self, peer: Peer, test: Callable[[Event], bool], since: float) -> Event:
        """Wait for something in a daemon's event log."""
        deadline = time.monotonic() + LONG_S
        found = peer.log.wait(lambda e: e["time"] > since and test(e), 0, deadline)
        if found is None:
            raise AssertionError(self.story())
        return found

    def logs(self) -> dict[str, list[Event]]:
        """Return what the daemons of the ring have written, by peer id."""
        return {peer.peer_id: list(peer.log.events) for peer in self.small}

    def round_s(self) -> float:
        """Return the seconds of a round, the middle one of the last few."""
        began = [e["time"] for e in self.origin.log.events if e["event"] == "began"][-6:]
        return statistics.median(after - before for before, after in pairwise(began))

    def story(self) -> str:
        """Return the ends of all event logs."""
        return "\n".join(peer.story() for peer in (self.replica, *self.small))

    def _token(self) -> str:
        """Return the run's token with the origin's addresses: the owner may have left."""
        at = tuple(f"{one}/p2p/{self.origin.peer_id}" for one in self.origin.status().addresses)
        return encode_token(replace(decode_token(self.swarm.token), bootstrap=at))

    def _placed(self) -> set[str]:
        plans = [e for e in self.origin.log.events if e["event"] == "planned"]
        newest = plans[-1] if plans else {"rings": [], "spares": []}
        return {*newest["spares"], *(peer for ring in newest["rings"] for peer in ring)}

    def _has_hosted(self, peer: Peer) -> bool:
        return any(
            event["event"] == "planned"
            and event["time"] > self._since(peer)
            and any(peer.peer_id in ring for ring in event["rings"])
            for event in self.origin.log.events
        )

    def _is_whole(self, event: Event) -> bool:
        if event["event"] != "committed":
            return False
        included = {one["peer"] for one in event["included"]}
        return len(included & {peer.peer_id for peer in self.small}) == STAGES

    def _since(self, peer: Peer) -> float:
        return self.placed_since[peer.name]

    def _until(self, test: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + LONG_S
        while not test():
            if time.monotonic() > deadline:
                raise AssertionError(f"not {what}\n{self.story()}")
            time.sleep(_POLL_S)


@contextmanager
def ring_swarm(folder: Path, setting: Setting) -> Iterator[RingSwarm]:
    """Start the daemons; leaving it leaves no process."""
    limit = f'[bandwidth]\nmax_upload = "{setting.upload}"\n' if setting.upload != "0" else ""

    def start(names: list[str], memory: int = 0) -> list[Peer]:
        stage = f'[compute]\nrole = "stage"\nmemory = {memory}\n' if memory else ""
        return swarm.start(*names, config=stage + limit, heartbeat_s=setting.heartbeat_s)

    with Swarm(folder) as swarm:
        [replica] = start(["replica"])
        [origin] = start(["origin"], setting.size.memory(is_origin=True))
        bodies = [f"body-{number}" for number in range(1, STAGES)]
        spares = [f"spare-{number}" for number in range(1, SPARES + 1)]
        small = start([*bodies, *spares], setting.size.memory(is_origin=False))
        cut = len(bodies)
        yield RingSwarm(swarm, setting, replica, [origin, *small[:cut]], small[cut:])


def _applies(event: Event, number: int) -> bool:
    return event["event"] == "applied" and event["round"] == number
