"""CheckFree+: some microbatches pass the stages at each end in reverse; a lost end is then copied.

Real parts, streams and stages on virtual time. What is lost is made as the node's process makes it.
"""

import math
from collections import Counter
from pathlib import Path

from stage_compute import StageCompute
from stage_ring import BATCH, StageRing, ring_test

from skerry.pipeline.planning.layouts import swapped_ends
from skerry.pipeline.planning.ring_plan import check_plan
from skerry.pipeline.stages import tasks
from skerry.pipeline.stages.cuts import EMBED, HEAD
from skerry.pipeline.stages.frames import decode_task
from skerry.protocol import compute as cp
from skerry.protocol.blobs import BlobStore
from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import Manifest
from skerry.protocol.memory import VirtualNetwork
from skerry.protocol.messages import ShardPayload
from skerry.protocol.rings.plan import Hop, Member, Plan, Ring, Stage
from skerry.protocol.rings.plan import Path as RingPath
from skerry.recovery.healing import Rung, plan_healing
from skerry.recovery.rebuild_request import Request
from skerry.recovery.rebuild_request import Stage as Remaining
from skerry.recovery.rebuilder import made
from skerry.recovery.survey import LostStage, Place, Survey, Taker
from skerry.recovery.swaps import learned_roles

STAGES, LAST = 5, 4
MICROBATCHES = BATCH // 2
TOKENS = BATCH * 32
ORDER = (0, 1, 2, 3, 4)
TURNED = swapped_ends(ORDER, first_has_blocks=False)
Visits = dict[tuple[int, int], list[int]]
"""The stages of each microbatch of each step, in the order of visiting."""


def swapping_plan(manifest: Manifest, peers: list[PeerId]) -> Plan:
    """A ring of an origin and one peer for each block; half of the microbatches go in reverse."""
    stages = (Stage((EMBED, HEAD)), *(Stage((f"block.{i}",)) for i in range(STAGES - 1)))
    paths = tuple(
        RingPath(tuple(Hop(stage, (stage,)) for stage in order), MICROBATCHES // 2)
        for order in (ORDER, TURNED)
    )
    members = tuple(Member(peer, (i,), manifest.ring.slots) for i, peer in enumerate(peers))
    plan = Plan(1, 2 * 32, stages, (Ring(members, paths, MICROBATCHES),))
    check_plan(plan, manifest)
    return plan


def note_visits(ring: StageRing) -> Visits:
    """Take down what the members' stages are asked to compute forward, in this order."""
    visits: Visits = {}

    def watch(compute: StageCompute) -> None:
        do = compute._do

        def noted(request: cp.Request) -> cp.Reply:
            if isinstance(request, cp.StageTask):
                task = decode_task(request.frame)
                if isinstance(task, tasks.Inject | tasks.Forward):
                    visits.setdefault((task.step, task.place.microbatch), []).extend(task.stages)
            return do(request)

        compute._do = noted  # type: ignore[method-assign]

    for compute in ring.computes:
        watch(compute)
    return visits


async def train_round(ring: StageRing, number: int, steps: int) -> None:
    """Train a round, and check that each stage counts each microbatch once."""
    await ring.begin_round(number)
    for index in range(steps):
        done = await ring.origin.train(index, batch=index)
        assert math.isfinite(done.loss)
        assert (done.trained, done.text_tokens) == (tuple(range(MICROBATCHES)), TOKENS)
    for member, part in enumerate(ring.parts):
        await ring.stepped(member, (number, steps))
        part.end_round()
        ring.computes[member].stages.forget_training()


def test_an_end_that_is_lost_is_made_of_the_stage_that_has_learned_its_role(tmp_path: Path) -> None:
    steps = 8  # 32 microbatches: enough for outliers to be looked for

    async def scenario(network: VirtualNetwork, ring: StageRing) -> None:
        visits = note_visits(ring)
        await train_round(ring, 1, steps)
        assert Counter(map(tuple, visits.values())) == {ORDER: 2 * steps, TURNED: 2 * steps}
        copied = heal(ring)
        [kept] = ring.computes[LAST - 1].stages.begin(cp.Begin(request=0, shards=None)).shards
        assert copied.address == kept.address
        ring.computes[LAST].stages.begin(cp.Begin(request=0, shards=(copied,)))
        await train_round(ring, 2, 2)

    ring = ring_test(
        tmp_path, scenario, [(i,) for i in ORDER], make_plan=swapping_plan, layers=STAGES - 1
    )
    for member, stage in enumerate(ORDER):
        assert ring.text_tokens(member) == [{stage: TOKENS}] * (steps + 2)
        assert not ring.refused(member)


def heal(ring: StageRing) -> ShardPayload:
    """Lose the last stage, and put what is made in its place into its peer's store."""
    routes = [path.hops for path in ring.plan.rings[0].paths]
    orders = [tuple(stage for hop in route for stage in hop.stages) for route in routes]
    lost = ring.computes[LAST]
    survey = Survey(
        stages=tuple(stage.shards for stage in ring.plan.stages),
        lost=(LostStage(LAST, lost.peer, Taker(lost.peer, Place.SAME)),),
        partners=learned_roles(orders),
    )
    healings = plan_healing(survey)
    [block] = healings[0].shards
    assert (block.rung, block.made_of) == (Rung.SWAP, (LAST - 1,))
    folder = lost.folder / lost.peer / "blobs"
    partner = ring.computes[LAST - 1]
    shards = partner.stages.begin(cp.Begin(request=0, shards=None)).shards
    store = BlobStore(folder)
    for shard in shards:
        store.put(BlobStore(partner.folder / partner.peer / "blobs").read(shard.address))
    there = (Remaining(LAST - 1, shards, 0.0),)
    request = Request(ring.manifest.canonical().decode(), str(folder), healings, there)
    [copied] = made(request).shards
    assert copied.shard == f"block.{LAST - 1}"
    return copied
