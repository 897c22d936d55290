"""Options outside what the format can write are refused."""

import pytest

from skerry.compression.options import CodecOptions


def test_defaults_are_those_of_the_reference():
    options = CodecOptions()
    assert (options.k, options.chunk, options.values, options.side) == (64, 4096, "sign", 64)


@pytest.mark.parametrize(("chunk", "side"), [(1024, 32), (4096, 64), (16384, 128)])
def test_a_tile_is_a_square(chunk, side):
    assert CodecOptions(k=chunk, chunk=chunk).side == side


@pytest.mark.parametrize(
    "wrong", [{"k": 0}, {"k": -1}, {"k": 4097}, {"k": 1025, "chunk": 1024}, {"chunk": 2048}]
)
def test_what_does_not_fit_is_refused(wrong):
    with pytest.raises(ValueError, match="allowed"):
        CodecOptions(**wrong)


def test_unknown_values_are_refused():
    with pytest.raises(ValueError, match="'int8'"):
        CodecOptions(values="int8")
