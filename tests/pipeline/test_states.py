"""Parameters: replacing them is all or nothing, and theta is not what trains."""

import weakref

import pytest
import torch

from skerry.pipeline.model import Decoder
from skerry.pipeline.states import Parameters, seeded_shards, stored_shards
from skerry.protocol.errors import ComputeError, StateError
from skerry.protocol.layout import layout_of, state_digest


def empty(manifest, store) -> Parameters:
    model = Decoder(manifest.model, manifest.seed)
    return Parameters(model, layout_of(manifest.model), store)


@pytest.fixture
def parameters(manifest, store) -> Parameters:
    parameters = empty(manifest, store)
    parameters.replace(seeded_shards(manifest, layout_of(manifest.model)))
    return parameters


def train_a_little(parameters: Parameters) -> None:
    with torch.no_grad():
        for tensor in parameters.model.parameters():
            tensor.add_(1.0)


def test_there_is_nothing_before_the_first_replacement(manifest, store):
    parameters = empty(manifest, store)
    parameters.rewind()
    with pytest.raises(ComputeError):
        _ = parameters.theta


def test_theta_comes_back_from_the_store(manifest, store, parameters):
    again = empty(manifest, store)
    again.replace(stored_shards(layout_of(manifest.model), store, parameters.shards))
    assert again.digest == parameters.digest == state_digest(parameters.shards)
    assert all(map(torch.equal, again.theta, parameters.theta))


def test_training_does_not_touch_theta(parameters):
    theta = [flat.clone() for flat in parameters.theta]
    train_a_little(parameters)
    assert all(map(torch.equal, parameters.theta, theta))
    for start, local in parameters.progress():
        torch.testing.assert_close(local - start, torch.ones_like(start))
    parameters.rewind()
    assert all(torch.equal(*pair) for pair in parameters.progress())


def test_a_replacement_that_fails_half_way_changes_nothing(parameters):
    theta, digest = [flat.clone() for flat in parameters.theta], parameters.digest

    def half():
        yield parameters.theta[0] + 1
        raise StateError("SK-DSK-002", "lost")

    with pytest.raises(StateError):
        parameters.replace(half())
    assert parameters.digest == digest
    assert all(map(torch.equal, parameters.theta, theta))
    assert all(torch.equal(*pair) for pair in parameters.progress())


@pytest.mark.parametrize("change", [lambda theta: theta[:-1], lambda theta: [*theta, theta[0]]])
def test_another_number_of_shards_is_refused(parameters, change):
    with pytest.raises(ValueError, match="shards"):
        parameters.replace(change(parameters.theta))
    assert all(torch.equal(*pair) for pair in parameters.progress())


def test_replacing_holds_one_shard_at_a_time(parameters):
    """Neither the shard stored before nor a second theta is there when the next one is made."""
    places = [flat.data_ptr() for flat in parameters.theta]
    made = []

    def shards():
        for flat in parameters.theta:
            assert all(one() is None for one in made)
            larger = flat + 1
            made.append(weakref.ref(larger))
            yield larger
            del larger

    before = [flat.clone() for flat in parameters.theta]
    parameters.replace(shards())
    assert len(made) == len(before)
    assert [flat.data_ptr() for flat in parameters.theta] == places
    assert all(map(torch.equal, parameters.theta, [flat + 1 for flat in before]))


def test_progress_holds_one_shard_at_a_time(parameters):
    made = []
    progress = parameters.progress()
    for _ in parameters.theta:
        _, local = next(progress)
        made.append(weakref.ref(local))
        del local
        assert all(one() is None for one in made)


def test_the_model_is_lent_at_theta_and_training_goes_on(parameters):
    train_a_little(parameters)
    with parameters.at_theta():
        assert all(torch.equal(*pair) for pair in parameters.progress())
    assert all((local - start).all() for start, local in parameters.progress())


def test_infinities_are_seen(parameters):
    assert parameters.local_is_finite()
    with torch.no_grad():
        parameters.model.head.norm[0] = float("nan")
    assert not parameters.local_is_finite()
