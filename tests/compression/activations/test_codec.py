"""The ring's codec: bytes per text token, losslessness in the subspace, bounds, determinism."""

import re
from math import sqrt
from pathlib import Path

import pytest
import torch

from skerry.compression.activations import codec as module
from skerry.compression.activations.codec import ActivationCodec, ActivationSpec
from skerry.compression.activations.row_payload import HEADER_BYTES
from skerry.compression.activations.subspace import fixed_rows, orthonormal_basis
from skerry.compression.activations.text_ids import encode_ids
from skerry.compression.errors import CompressionError

CPU = torch.device("cpu")
PAGE = Path(__file__).parents[3] / "docs" / "codecs.md"
VALUES = ("bf16", "int8", "int4")
"""Those that round; fp32 rounds nothing."""
DOC_ROW = re.compile(r"^\| `(\w+)` \| (off|\d+) \| ([\d,]+) \| ([\d,]+) \|", re.MULTILINE)
DOC_BOUND = re.compile(r"^\| `(\w+)` \|.*\| 1/([\d.]+) of ", re.MULTILINE)
MODULE_ROW = re.compile(r"^    (\w+) +(off|\d+) +(\d+) +(\d+)$", re.MULTILINE)
SPECS = [ActivationSpec(values, 64, dim, 5) for dim in (0, 10) for values in VALUES]
EACH_SPEC = pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.values}-{s.subspace_dim}")
WIDTH, RANK, ROWS = 256, 16, 30


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ids_of(rows, seed=0):
    return torch.randint(0, 262144, (rows,), generator=torch.Generator().manual_seed(seed))


def residual_stream(spec, ids, coordinates):
    """Activations as the model makes them: the fixed part plus rows in the subspace."""
    basis = orthonormal_basis(spec.seed, spec.width, spec.subspace_dim)
    return fixed_rows(spec.seed, ids, spec.width) + coordinates @ basis.T


@pytest.mark.parametrize(
    ("text", "pattern"),
    [(PAGE.read_text(encoding="utf-8"), DOC_ROW), (str(module.__doc__), MODULE_ROW)],
    ids=["page", "module"],
)
def test_documented_bytes_are_those_of_the_code(text, pattern):
    rows = pattern.findall(text)
    for values, subspace, *numbers in rows:
        dim = 0 if subspace == "off" else int(subspace)
        found = [ActivationSpec(values, width, dim).row_bytes for width in (1024, 4096)]
        assert found == [int(number.replace(",", "")) for number in numbers]
    assert [row[:2] for row in rows] == [(v, s) for s in ("off", "40") for v in ("fp32", *VALUES)]


def test_goal_of_45_bytes_per_text_token_with_everything():
    """Width 4096 in 40 dimensions, int8, header, and ids of a vocabulary of 262,144."""
    codec = ActivationCodec(ActivationSpec("int8", 4096, 40, 1337), CPU)
    ids = ids_of(512)
    payload = codec.encode_activations(normal(512, 4096), ids)
    assert len(payload) == codec.spec.payload_bytes(512) == 8 + 512 * 42
    assert (len(payload) + len(encode_ids(ids, 262144))) / 512 == 44.27734375
    assert "44.28 bytes" in module.__doc__ and "44.28 bytes" in PAGE.read_text("utf-8")
    gradients = codec.encode_gradients(normal(512, 4096), 1)
    assert f"{len(gradients) / 512:.2f} back" in PAGE.read_text("utf-8")


def test_documented_bounds_are_reached_and_kept():
    """By the rows that are worst for each: a scale just above a power of two, half a step."""
    step = 1 + 2**-7
    worst = {
        "bf16": torch.tensor([[1 + 2**-8, 0]]),
        "int8": torch.tensor([[127 * (1 + 1e-6), step / 2]]),
        "int4": torch.tensor([[7 * (1 + 1e-6), step / 2]]),
    }
    bounds = DOC_BOUND.findall(PAGE.read_text("utf-8"))
    assert [values for values, _ in bounds] == [*VALUES, *VALUES]
    for values, fraction in bounds:
        codec = ActivationCodec(ActivationSpec(values, 2), CPU)
        rows, ids = worst[values], torch.tensor([0])
        decoded = codec.decode_activations(codec.encode_activations(rows, ids), ids)
        off = float((decoded - rows).abs().max() / rows.max()) * float(fraction)
        assert 0.99 <= off <= 1


@EACH_SPEC
def test_payloads_have_the_announced_length(spec):
    codec = ActivationCodec(spec, CPU)
    for rows in (0, 1, 7):
        x, ids = normal(rows, 64), ids_of(rows)
        payload = codec.encode_activations(x, ids)
        assert len(payload) == spec.payload_bytes(rows) == HEADER_BYTES + rows * spec.row_bytes
        assert codec.decode_activations(payload, ids).shape == (rows, 64)
        gradients = codec.encode_gradients(x, 3)
        assert len(gradients) == spec.payload_bytes(rows)
        assert codec.decode_gradients(gradients, rows).shape == (rows, 64)


@pytest.mark.parametrize(
    ("values", "share"), [("bf16", 1 / 256), ("int8", 1 / 252), ("int4", 1 / 13.8)]
)
def test_in_the_subspace_only_quantisation_is_lost(values, share):
    spec = ActivationSpec(values, WIDTH, RANK, 8)
    coordinates, ids = normal(ROWS, RANK, seed=1) * 3, ids_of(ROWS)
    x = residual_stream(spec, ids, coordinates)
    codec = ActivationCodec(spec, CPU)
    decoded = codec.decode_activations(codec.encode_activations(x, ids), ids)
    # U is orthonormal: the error of a row is as long as that of its coordinates.
    bound = share * coordinates.abs().amax(1) * sqrt(RANK) + 1e-5
    assert bool(((decoded - x).norm(dim=1) <= bound).all())
    assert float((decoded - x).norm()) > 1e-4, "the bound should be one of quantisation"


def test_whole_entries_lose_nothing_but_what_is_outside():
    coordinates, ids = normal(ROWS, RANK, seed=1) * 3, ids_of(ROWS)
    spec = ActivationSpec("fp32", WIDTH, RANK, 8)
    x, codec = residual_stream(spec, ids, coordinates), ActivationCodec(spec, CPU)
    decoded = codec.decode_activations(codec.encode_activations(x, ids), ids)
    torch.testing.assert_close(decoded, x, rtol=1e-5, atol=1e-5)
    plain = ActivationCodec(ActivationSpec("fp32", WIDTH), CPU)
    assert torch.equal(plain.decode_activations(plain.encode_activations(x, ids), ids), x)
    assert torch.equal(plain.decode_gradients(plain.encode_gradients(x, 3), ROWS), x)


def test_outside_the_subspace_the_rest_is_dropped():
    spec = ActivationSpec("bf16", WIDTH, RANK, 8)
    basis, ids, x = orthonormal_basis(8, WIDTH, RANK), ids_of(ROWS), normal(ROWS, WIDTH, seed=2)
    fixed = fixed_rows(8, ids, WIDTH)
    codec = ActivationCodec(spec, CPU)
    decoded = codec.decode_activations(codec.encode_activations(x, ids), ids)
    assert torch.allclose(decoded, fixed + (x - fixed) @ basis @ basis.T, atol=0.1)
    gradients = codec.decode_gradients(codec.encode_gradients(x, 1), ROWS)
    assert torch.allclose(gradients, x @ basis @ basis.T, atol=0.1)


def test_the_ids_choose_the_fixed_part():
    spec = ActivationSpec("bf16", WIDTH, RANK, 8)
    codec, ids, x = ActivationCodec(spec, CPU), ids_of(ROWS), normal(ROWS, WIDTH)
    payload = codec.encode_activations(x, ids)
    shift = codec.decode_activations(payload, ids + 1) - codec.decode_activations(payload, ids)
    expected = fixed_rows(8, ids + 1, WIDTH) - fixed_rows(8, ids, WIDTH)
    assert torch.allclose(shift, expected, atol=1e-5)


def test_the_fixed_part_is_as_large_as_the_model_adds_it():
    ids, x = ids_of(ROWS), normal(ROWS, WIDTH)
    whole, small = (ActivationSpec("fp32", WIDTH, RANK, 8, std) for std in (1.0, 0.25))
    basis, fixed = orthonormal_basis(8, WIDTH, RANK), fixed_rows(8, ids, WIDTH)
    for spec in (whole, small):
        codec, part = ActivationCodec(spec, CPU), fixed * spec.fixed_std
        decoded = codec.decode_activations(codec.encode_activations(x, ids), ids)
        assert torch.allclose(decoded, part + (x - part) @ basis @ basis.T, atol=1e-4)


@EACH_SPEC
def test_gradients_are_unbiased_over_seeds(spec):
    codec = ActivationCodec(spec, CPU)
    gradient = normal(1, 64, seed=3) * 1e-6
    # Every seed rounds each of 4 equal rows by its own noise.
    decoded = [
        codec.decode_gradients(codec.encode_gradients(gradient.expand(4, 64), seed), 4)
        for seed in range(250)
    ]
    mean = torch.cat(decoded).double().mean(0)
    lost = 0.0
    if spec.subspace_dim:
        basis = orthonormal_basis(spec.seed, 64, spec.subspace_dim)
        gradient = gradient @ basis @ basis.T
        lost = 1e-12
    # No scale and no bfloat16 step is larger than the row's length over 7.
    step = float(gradient.norm()) / {"bf16": 128, "int8": 126, "int4": 6.9}[spec.values]
    assert float((mean - gradient[0]).abs().max()) <= step * 5 * 0.5 / sqrt(1000) + lost
    spread = torch.cat(decoded).std(0)
    assert float(spread.max()) > 0, "rounding must be stochastic"


@EACH_SPEC
def test_payload_is_a_pure_function(spec):
    codec, other = ActivationCodec(spec, CPU), ActivationCodec(spec, CPU)
    x, ids = normal(5, 64), ids_of(5)
    before = x.clone()
    assert codec.encode_activations(x, ids) == other.encode_activations(x, ids)
    assert codec.encode_gradients(x, 4) == other.encode_gradients(x, 4)
    assert codec.encode_gradients(x, 4) != codec.encode_gradients(x, 5)
    assert torch.equal(x, before)


@EACH_SPEC
def test_autograd_and_autocast_change_nothing(spec):
    codec, x, ids = ActivationCodec(spec, CPU), normal(5, 64), ids_of(5)
    payload = codec.encode_activations(x, ids)
    plain = codec.decode_activations(payload, ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert codec.encode_activations(x.requires_grad_(), ids) == payload
        assert codec.encode_gradients(x, 1) == codec.encode_gradients(x.detach(), 1)
        decoded = codec.decode_activations(payload, ids)
    assert torch.equal(decoded, plain) and not decoded.requires_grad


def test_golden_payload():
    """Coordinates of a matrix product that is exact in any order: powers of two."""
    spec = ActivationSpec("int8", 64)
    codec = ActivationCodec(spec, CPU)
    x = torch.arange(-32, 32).float().unsqueeze(0) / 32
    head = bytes.fromhex("0102400001000000")
    assert codec.encode_activations(x, torch.tensor([9]))[:20] == head + bytes.fromhex(
        "023c82868a8e92969a9ea1a5"
    )
    assert codec.encode_gradients(x, 6)[:20] == head + bytes.fromhex("023c82868a8d91959a9ea2a6")


@EACH_SPEC
@pytest.mark.parametrize("entry", [float("nan"), float("inf")])
def test_non_finite_rows_are_refused_by_name(spec, entry):
    codec, x = ActivationCodec(spec, CPU), normal(3, 64)
    x[1, 5] = entry
    for encode in (
        lambda: codec.encode_activations(x, ids_of(3)),
        lambda: codec.encode_gradients(x, 1),
    ):
        with pytest.raises(CompressionError) as caught:
            encode()
        assert caught.value.reason == "non-finite"


@EACH_SPEC
def test_the_largest_hostile_rows_stay_finite(spec):
    """All scales and entries at the limit: what a peer may send at worst."""
    codec = ActivationCodec(spec, CPU)
    payload = spec.row_codec().encode(torch.full((2, spec.subspace_dim or 64), 2.0**100))
    for decoded in (
        codec.decode_gradients(payload, 2),
        codec.decode_activations(payload, ids_of(2)),
    ):
        assert bool(torch.isfinite(decoded).all())


@EACH_SPEC
def test_payloads_of_another_count_are_refused(spec):
    codec = ActivationCodec(spec, CPU)
    payload = codec.encode_activations(normal(3, 64), ids_of(3))
    for refused in (
        lambda: codec.decode_activations(payload, ids_of(4)),
        lambda: codec.decode_gradients(payload, 2),
    ):
        with pytest.raises(CompressionError) as caught:
            refused()
        assert caught.value.reason == "wrong-rows"


@EACH_SPEC
@pytest.mark.parametrize("rows", [torch.ones(3, 65), torch.ones(64), torch.ones(3, 64).int()])
def test_another_form_is_a_mistake_of_the_caller(spec, rows):
    codec = ActivationCodec(spec, CPU)
    for encode in (
        lambda: codec.encode_activations(rows, ids_of(3)),
        lambda: codec.encode_gradients(rows, 1),
    ):
        with pytest.raises(ValueError, match="need floats"):
            encode()


def test_each_row_needs_its_id():
    with pytest.raises(ValueError, match="ids for 3 rows"):
        ActivationCodec(SPECS[0], CPU).encode_activations(normal(3, 64), ids_of(4))


@pytest.mark.parametrize(
    "fields",
    [
        ("fp8", 64),
        ("int8", 0),
        ("int8", 2**16),
        ("int4", 63),
        ("int8", 64, 65),
        ("int8", 64, -1),
        ("int4", 64, 5),
    ],
)
def test_impossible_specs_cannot_be_built(fields):
    with pytest.raises(ValueError, match=r"allowed|even"):
        ActivationSpec(*fields)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@EACH_SPEC
def test_cuda_agrees(spec):
    """Bit for bit without the subspace; with it, to the order of additions of a product."""
    cpu, cuda = ActivationCodec(spec, CPU), ActivationCodec(spec, torch.device("cuda"))
    x, ids = normal(100, 64), ids_of(100)
    payload = cuda.encode_activations(x.cuda(), ids)
    gradients = cuda.encode_gradients(x.cuda(), 3)
    if not spec.subspace_dim:
        assert payload == cpu.encode_activations(x, ids)
        assert gradients == cpu.encode_gradients(x, 3)
    decoded = cuda.decode_activations(payload, ids)
    assert decoded.device.type == "cuda"
    assert torch.allclose(decoded.cpu(), cpu.decode_activations(payload, ids), atol=1e-4)
    assert torch.allclose(
        cuda.decode_gradients(gradients, 100).cpu(), cpu.decode_gradients(gradients, 100), atol=1e-4
    )
