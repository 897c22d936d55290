"""What the manifest and a plan mean for one peer of a ring."""

import pytest
from ring_swarm import new_peer, plan_for

from skerry.node.ring.settings import hosting_of, mesh_settings, rules_of
from skerry.protocol.compute import HostedStage, Hosting
from skerry.protocol.errors import ProtocolError
from skerry.protocol.manifest import Manifest, ModelSection, RingSection, SubspaceSection
from skerry.protocol.rings.frames import Activation, Fence, Frame, Gradient, Pace, Place
from skerry.protocol.rings.plan import Hop, Member, Path, Plan, Ring

PEERS = [new_peer() for _ in range(4)]
PLAN = plan_for(PEERS[:3], [(0,), (1, 2), (2,)])


def manifest(**ring: object) -> Manifest:
    model = ModelSection(d_model=32, context=10, subspace=SubspaceSection(dim=8))
    return Manifest(owner=PEERS[0], model=model, ring=RingSection(**ring))


def test_rules_are_the_manifest_s():
    rules = rules_of(manifest(skip_ratio=0.4, bypass=2, hop_min=1.5, attempt_max=50.0), PLAN)
    assert rules.run_id == manifest(skip_ratio=0.4, bypass=2, hop_min=1.5, attempt_max=50.0).run_id
    assert rules.most_skipped == 1 + 2
    assert (rules.hop_min_s, rules.hop_max_s, rules.attempt_max_s) == (1.5, 30.0, 50.0)
    assert rules.bypass_steps == 20
    nothing = rules_of(manifest(bypass=0), PLAN)
    assert (nothing.most_skipped, nothing.bypass_steps) == (0, 0)


@pytest.mark.parametrize(("sequences", "fits"), [(0, False), (1, True), (3, True), (4, False)])
def test_streams_carry_microbatches_of_any_allowed_size(sequences, fits):
    limits = mesh_settings(manifest(microbatch=3, activations="int8")).limits
    fence = Fence(manifest().run_id, 1, 0, 1, 1)
    rows, ids = 8 + sequences * 10 * (2 + 8), 6 + sequences * 10
    for body, size in ((Activation((), 10, Pace()), ids + rows), (Gradient(Pace()), rows)):
        frame = Frame(fence, Place(), body)
        if fits:
            limits.check(frame, size)
        else:
            with pytest.raises(ProtocolError, match="SK-PRO"):
                limits.check(frame, size)


def test_who_is_in_a_ring_hosts_its_stages():
    assert hosting_of(PLAN, PEERS[1]) == Hosting(
        (HostedStage(1, ("block.1",)), HostedStage(2, ("block.2",))), slots=4
    )


def test_full_replicas_and_spares_host_no_stages():
    alone = Ring((Member(PEERS[3], (0, 1, 2), 4),), (Path((Hop(0, (0, 1, 2)),), 1),), 1)
    plan = Plan(1, 10, PLAN.stages, (*PLAN.rings, alone))
    assert hosting_of(plan, PEERS[3]) is hosting_of(plan, new_peer()) is None
