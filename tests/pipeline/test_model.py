"""The decoder against an independent reading of the Llama formulas, and its invariants."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.pipeline.model import Decoder, rotate, window_loss
from skerry.pipeline.stream import rotary_tables
from skerry.protocol.layout import layout_of


def some_tokens(section, batch=2, seed=1):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, section.context), generator=random)


def reference_logits(model, section, tokens):
    """One sequence in float64, head by head and position by position, RoPE as complex numbers."""
    p = {name: value.detach().double() for name, value in model.named_parameters()}
    width = section.d_model // section.heads
    rates = section.rope_theta ** (-torch.arange(0, width, 2).double() / width)

    def norm(x, gain):
        return x / (x.pow(2).mean(-1, keepdim=True) + section.norm_eps).sqrt() * gain

    def turned(vector, position):
        pairs = torch.complex(vector[: width // 2], vector[width // 2 :])
        pairs = pairs * torch.polar(torch.ones_like(rates), position * rates)
        return torch.cat([pairs.real, pairs.imag])

    x = p["embed.tokens"][tokens]
    for i in range(section.layers):
        b = {k.removeprefix(f"block.{i}."): v for k, v in p.items() if k.startswith(f"block.{i}.")}
        h = norm(x, b["attention_norm"])
        q, k, v = h @ b["q"].T, h @ b["k"].T, h @ b["v"].T
        out = torch.zeros_like(x)
        for n in range(section.heads):
            m = n * section.kv_heads // section.heads
            mine, theirs = slice(n * width, (n + 1) * width), slice(m * width, (m + 1) * width)
            for t in range(len(tokens)):
                scores = torch.stack(
                    [turned(q[t, mine], t) @ turned(k[s, theirs], s) for s in range(t + 1)]
                )
                weights = (scores / math.sqrt(width)).softmax(0)
                out[t, mine] = weights @ v[: t + 1, theirs]
        x = x + out @ b["o"].T
        h = norm(x, b["ffn_norm"])
        gate = h @ b["gate"].T
        x = x + (gate * torch.sigmoid(gate) * (h @ b["up"].T)) @ b["down"].T
    return norm(x, p["head.norm"]) @ p["head.output"].T


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_logits_follow_the_formulas(section, build_model, kv_heads):
    section = section.model_copy(update={"kv_heads": kv_heads, "rope_theta": 100.0})
    model = build_model(section)
    tokens = some_tokens(section, batch=1)
    expected = reference_logits(model, section, tokens[0])
    assert expected.abs().max() > 1
    torch.testing.assert_close(model(tokens)[0].double(), expected, atol=1e-4, rtol=1e-4)


def test_parameters_are_those_of_the_layout(section):
    model = Decoder(section)
    expected = {
        f"{shard.name}.{tensor.name}": tensor.shape
        for shard in layout_of(section)
        for tensor in shard.tensors
    }
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == expected
    assert set(model.state_dict()) == set(expected), "tables must not be part of the state"


def test_shard_tensors_come_in_layout_order(section, model):
    spec = layout_of(section)[1]
    tensors = model.shard_tensors(spec)
    assert [tuple(t.shape) for t in tensors] == [tensor.shape for tensor in spec.tensors]
    assert tensors[1] is model.block[0].q
    assert tensors[8] is model.block[0].down


def test_construction_leaves_random_state_alone(section):
    before = torch.get_rng_state()
    model = Decoder(section)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(p.any() for p in model.parameters())


@given(place=st.integers(1, 15), value=st.integers(0, 255))
@settings(max_examples=15, deadline=None)
def test_later_text_does_not_change_earlier_predictions(section, build_model, place, value):
    model, tokens = build_model(section), some_tokens(section, batch=1)
    changed = tokens.clone()
    changed[0, place] = (changed[0, place] + 1 + value % 255) % 256
    with torch.no_grad():
        before, after = model(tokens)[0], model(changed)[0]
    torch.testing.assert_close(after[:place], before[:place], atol=1e-5, rtol=0)
    assert (after[place] - before[place]).abs().max() > 1e-3


def test_shorter_input_sees_the_same(section, model):
    tokens = some_tokens(section)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens[:, :5]), model(tokens)[:, :5], atol=1e-5, rtol=0)


def test_grouped_heads_equal_full_heads_with_repeated_keys(section, build_model):
    grouped = build_model(section)
    full = Decoder(section.model_copy(update={"kv_heads": section.heads}))
    width = section.d_model // section.heads
    state = grouped.state_dict()
    for name in [name for name in state if name.endswith((".k", ".v"))]:
        rows = state[name].view(section.kv_heads, width, section.d_model)
        state[name] = rows.repeat_interleave(2, dim=0).flatten(0, 1)
    full.load_state_dict(state)
    tokens = some_tokens(section)
    torch.testing.assert_close(full(tokens), grouped(tokens), atol=1e-5, rtol=0)


@given(
    first=st.integers(0, 200),
    second=st.integers(0, 200),
    shift=st.integers(0, 300),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=50, deadline=None)
def test_rotated_products_depend_on_distance_only(first, second, shift, seed):
    cos, sin = rotary_tables(512, 16, 10_000.0)
    random = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, 16, generator=random)

    def product(m, n):
        return rotate(q, cos[m], sin[m]) @ rotate(k, cos[n], sin[n])

    expected = product(first, second)
    torch.testing.assert_close(product(first + shift, second + shift), expected, atol=2e-3, rtol=0)


def test_rotation_turns_halves_by_the_angle_of_their_position():
    cos, sin = rotary_tables(4, 4, 100.0)
    turned = rotate(torch.tensor([1.0, 0.0, 0.0, 1.0]), cos[3], sin[3])
    # Pairs are (0, 2) at rate 1 and (1, 3) at rate 100 ** -0.5.
    expected = [math.cos(3), -math.sin(0.3), math.sin(3), math.cos(0.3)]
    torch.testing.assert_close(turned, torch.tensor(expected))


def test_window_loss_is_the_mean_over_all_predicted_text_tokens(section, model):
    windows = torch.cat([some_tokens(section), torch.full((2, 1), 65)], dim=1)
    logs = model(windows[:, :-1]).detach().log_softmax(-1)
    picked = [-logs[b, t, windows[b, t + 1]] for b in range(2) for t in range(section.context)]
    loss = window_loss(model, windows).item()
    assert loss == pytest.approx(float(sum(picked)) / len(picked))


def test_every_parameter_gets_a_gradient(section, model):
    windows = torch.cat([some_tokens(section), torch.full((2, 1), 65)], dim=1)
    window_loss(model, windows).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
