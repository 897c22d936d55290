"""Shadows: exact through any row of deltas, smaller where little moved; hostile bytes refused."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from skerry.pipeline.shadow_codec import decode_shadow, encode_shadow, is_delta
from skerry.protocol.errors import ProtocolError

N = 2000
words = st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=40)


def of(bits: list[int]) -> Tensor:
    return torch.tensor(bits, dtype=torch.int16).view(torch.bfloat16)


def same(one: Tensor, other: Tensor) -> bool:
    """Bit for bit, so that NaNs and zeros of either sign count too."""
    return torch.equal(one.view(torch.int16), other.view(torch.int16))


def trained(steps: int) -> list[Tensor]:
    """Parameters [N] f32 after each of some inner steps."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(N, generator=generator) * 0.02
    found = [values]
    for _ in range(steps):
        found.append(found[-1] + 1e-4 * torch.randn(N, generator=generator).sign())
    return found


@given(words)
def test_every_pattern_of_bits_comes_back(bits):
    values = of(bits)
    assert same(decode_shadow(encode_shadow(values, None), len(bits), None), values)


@given(words, st.randoms(use_true_random=False))
@example([-(2**15), 2**15 - 1, 0], None)
def test_every_step_between_two_patterns_comes_back(bits, random):
    after = bits[::-1] if random is None else [random.choice(bits) for _ in bits]
    payload = encode_shadow(of(after), of(bits))
    assert same(decode_shadow(payload, len(bits), of(bits)), of(after))


def test_deltas_add_up_to_what_a_whole_shadow_would_have_brought():
    held, sizes = None, []
    for values in trained(6):
        payload = encode_shadow(values, held)
        sizes.append((is_delta(payload), len(payload)))
        held = decode_shadow(payload, N, held)
        assert same(held, values.to(torch.bfloat16))
    assert [delta for delta, _ in sizes] == [False] + [True] * 6
    assert max(size for _, size in sizes[1:]) < 0.75 * sizes[0][1]


def test_what_has_nothing_in_common_is_sent_whole():
    one, other = trained(0)[0], torch.randn(N, generator=torch.Generator().manual_seed(2)) * 0.02
    assert not is_delta(encode_shadow(other, one.to(torch.bfloat16)))


def test_a_delta_upon_another_shadow_is_refused():
    first, second, third = (values.to(torch.bfloat16) for values in trained(2))
    payload = encode_shadow(third, second)
    for held in (None, first, second[:-1]):
        with pytest.raises(ProtocolError) as caught:
            decode_shadow(payload, N, held)
        assert caught.value.reason == "shadow-base"


def test_a_shard_of_another_size_is_refused():
    payload = encode_shadow(trained(0)[0], None)
    for numel in (N - 1, N + 1, 10 * N):
        with pytest.raises(ProtocolError):
            decode_shadow(payload, numel, None)


@settings(max_examples=300)
@given(st.binary(max_size=60), st.integers(0, 2**32), st.binary(max_size=20))
def test_hostile_bytes_are_refused_or_make_a_shard(head, place, tail):
    held = trained(0)[0].to(torch.bfloat16)
    sound = encode_shadow(trained(1)[1], held)
    at = place % len(sound)
    for payload in (head, sound[:at] + tail, sound[:at] + head + sound[at + len(head) :]):
        try:
            found = decode_shadow(payload, N, held)
        except ProtocolError as error:
            assert error.reason in ("shadow", "shadow-base")
        else:
            assert (tuple(found.shape), found.dtype) == ((N,), torch.bfloat16)
