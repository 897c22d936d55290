"""An offer of a part of the model says how fast a block is computed here, measured once."""

from dataclasses import replace

import pytest
import run_world

from skerry.node.run import own_speed
from skerry.node.run.own_speed import with_speed
from skerry.pipeline.capacity import needed_bytes
from skerry.pipeline.planning.block_speed import BlockSpeed
from skerry.protocol.errors import ComputeError
from skerry.protocol.messages import Offer, RoleOffer


@pytest.fixture
def manifest(tmp_path):
    return run_world.manifest_in(tmp_path)


@pytest.fixture
def kept(tmp_path):
    return tmp_path / "run" / "speed.json"


@pytest.fixture
def answers(monkeypatch):
    """In the place of the process: what it says, one after the other."""
    left: list[bytes | Exception] = []

    async def answer(module, request, seconds):
        said = left.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    monkeypatch.setattr(own_speed, "answer_of", answer)
    return left


PART = Offer(RoleOffer.STAGE, 2**30)
FAST, SLOW = BlockSpeed(900.0, 300.0, 1), BlockSpeed(90.0, 30.0, 2)


async def test_it_is_measured_by_a_process_of_its_own_and_kept(manifest, kept, monkeypatch):
    offer = await with_speed(PART, manifest, 1, kept)
    assert offer.forward > 0 and offer.backward > 0
    assert replace(offer, forward=0.0, backward=0.0) == PART
    monkeypatch.delattr(own_speed, "answer_of")  # nobody is asked again
    assert await with_speed(PART, manifest, 1, kept) == offer


async def test_who_hosts_the_whole_model_need_not_know(manifest, kept, answers):
    for whole in (Offer(RoleOffer.REPLICA, 0), Offer(RoleOffer.AUTO, needed_bytes(manifest))):
        assert await with_speed(whole, manifest, 1, kept) == whole
    assert not kept.exists()


async def test_with_other_threads_it_is_measured_again(manifest, kept, answers):
    answers += [FAST.to_json(), SLOW.to_json()]
    assert (await with_speed(PART, manifest, 1, kept)).forward == 900.0
    assert (await with_speed(PART, manifest, 2, kept)).forward == 90.0
    assert BlockSpeed.from_json(kept.read_bytes()) == SLOW


@pytest.mark.parametrize(
    "said",
    [
        ComputeError("SK-CMP-001", "ended"),
        b"",
        b'{"forward":0,"backward":1,"threads":1}',
        b'{"forward":NaN,"backward":1,"threads":1}',
    ],
)
async def test_without_an_answer_it_is_not_told(manifest, kept, answers, said):
    answers.append(said)
    assert await with_speed(PART, manifest, 1, kept) == PART
    assert not kept.exists()


async def test_what_was_kept_and_is_damaged_is_measured_again(manifest, kept, answers):
    kept.parent.mkdir()
    kept.write_bytes(b'{"forward":')
    answers.append(FAST.to_json())
    assert (await with_speed(PART, manifest, 1, kept)).backward == 300.0
    assert BlockSpeed.from_json(kept.read_bytes()) == FAST
