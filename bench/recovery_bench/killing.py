"""Killing what a rung brings back, among real daemons, and measuring how long it was missed.

Every case ends where it began: a ring of four that trains, and two that stand by.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from recovery_bench.ring_swarm import LONG_S, Peer, RingSwarm, ring_swarm
from recovery_bench.seconds import Case, Measured, SecondsRow, link_name, row_of
from recovery_bench.stage_sizes import Setting
from recovery_bench.timeline import Injury, recovery_of
from torch_import import import_seconds

_POLL_S = 0.05
_STEPS_ON = 2
"""Ends of inner steps after the kill until one that was begun after it has ended."""


def seconds_rows(
    settings: Sequence[Setting], cases: Sequence[Case], repeats: int
) -> Iterator[SecondsRow]:
    """Measure all cases under each setting; a row comes when its case is done."""
    for setting in settings:
        with (
            tempfile.TemporaryDirectory(prefix="skerry-recovery-") as folder,
            ring_swarm(Path(folder), setting) as ring,
        ):
            found: list[Measured] = []
            for case, one in measured(ring, cases, repeats):
                found.append(one)
                print(_told(case, setting, one), file=sys.stderr)
                if len(found) == repeats:
                    yield row_of(case, setting, found, import_seconds())
                    found = []
            if left := ring.swarm.stop():
                raise AssertionError(f"left behind: {left}")


def measured(
    ring: RingSwarm, cases: Sequence[Case], repeats: int
) -> Iterator[tuple[Case, Measured]]:
    """Yield what became of each kill; one run after the other on the same daemons.

    Raises: AssertionError if another rung than the case's brought back what was killed.
    """
    ordered = sorted(cases, key=lambda case: case.run, reverse=True)
    for (shadows, beside_replica), some in groupby(ordered, key=lambda case: case.run):
        ring.begin(shadows=shadows, beside_replica=beside_replica)
        for case in some:
            for _ in range(repeats):
                ring.settle()
                ring.freshen()
                victims = [ring.hosts()[f"block.{stage}"] for stage in case.stages]
                found = _measure(ring, case, victims)
                try:
                    case.check(found.recovery)
                except AssertionError as error:
                    error.add_note(ring.story())
                    raise
                yield case, found
                if not case.comes_back:
                    ring.restore(victims)


def _measure(ring: RingSwarm, case: Case, victims: Sequence[Peer]) -> Measured:
    if case.shadows:
        _await_copies(ring, victims, case.stages)
    round_s = ring.round_s()
    ring.origin.wait_until(
        lambda run: run.round.phase == "training" and 0 < run.round.step < run.round.steps,
        "within an inner step",
        LONG_S,
    )
    lost = {shard: p.peer_id for shard, p in ring.hosts().items() if p in victims}
    injury = Injury(time.time(), lost, case.comes_back)
    if case.compute_only:
        os.kill(victims[0].pid_of("compute"), signal.SIGKILL)
    else:
        _kill(ring, case, victims)
    return _await_recovery(ring, injury, round_s)


def _kill(ring: RingSwarm, case: Case, victims: Sequence[Peer]) -> None:
    """Kill daemons at once; all of them are started again at once, too."""
    everyone = ring.small if case.comes_back else victims
    for peer in everyone:
        os.kill(peer.pid_of("daemon"), signal.SIGKILL)
    for peer in everyone:
        peer.kill()
    if case.comes_back:
        for peer in everyone:
            peer.restart()
        for peer in everyone:
            peer.ready()


def _await_recovery(ring: RingSwarm, injury: Injury, round_s: float) -> Measured:
    deadline = time.monotonic() + LONG_S
    goes_on = ring.origin.peer_id not in injury.hosts.values()
    ends, last, trains_s = 0, _position(ring), None
    while (found := recovery_of(injury, ring.logs())) is None or (goes_on and trains_s is None):
        if time.monotonic() > deadline:
            raise AssertionError(f"not recovered from {injury}\n{ring.story()}")
        now = _position(ring)
        ends += max(0, now[1] - last[1]) if now[0] == last[0] else 0  # a new round begins at any
        last = now
        if goes_on and trains_s is None and ends >= _STEPS_ON:
            trains_s = round(time.time() - injury.time, 3)
        time.sleep(_POLL_S)
    return Measured(found, trains_s, round_s)


def _position(ring: RingSwarm) -> tuple[int, int]:
    """Return the origin's round, and how many of its inner steps are over."""
    at = ring.origin.status().run.round
    return at.round, at.step


def _await_copies(ring: RingSwarm, victims: Sequence[Peer], stages: Sequence[int]) -> None:
    """Wait until somebody keeps a stale copy of what is to be killed."""
    for peer, stage in zip(victims, stages, strict=True):
        text = f"keeps a copy of block.{stage} "
        ring.event(
            peer,
            lambda e, text=text: e["event"] == "note" and text in e["text"],  # type: ignore[misc]
            ring.placed_since[peer.name],
        )


def _told(case: Case, setting: Setting, one: Measured) -> str:
    found = one.recovery
    where = f"{setting.size.name} stage, {link_name(setting.upload)}"
    return f"{case.rung} ({where}): {found.rung}, trains again after {found.trains_s:.1f} s"
