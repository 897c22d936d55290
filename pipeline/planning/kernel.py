"""The compiled heart of the simulator: microbatches walk their paths forward and back.

Nobody but simulator.py calls this. A microbatch whose path has L hops takes 2 L + 1 steps: forward
at hops 0 .. L-1, the loss at hop 0, backward at hops L-1 .. 0. Between two steps on different peers
its tensor travels: it waits for the sender's uplink, occupies it, arrives after the delay, and
passes the receiver's downlink. A microbatch starts only when every peer on its path has a free
slot, and takes them all at once, so that no cycle of peers can wait for each other.

A peer that goes down loses what it holds. The microbatches concerned start again, over other hosts
of the same stages or, if the rules say so, past stages that nobody hosts.

Names and shape suffixes: records.py.
"""

from typing import Any

from skerry.pipeline.planning.jit import entry, part
from skerry.pipeline.planning.records import World

READY, ARRIVED, FIRST_BYTE, SHIP, RETRY, DONE, RESTED, DOWN, UP = range(9)
"""What can happen; from DONE on to a peer, else to a microbatch."""
BACKWARD, FORWARD, INJECTED = range(3)
NOBODY, ALL_BUSY = -1, -2


@entry
def run(world: World) -> None:
    """Play a world to its end, or until its limit; what is measured stands in its records."""
    for work in range(world.work_M.size):
        _plan(world, world.work_M[work].at, READY, work, 0)
    for change in world.churn_C:
        _plan(world, change.time, UP if change.up else DOWN, change.peer, 0)
    while world.rules[0].pending > 0:
        event = world.events_Q[0]
        now, what, who, life = event.time, event.what, event.who, event.life
        if now > world.rules[0].limit:
            return
        _drop_first(world)
        if what >= DONE:
            _peer_event(world, now, what, who, life)
        elif life == world.work_M[who].life:
            _work_event(world, now, what, who)


@part
def _plan(world: World, time: float, what: int, who: int, life: int) -> None:
    """Add an event; of two at the same time the one planned first comes first. A binary heap."""
    events, rules = world.events_Q, world.rules[0]
    rules.order += 1
    place = rules.pending
    rules.pending += 1
    while place > 0 and time < events[(place - 1) // 2].time:
        _copy(events[place], events[(place - 1) // 2])
        place = (place - 1) // 2
    event = events[place]
    event.time, event.order = time, rules.order
    event.what, event.who, event.life = what, who, life


@part
def _drop_first(world: World) -> None:
    """Remove the earliest event, by moving the last one down from the top of the heap."""
    events, rules = world.events_Q, world.rules[0]
    rules.pending -= 1
    last, place, size = events[rules.pending], 0, rules.pending
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and _is_before(events[child + 1], events[child]):
            child += 1
        if not _is_before(events[child], last):
            break
        _copy(events[place], events[child])
        place = child
    _copy(events[place], last)


@part
def _is_before(a: Any, b: Any) -> bool:  # noqa: ANN401 - a record
    return bool(a.time < b.time or (a.time == b.time and a.order < b.order))


@part
def _copy(to: Any, source: Any) -> None:  # noqa: ANN401 - records
    to.time, to.order, to.what = source.time, source.order, source.what
    to.who, to.life = source.who, source.life


@part
def _peer_event(world: World, now: float, what: int, who: int, life: int) -> None:
    peer = world.peers_N[who]
    if what == DOWN:
        _go_down(world, now, who)
    elif what == UP:
        if peer.down:
            world.rules[0].downs -= 1
        peer.down = 0
        _admit(world, now, who)
    elif life == peer.life:
        if what == DONE:
            _finish(world, now, who)
        else:
            peer.resting = 0
        _start_next(world, now, who)


@part
def _work_event(world: World, now: float, what: int, who: int) -> None:
    work = world.work_M[who]
    if what == ARRIVED:
        _enqueue(world, now, who)
    elif what == FIRST_BYTE:
        _receive(world, now, who)
    elif what == SHIP:
        _send(world, now, who)
    else:
        if what == READY:
            work.ready = 1
        else:
            work.parked = 1
            world.rules[0].parked += 1
        _admit(world, now, world.hops_PH[work.path, 0].peer)


@part
def _hop_of(length: int, step: int) -> int:
    """Return which hop does a step; the loss is at the first."""
    if step == length:
        return 0
    return step if step < length else 2 * length - step


@part
def _peer_of(world: World, who: int, step: int) -> int:
    return int(world.routes_MH[who, _hop_of(world.work_M[who].length, step)].peer)


@part
def _seconds(world: World, who: int) -> float:
    """Return how long a microbatch's present step computes."""
    work = world.work_M[who]
    stop = world.routes_MH[who, _hop_of(work.length, work.step)]
    peer = world.peers_N[stop.peer]
    if work.step == work.length:
        return float(world.paths_P[work.path].loss * peer.forward)
    each = peer.forward if work.step < work.length else peer.backward
    return float(world.hops_PH[work.path, stop.hop].units * each)


@part
def _enqueue(world: World, now: float, who: int) -> None:
    """Put a microbatch into the queue of the peer that does its present step."""
    work, rules = world.work_M[who], world.rules[0]
    at = _peer_of(world, who, work.step)
    urgent = rules.backward_first and work.step >= work.length
    work.urgency = INJECTED if work.step == 0 else (BACKWARD if urgent else FORWARD)
    rules.sequence += 1
    work.rank = rules.sequence
    work.next = world.peers_N[at].waiting
    world.peers_N[at].waiting = who + 1
    _start_next(world, now, at)


@part
def _take_most_urgent(world: World, at: int) -> int:
    """Remove from a peer's queue the most urgent, of these the earliest to arrive."""
    best, before_best, before = -1, -1, -1
    who = world.peers_N[at].waiting - 1
    while who >= 0:
        work = world.work_M[who]
        if (
            best < 0
            or work.urgency < world.work_M[best].urgency
            or (work.urgency == world.work_M[best].urgency and work.rank < world.work_M[best].rank)
        ):
            best, before_best = who, before
        before, who = who, work.next - 1
    _unlink(world, at, best, before_best)
    return best


@part
def _unlink(world: World, at: int, who: int, before: int) -> None:
    if before < 0:
        world.peers_N[at].waiting = world.work_M[who].next
    else:
        world.work_M[before].next = world.work_M[who].next


@part
def _start_next(world: World, now: float, at: int) -> None:
    """Let an idle peer compute the most urgent microbatch that waits for it."""
    peer, rules = world.peers_N[at], world.rules[0]
    if peer.running or peer.resting or not peer.waiting:
        return
    who = _take_most_urgent(world, at)
    work, seconds = world.work_M[who], _seconds(world, who)
    peer.running, peer.running_step, peer.running_life = who + 1, work.step, work.life
    peer.computed += seconds
    if rules.logged < world.log_E.shape[0]:
        line = world.log_E[rules.logged]
        line[0], line[1], line[2], line[3], line[4] = who, work.step, at, now, now + seconds
        rules.logged += 1
    if work.length < work.step < 2 * work.length:
        _plan(world, now + seconds * rules.ship_after, SHIP, who, work.life)
    _plan(world, now + seconds, DONE, at, peer.life)


@part
def _finish(world: World, now: float, at: int) -> None:
    """End a computation: send its result on, free the slot after a backward, and rest."""
    peer, rules = world.peers_N[at], world.rules[0]
    who, step = peer.running - 1, peer.running_step
    work = world.work_M[who]
    peer.running = 0
    rest = rules.rest_injected if step == 0 else rules.rest
    if rest > 0:
        peer.resting = 1
        _plan(world, now + rest, RESTED, at, peer.life)
    if peer.running_life != work.life:
        return  # it was started anew meanwhile
    if step <= work.length:
        _send(world, now, who)
        return
    if step == 2 * work.length:
        work.done, work.active = now, 0
    stop = world.routes_MH[who, _hop_of(work.length, step)]
    if stop.held:
        stop.held = 0
        peer.used -= 1
        _admit(world, now, at)


@part
def _send(world: World, now: float, who: int) -> None:
    """Move a microbatch to its next step, over the network if another peer does that."""
    work = world.work_M[who]
    sender = _peer_of(world, who, work.step)
    work.step += 1
    receiver = _peer_of(world, who, work.step)
    if sender == receiver:
        _enqueue(world, now, who)
        return
    peer, link, start = world.peers_N[sender], world.links_NN[sender, receiver], now
    if world.rules[0].contended:
        start = max(now, peer.uplink_free)
        peer.uplink_free = start + link.busy
    peer.sent += link.busy
    if world.peers_N[receiver].receive > 0:
        _plan(world, start + link.delay, FIRST_BYTE, who, work.life)
    else:
        _plan(world, start + link.busy + link.delay, ARRIVED, who, work.life)


@part
def _receive(world: World, now: float, who: int) -> None:
    """Pass the receiver's downlink, which is no faster than the sender sends."""
    work = world.work_M[who]
    sender, receiver = _peer_of(world, who, work.step - 1), _peer_of(world, who, work.step)
    peer, busy = world.peers_N[receiver], world.links_NN[sender, receiver].busy
    start = max(now, peer.downlink_free)
    peer.downlink_free = max(start + peer.receive, now + busy)
    _plan(world, peer.downlink_free, ARRIVED, who, work.life)


@part
def _admit(world: World, now: float, at: int) -> None:
    """Start what a free slot of a peer, or a peer that came back, makes possible."""
    rules = world.rules[0]
    if rules.parked > 0:
        _admit_parked(world, now)
    first, end = world.peers_N[at].through_first, world.peers_N[at].through_end
    if rules.downs > 0:  # then a path may take this peer though it was not planned through it
        first, end = 0, world.through_V.size
    while True:
        best = -1
        for i in range(first, end):
            who = _next_of(world, world.through_V[i])
            if who >= 0 and (best < 0 or who < best) and _route(world, who):
                best = who
        if best < 0:
            return
        world.paths_P[world.work_M[best].path].drawn += 1
        _inject(world, now, best)


@part
def _next_of(world: World, index: int) -> int:
    """Return the next microbatch of a path if it may begin, else -1."""
    path = world.paths_P[index]
    place = path.first + path.drawn
    if place < path.end and world.work_M[world.order_M[place]].ready:
        return int(world.order_M[place])
    return -1


@part
def _admit_parked(world: World, now: float) -> None:
    """Start again, in order, what lost a peer and has found another way."""
    for who in range(world.work_M.size):
        work = world.work_M[who]
        if work.parked and _route(world, who):
            work.parked = 0
            world.rules[0].parked -= 1
            _inject(world, now, who)


@part
def _has_room(world: World, at: int) -> bool:
    peer = world.peers_N[at]
    return bool(not peer.down and peer.used < peer.slots)


@part
def _route(world: World, who: int) -> bool:
    """Choose the peers of a microbatch: those planned, or where one is down another host.

    False if there is none, or if a peer has no slot to give; the origin cannot be replaced.
    """
    work, length = world.work_M[who], 0
    for place in range(world.paths_P[work.path].length):
        hop = world.hops_PH[work.path, place]
        at = hop.peer
        if world.peers_N[at].down and place > 0:
            at = _another_host(world, hop.kind)
            if at == NOBODY and world.rules[0].bypass:
                continue
        if at < 0:
            return False
        stop = world.routes_MH[who, length]
        stop.peer, stop.hop, stop.held = at, place, _is_new(world, who, length, at)
        if stop.held and not _has_room(world, at):
            return False
        length += 1
    work.length = length
    return True


@part
def _is_new(world: World, who: int, length: int, at: int) -> bool:
    """Say whether a peer is not among the first stops of a route: it gives one slot only."""
    new = True
    for place in range(length):
        new = new and world.routes_MH[who, place].peer != at
    return new


@part
def _another_host(world: World, kind: int) -> int:
    """Return the host of some stages with most free slots; NOBODY is up, or ALL_BUSY."""
    best, most, found = -1, 0, NOBODY
    for i in range(world.kinds_K[kind].first, world.kinds_K[kind].end):
        peer = world.peers_N[world.hosts_X[i]]
        if not peer.down:
            found = ALL_BUSY
            if peer.slots - peer.used > most:
                best, most = world.hosts_X[i], peer.slots - peer.used
    return best if best >= 0 else found


@part
def _inject(world: World, now: float, who: int) -> None:
    """Take a slot of every peer on the route, and begin."""
    work = world.work_M[who]
    for place in range(work.length):
        stop = world.routes_MH[who, place]
        if stop.held:
            peer = world.peers_N[stop.peer]
            peer.used += 1
            peer.peak = max(peer.peak, peer.used)
    work.step, work.active = 0, 1
    _enqueue(world, now, who)


@part
def _go_down(world: World, now: float, at: int) -> None:
    """Lose what a peer computes, keeps and receives; its microbatches start again later."""
    peer = world.peers_N[at]
    if peer.down:
        return
    world.rules[0].downs += 1
    peer.down, peer.running, peer.resting = 1, 0, 0
    peer.life += 1
    peer.uplink_free = peer.downlink_free = now
    for who in range(world.work_M.size):
        if world.work_M[who].active and _depends_on(world, who, at):
            _lose(world, who)
            _plan(world, now + world.rules[0].detect, RETRY, who, world.work_M[who].life)
    for other in range(world.peers_N.size):
        _admit(world, now, other)


@part
def _depends_on(world: World, who: int, at: int) -> bool:
    for place in range(world.work_M[who].length):
        stop = world.routes_MH[who, place]
        if stop.held and stop.peer == at:
            return True
    return False


@part
def _lose(world: World, who: int) -> None:
    """Take a microbatch out of wherever it is, and free its slots."""
    work = world.work_M[who]
    work.active = 0
    work.life += 1
    work.retries += 1
    for place in range(work.length):
        stop = world.routes_MH[who, place]
        if stop.held:
            stop.held = 0
            world.peers_N[stop.peer].used -= 1
    at, before = _peer_of(world, who, work.step), -1
    queued = world.peers_N[at].waiting - 1
    while queued >= 0 and queued != who:
        before, queued = queued, world.work_M[queued].next - 1
    if queued == who:
        _unlink(world, at, who, before)


def pending_limit(num_work: int, num_peers: int, num_churn: int) -> int:
    """Return how many events can be pending at once, stale ones of lost microbatches included."""
    return 3 * num_work * (1 + num_churn) + 2 * num_peers + num_churn + 1
