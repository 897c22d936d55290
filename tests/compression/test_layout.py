"""Limits from shapes and options alone, without the compiled kernels."""

import subprocess
import sys

import pytest

from skerry.compression.layout import PayloadLayout, max_gap_bytes, value_bytes
from skerry.compression.options import CodecOptions

SHAPES = ((130, 70), (33,), (5000,))


def digest(shapes=SHAPES, **options):
    return PayloadLayout(shapes, CodecOptions(**options)).digest


def test_tiles_are_counted_span_by_span():
    layout = PayloadLayout(SHAPES, CodecOptions())
    assert layout.numel == 130 * 70 + 33 + 5000
    assert [span.num_tiles for span in layout.spans] == [2, 2, 1, 1, 1, 1]
    assert layout.first_tiles == (0, 2, 4, 5, 6, 7, 8)
    assert layout.num_tiles == layout.keep_T.size == layout.valid_T.size == 8
    assert layout.valid_T.tolist() == [4096, 4096, 384, 384, 128, 12, 4096, 937]
    assert layout.keep_T.tolist() == [64, 64, 6, 6, 2, 1, 64, 15]


def test_the_digest_tells_shapes_and_options_apart():
    others = [
        digest(((70, 130), (33,), (5000,))),
        digest((*SHAPES, ())),
        digest(k=63),
        digest(chunk=1024),
        digest(values="sym2"),
    ]
    assert len({digest(), *others}) == 6
    assert digest() == digest()


def test_an_empty_shard_has_a_header_only():
    for shapes in ((), ((0,), (0, 5))):
        assert PayloadLayout(shapes, CodecOptions()).max_payload_bytes == 38


def test_shard_beyond_the_length_fields_is_refused():
    with pytest.raises(ValueError, match="needs more than"):
        PayloadLayout(((2**17, 2**15),), CodecOptions(k=4096))


@pytest.mark.parametrize(
    ("valid", "keep", "most"), [(4096, 64, 79), (64, 64, 64), (256, 1, 2), (255, 1, 1), (1, 1, 1)]
)
def test_gap_bytes_have_a_bound(valid, keep, most):
    assert max_gap_bytes(valid, keep) == most


@pytest.mark.parametrize(("values", "sizes"), [("sign", [0, 1, 2]), ("sym2", [0, 2, 4])])
def test_bits_fill_whole_bytes(values, sizes):
    assert [value_bytes(values, count) for count in (0, 8, 9)] == sizes


def test_half_precision_takes_two_bytes():
    assert value_bytes("fp16", 9) == 18


def test_limits_load_neither_torch_nor_the_kernels():
    """The node process computes limits; it must not wait for a compiler."""
    code = (
        "import sys; import skerry.pipeline.codecs;"
        "print([name for name in ('torch', 'numba') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"
