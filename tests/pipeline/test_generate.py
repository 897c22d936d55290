"""Sampling: greedy and by temperature, seeded, in a sliding window, refusing nonsense."""

import math

import pytest
import torch

from skerry.pipeline.generate import generate
from skerry.pipeline.model import Decoder
from skerry.protocol.errors import ComputeError, ConfigError


def test_greedy_takes_the_likeliest_byte_each_time(model):
    text = generate(model, b"def ", 8, 0, seed=0)
    assert text.startswith(b"def ") and len(text) == 12
    for place in range(4, 12):
        logits = model(torch.tensor([list(text[:place])]))[0, -1]
        assert text[place] == int(logits.argmax())


def test_window_slides_past_the_context(model):
    text = generate(model, b"x" * 40, 3, 0, seed=0)
    for place in range(40, 43):
        seen = text[place - model.context : place]
        assert text[place] == int(model(torch.tensor([list(seen)]))[0, -1].argmax())


def test_seed_decides_and_torchs_own_state_is_left_alone(model):
    before = torch.get_rng_state()
    first = generate(model, b"a", 20, 1.0, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert generate(model, b"a", 20, 1.0, seed=1) == first
    assert generate(model, b"a", 20, 1.0, seed=2) != first


def test_samples_follow_the_predicted_distribution(section):
    model = Decoder(section)  # all zero: every byte is as likely
    text = generate(model, b"", 600, 1.0, seed=0)
    assert len(set(text)) > 200


def test_tiny_temperature_is_greedy(model):
    assert generate(model, b"abc", 6, 1e-30, seed=3) == generate(model, b"abc", 6, 0, seed=0)


def test_empty_prompt_reads_as_the_start_of_a_line(model):
    assert b"\n" + generate(model, b"", 1, 0, seed=0) == generate(model, b"\n", 1, 0, seed=0)


def test_only_bytes_come_out_of_a_larger_vocabulary(section):
    model = Decoder(section.model_copy(update={"vocab_size": 300}))
    with torch.no_grad():
        model.embed.tokens.fill_(1)
        model.head.norm.fill_(1)
        model.head.output[255].fill_(1)
        model.head.output[299].fill_(2)
    assert generate(model, b"", 3, 0, seed=0) == b"\xff" * 3


def test_nothing_asked_is_the_prompt(model):
    assert generate(model, b"abc", 0, 1.0, seed=0) == b"abc"


@pytest.mark.parametrize("temperature", [-0.1, math.nan, math.inf])
def test_temperature_out_of_range_is_refused(model, temperature):
    with pytest.raises(ConfigError, match="SK-CFG-002: temperature"):
        generate(model, b"a", 1, temperature, seed=0)


def test_negative_length_is_refused(model):
    with pytest.raises(ConfigError, match="SK-CFG-002: text_tokens"):
        generate(model, b"a", -1, 1.0, seed=0)


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_broken_model_is_named(model, temperature):
    with torch.no_grad():
        model.head.output.fill_(math.nan)
    with pytest.raises(ComputeError, match="SK-CMP-002"):
        generate(model, b"a", 1, temperature, seed=0)
