"""Validation loss: which windows, and how their losses are averaged."""

import numpy as np
import pytest
import torch

from skerry.pipeline import evaluation
from skerry.pipeline.corpus import Corpus
from skerry.pipeline.evaluation import validation_loss
from skerry.pipeline.model import window_loss

CONTEXT = 16


@pytest.fixture
def corpus():
    random = np.random.Generator(np.random.Philox(1))
    text = random.integers(0, 256, 20 * CONTEXT + 5, dtype=np.uint8)
    return Corpus(training=text[:1], validation=text)


def windows(corpus, numbers):
    starts = [number * CONTEXT for number in numbers]
    rows = [corpus.validation[start : start + CONTEXT + 1] for start in starts]
    return torch.from_numpy(np.stack(rows).astype(np.int64))


def test_whole_text_when_there_are_batches_enough(model, corpus):
    expected = window_loss(model, windows(corpus, range(20))).item()
    for batch_size, num_batches in ((20, 1), (3, 7), (8, 100)):
        loss = validation_loss(model, corpus, CONTEXT, batch_size, num_batches)
        assert loss == pytest.approx(expected, rel=1e-5)


def test_fewer_windows_are_evenly_spaced(model, corpus):
    expected = window_loss(model, windows(corpus, [0, 5, 10, 15])).item()
    assert validation_loss(model, corpus, CONTEXT, 2, 2) == pytest.approx(expected, rel=1e-5)


def test_same_every_time_and_no_gradient(model, corpus, monkeypatch):
    modes = []

    def watched(model, windows_BS):
        modes.append(torch.is_grad_enabled())
        return window_loss(model, windows_BS)

    monkeypatch.setattr(evaluation, "window_loss", watched)
    first = validation_loss(model, corpus, CONTEXT, 4, 3)
    assert validation_loss(model, corpus, CONTEXT, 4, 3) == first
    assert modes == [False] * 6


def test_untrained_model_knows_nothing(section, corpus):
    from skerry.pipeline.model import Decoder

    loss = validation_loss(Decoder(section), corpus, CONTEXT, 4, 2)
    assert loss == pytest.approx(np.log(256), rel=1e-5)
