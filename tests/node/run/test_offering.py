"""What a node offers a run follows from its settings and its memory."""

import pytest
import run_world

from skerry.node.config import ComputeSection
from skerry.node.run import offering
from skerry.node.run.offering import offer_of
from skerry.pipeline.capacity import needed_bytes
from skerry.protocol.errors import ComputeError
from skerry.protocol.messages import RoleOffer


@pytest.fixture
def manifest(tmp_path):
    return run_world.manifest_in(tmp_path)


@pytest.fixture
def needed(manifest):
    return needed_bytes(manifest)


@pytest.fixture
def free(monkeypatch):
    """Set how much memory is free; None where the system does not tell."""
    return lambda amount: monkeypatch.setattr(offering, "available_bytes", lambda: amount)


@pytest.mark.parametrize(
    ("free_share", "cap_share", "whole"),
    [(1.0, 0, True), (0.5, 0, False), (2.0, 0.5, False), (0.5, 2.0, False), (2.0, 1.0, True)],
)
def test_left_to_itself_it_can_be_a_replica_where_the_model_fits(
    manifest, needed, free, free_share, cap_share, whole
):
    free(int(free_share * needed))
    offer = offer_of(ComputeSection(memory=int(cap_share * needed)), manifest, owns=False)
    assert offer.role is RoleOffer.AUTO
    assert offer.is_whole(needed) is whole


def test_where_the_system_does_not_tell_the_cap_counts_or_the_model_is_taken_to_fit(
    manifest, needed, free
):
    free(None)
    assert offer_of(ComputeSection(), manifest, owns=False).is_whole(needed)
    assert not offer_of(ComputeSection(memory=needed // 2), manifest, owns=False).is_whole(needed)


def test_a_stage_is_offered_by_whoever_wants_that(manifest, needed, free):
    free(9 * needed)
    offer = offer_of(ComputeSection(role="stage"), manifest, owns=False)
    assert offer.role is RoleOffer.STAGE
    assert not offer.is_whole(needed)


@pytest.mark.parametrize(("role", "owns"), [("replica", False), ("auto", True), ("stage", True)])
def test_a_replica_that_does_not_fit_is_refused_with_both_sizes(manifest, needed, free, role, owns):
    free(needed - 1)
    with pytest.raises(ComputeError) as caught:
        offer_of(ComputeSection(role=role), manifest, owns=owns)
    assert caught.value.code == "SK-MEM-001"
    free(needed)
    assert offer_of(ComputeSection(role=role), manifest, owns=owns).role is RoleOffer.REPLICA
