"""The codec's bench runs, says what it must and judges honestly; no test depends on a speed."""

import json
import subprocess
import sys
from dataclasses import replace
from math import comb, log2
from pathlib import Path

import pytest
import torch
from rich.progress import Progress

from codec_bench import memory
from codec_bench.cases import DISTRIBUTIONS, SIZES, Case, recorded, synthetic
from codec_bench.claims import judge
from codec_bench.limits import bits_per_index, shard_limit, tile_areas
from codec_bench.report import page
from codec_bench.results import Claim, MemoryResult, SchemeResult, to_json
from codec_bench.schemes import SCHEMES, take_up
from codec_bench.timing import Operation, fastest
from pseudogradients import demo_run, record

BENCH = Path(__file__).parents[2] / "bench"
SHAPES = ((70, 130), (64,), (100,))


def test_quick_run_prints_every_kind_of_line() -> None:
    command = [sys.executable, str(BENCH / "codec.py"), "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["bench"] for line in lines} == {"codec"}
    kinds = {line["kind"] for line in lines}
    assert kinds == {"scheme", "baseline", "mean", "memory", "index", "claims"}
    schemes = {(line["scheme"], line["data"]) for line in lines if line["kind"] == "scheme"}
    assert schemes == {(scheme, data) for scheme in SCHEMES for data in DISTRIBUTIONS}
    claims = lines[-1]
    assert claims["kind"] == "claims"
    assert claims["passed"] == all(claim["passed"] for claim in claims["claims"])
    size, index = claims["claims"][:2]  # at this size, too, whatever the machine does
    assert size["passed"], size
    assert index["passed"], index


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_leaves_what_it_does_not_send(name: str) -> None:
    case = synthetic("laplace", SHAPES)
    left = case.feedback_N.clone()
    encoded = SCHEMES[name].make(case.shapes)(left, case.drift)
    sent = torch.zeros_like(left)
    encoded.add(sent)
    torch.testing.assert_close(left + sent, case.drift.start, rtol=1e-5, atol=1e-8)
    assert bool(sent.any())
    assert 0 < (encoded.index_bytes or 1) < encoded.num_bytes


def test_torch_takes_up_a_round_as_the_codec_does() -> None:
    case = recorded_like(seed=3)
    folded = case.feedback_N.clone()
    take_up(folded, case.drift)
    drift = case.drift
    expected = case.feedback_N * drift.decay + (drift.start - drift.local)
    torch.testing.assert_close(folded, expected)


def recorded_like(seed: int) -> Case:
    """Return a case whose three vectors all matter."""
    case = synthetic("normal", SHAPES, seed)
    local = synthetic("laplace", SHAPES, seed + 1).drift.start
    feedback = synthetic("scale-mixed", SHAPES, seed + 2).drift.start
    return replace(case, drift=replace(case.drift, local=local), feedback_N=feedback)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_made_up_rounds_are_the_same_each_time(name: str) -> None:
    first, again, other = (synthetic(name, SHAPES, seed).drift.start for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.numel() == 70 * 130 + 64 + 100


def test_scale_mixed_tiles_differ_and_the_others_do_not() -> None:
    shapes = ((512, 512),)
    spread = {}
    for name in DISTRIBUTIONS:
        tiles = synthetic(name, shapes).drift.start.view(8, 64, 8, 64).transpose(1, 2)
        stds = tiles.reshape(64, -1).std(dim=1)
        spread[name] = float(stds.log().std())
    assert spread["normal"] < 0.05
    assert spread["laplace"] < 0.05
    assert 0.35 < spread["scale-mixed"] < 0.65


def test_tiles_are_padded_and_vectors_joined() -> None:
    """70 x 130 is 2 x 3 tiles: heights 64 and 6, widths 64, 64 and 2."""
    assert tile_areas(SHAPES) == {64 * 64: 2, 64 * 2: 1, 6 * 64: 2, 6 * 2: 1, 164: 1}


def test_limit_by_hand() -> None:
    assert bits_per_index(4096, 64) == pytest.approx(log2(comb(4096, 64)) / 64)
    assert shard_limit(((64, 64), (4096,))) == pytest.approx(bits_per_index(4096, 64))


def test_fastest_takes_turns_and_the_minimum() -> None:
    calls: list[str] = []
    operations = {
        name: Operation(lambda name=name: calls.append(name), lambda name=name: calls.append("-"))
        for name in ("a", "b")
    }
    times = fastest(operations, repetitions=2)
    assert calls == ["-", "a", "-", "b"] * 3
    assert all(0 < took < 1 for took in times.values())


def test_peak_sees_what_torch_allocates() -> None:
    """The half-precision payload is 2 bytes per parameter; nothing can be below that."""
    shapes = SIZES["1"].shapes
    ((name, peak),) = memory.peaks(["dense fp16"], shapes, processes=1)
    assert name == "dense fp16"
    assert 1.9 < peak.encode / SIZES["1"].numel < 8


def test_the_codec_makes_no_dense_copy_and_no_full_index() -> None:
    """Either would be at least 4 bytes per parameter, by whatever library it was allocated."""
    size = SIZES["16.8"]
    ((_, peak),) = memory.peaks(["sign"], size.shapes, processes=1)
    assert 0 < peak.encode / size.numel < 1.5
    assert 0 < peak.add / size.numel < 1.5


def scheme_result(scheme: str, encode: float, error: float) -> SchemeResult:
    return SchemeResult(
        scheme=scheme,
        data="normal",
        parameters=1000,
        bits_per_parameter=0.13,
        bits_per_index=7.4,
        index_limit=7.36,
        encode_mparam_s=encode,
        add_mparam_s=900.0 if scheme == "sign" else 100.0,
        error=0.8,
        error_of_kept=error,
    )


def test_claims_fail_when_a_figure_is_worse() -> None:
    results = [
        scheme_result("reference", 50.0, 0.02),
        MemoryResult(
            scheme="sign",
            parameters=1000,
            encode_bytes_per_parameter=0.5,
            add_bytes_per_parameter=0.1,
        ),
    ]
    good = judge([*results, scheme_result("sign", 151.0, 0.02)])
    assert good.passed
    assert len(good.claims) == 6
    slow = judge([*results, scheme_result("sign", 149.0, 0.02)])
    assert [claim.passed for claim in slow.claims].count(False) == 1
    assert not slow.passed
    assert not judge([*results, scheme_result("sign", 151.0, 0.021)]).passed
    assert not Claim(goal="x", figure=float("nan"), bound="at least", limit=0).passed


def test_page_names_command_commit_and_machine() -> None:
    result = scheme_result("sign", 150.0, 0.01)
    text = page([result], "python bench/codec.py", 0.5)
    assert "- Command: `python bench/codec.py`" in text
    assert "- Commit: " in text
    assert "- Hardware: " in text
    assert "| sign | 0.1300 | 7.400 | 7.360 | 150 | 900 | 0.8000 | 0.01 |" in text
    assert to_json(result) in text


def test_recording_comes_back_in_layout_order(tmp_path: Path) -> None:
    run = demo_run(rounds=2, layers=1)
    run = run.model_copy(update={"inner": run.inner.model_copy(update={"steps": 1})})
    path = tmp_path / "real.safetensors"
    with Progress(disable=True) as progress:
        record(path, run, progress)
    case = recorded(path)
    assert case.shapes[0] == (256, 128)
    assert case.shapes[-1] == (256, 128)
    assert case.shapes[1:3] == ((128,), (128, 128))
    assert bool(case.feedback_N.any())
    assert 0 < float((case.drift.start - case.drift.local).abs().max()) < 0.1
    assert list(tmp_path.iterdir()) == [path]
