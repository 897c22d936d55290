"""The sweep repeats itself bit for bit, runs nothing twice, and its table says what it found."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import convergence
from convergence_sweep.configurations import CONFIGURATIONS, Size, manifest_of
from convergence_sweep.jobs import Job, Result, append_result, pending, read_results
from convergence_sweep.ring_configurations import RING_CONFIGURATIONS, routes
from convergence_sweep.schemes import shard_schemes
from convergence_sweep.summary import (
    percent_above,
    percent_above_reference,
    rows,
    shared_seeds,
    table,
    verdict,
)
from skerry.compression.drift import Drift

TINY = Size(
    layers=1,
    d_model=16,
    ffn_dim=16,
    context=16,
    batch_size=1,
    inner_steps=2,
    rounds=2,
    replicas=2,
    curve_batches=1,
    final_batches=1,
)
TINY_FLAGS = [
    f"--{name.replace('_', '-')}={getattr(TINY, name)}" for name in Size.__dataclass_fields__
]
BY_NAME = {one.name: one for one in CONFIGURATIONS}
CPU = torch.device("cpu")


def result(name: str, seed: int = 0, loss: float = 2.0, size: Size = TINY) -> Result:
    return Result(
        configuration=name,
        seed=seed,
        size=size,
        final_loss=loss,
        curve=(5.0, loss),
        training=(4.0,),
        bits_per_parameter=0.125,
        num_parameters=100,
        unigram_entropy=3.2,
        text_tokens=64,
        seconds=1.0,
        machine="none",
    )


def without_time(found: Result) -> Result:
    return replace(found, seconds=0.0)


def test_job_repeats_itself_and_survives_json(tmp_path: Path) -> None:
    job, rounds = Job(BY_NAME["sign"], TINY, seed=0), []
    first = job.run(CPU, lambda done, loss: rounds.append((done, loss)))
    second = job.run(CPU, lambda done, loss: None)
    assert without_time(first) == without_time(second)
    assert rounds == list(enumerate(first.curve))[1:]
    append_result(tmp_path / "out.jsonl", first)
    assert read_results(tmp_path / "out.jsonl") == [first]
    # 2 rounds of 2 steps on 2 replicas, 1 sequence of 16 text tokens each.
    assert (first.text_tokens, len(first.curve), len(first.training)) == (128, 3, 2)
    assert first.final_loss < first.curve[0]
    assert first.seed == 0 and first.configuration == "sign"


@pytest.mark.parametrize("name", ["reference", "dense"])
def test_configurations_of_a_seed_start_from_the_same_parameters(name: str) -> None:
    one = Job(BY_NAME["sign"], replace(TINY, rounds=1), seed=1).run(CPU, lambda done, loss: None)
    other = Job(BY_NAME[name], replace(TINY, rounds=1), seed=1).run(CPU, lambda done, loss: None)
    assert one.curve[0] == other.curve[0]
    assert one.training == other.training, "the first round's inner steps are the same text"
    assert one.final_loss != other.final_loss
    assert one.bits_per_parameter < other.bits_per_parameter


def test_every_configuration_is_a_valid_run_and_named_once() -> None:
    runs = [manifest_of(one, TINY, seed=0) for one in CONFIGURATIONS]
    assert len({run.name for run in runs}) == len(CONFIGURATIONS)
    varied = [
        (one.scheme, run.codec, run.outer) for one, run in zip(CONFIGURATIONS, runs, strict=True)
    ]
    assert all(varied.count(one) == 1 for one in varied), "two names for the same run"


def test_ring_configurations_are_valid_runs_and_named_once() -> None:
    size = Size(layers=6)
    runs = [manifest_of(one, size, seed=0) for one in RING_CONFIGURATIONS]
    assert len({run.name for run in runs}) == len(RING_CONFIGURATIONS)
    dims = {run.name: run.model.subspace.dim for run in runs}
    assert (dims["sign"], dims["rings"], dims["wire-8"], dims["reparam-32"]) == (0, 0, 16, 4)
    assert all(run.ring.activations == "int8" for run in runs[1:])


def test_every_stage_but_the_first_is_skipped_as_often() -> None:
    for skip, visits in ((0.0, 60), (1 / 6, 48), (1 / 3, 36)):
        found = routes(6, skip, 100, 60)
        counts = [sum((i, (i,)) in route for route in found) for i in range(6)]
        assert counts == [60, *[visits] * 5]
        assert found[10:20] == routes(6, skip, 110, 10), "a number decides its route"


@pytest.mark.parametrize("name", ["rings", "wire-8", "reparam-8", "skip-33"])
def test_rings_train_beside_full_replicas(name: str) -> None:
    configuration = next(one for one in RING_CONFIGURATIONS if one.name == name)
    size = replace(TINY, layers=3)  # in its first round the confined model barely moves
    found = Job(configuration, size, seed=0).run(CPU, lambda done, loss: None)
    assert found.final_loss < found.curve[0]
    full = Job(BY_NAME["sign"], size, seed=0).run(CPU, lambda done, loss: None)
    assert (found.num_parameters < full.num_parameters) == (name == "reparam-8")
    if name == "rings":
        # Nothing but int8 and the norm that is clipped stage by stage differs.
        assert found.training[0] == pytest.approx(full.training[0], rel=1e-3)
        assert found.training != full.training


def test_only_known_names_are_run() -> None:
    with pytest.raises(SystemExit, match="wire-8"):
        convergence.main([*TINY_FLAGS, "--only", "wire-8", "--list"])
    assert convergence.main([*TINY_FLAGS, "--rings", "--only", "wire-8", "--list"]) == 0


def test_dense_scheme_sends_everything_and_means_it() -> None:
    scheme = shard_schemes("dense", manifest_of(BY_NAME["dense"], TINY, 0))[0]
    start, payloads = torch.tensor([1.0, 2.0, 3.0]), []
    for local in ([0.0, 2.0, 5.0], [0.0, 4.0, 3.0]):
        feedback = torch.zeros(3)
        payloads.append(scheme.encode(feedback, Drift(0.95, start, torch.tensor(local))))
        assert not feedback.any()
    # Norms 2.236 and 2.236: the median clip changes neither.
    mean = scheme.aggregate(payloads, "replicas")
    torch.testing.assert_close(mean, torch.tensor([1.0, -1.0, -1.0]))
    assert scheme.num_bytes(payloads[0]) == 12


def test_finished_jobs_are_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out.jsonl"
    append_result(out, result("sign", loss=1.0))
    flags = [*TINY_FLAGS, f"--out={out}", "--only", "sign", "dense", "--seeds", "0"]
    assert convergence.main([*flags, "--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == ["done", "to"]
    assert convergence.main(flags) == 0
    found = read_results(out)
    assert [one.configuration for one in found] == ["sign", "dense"]
    assert found[0].final_loss == 1.0
    assert "`dense`" in capsys.readouterr().out
    before = out.read_bytes()
    assert convergence.main(flags) == 0
    assert out.read_bytes() == before


def test_number_of_jobs_is_limited(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    flags = [*TINY_FLAGS, f"--out={out}", "--only", "sign", "dense", "--seeds", "3"]
    assert convergence.main([*flags, "--jobs", "0"]) == 0
    assert read_results(out) == []
    assert convergence.main([*flags, "--jobs", "1"]) == 0
    assert [one.configuration for one in read_results(out)] == ["sign"]


def test_results_of_another_size_or_seed_do_not_count() -> None:
    jobs = [Job(BY_NAME["sign"], TINY, seed=0)]
    assert pending(jobs, [result("sign")]) == []
    others = [
        result("sign", size=replace(TINY, rounds=3)),
        result("sign", seed=1),
        result("dense"),
    ]
    assert pending(jobs, others) == jobs


def test_line_cut_short_is_left_out(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    append_result(out, result("sign"))
    with out.open("a") as file:
        file.write('{"configuration": "den')
    assert read_results(out) == [result("sign")]


def test_differences_are_paired_by_seed() -> None:
    results = [
        result("sign", 0, 2.0),
        result("sign", 1, 4.0),
        result("dense", 1, 3.0),
        result("dense", 0, 2.2),
        result("dense", 2, 9.0),
    ]
    default, dense = rows(CONFIGURATIONS, results)
    assert dense.differences == pytest.approx((-25.0, 10.0))
    assert percent_above({0: 1.0}, {1: 1.0}) == ()
    # The third seed is the other's only, so it has no part in the mean.
    assert shared_seeds([default, dense]) == [0, 1]
    header, _, first, second = table([default, dense]).splitlines()
    assert "| mean of seeds 0, 1 | seed 0 | seed 1 | seed 2 |" in header
    assert first.split(" | ")[2:7] == ["3.0000", "2.0000", "4.0000", "-", "-"]
    assert second.split(" | ")[2:6] == ["2.6000", "2.2000", "3.0000", "9.0000"]
    assert "| **-7.50 %** (-25.00, +10.00) | 0.125 |" in second


def test_without_a_shared_seed_there_is_no_mean() -> None:
    some = rows(CONFIGURATIONS, [result("sign", 0), result("dense", 1)])
    lines = table(some).splitlines()
    assert all(line.split(" | ")[2] in ("mean of seeds -", "---", "-") for line in lines)
    assert table([]).count("\n") == 1


@pytest.mark.parametrize(("default", "code"), [(2.009, 0), (2.011, 1)])
def test_target_against_the_reference_decides_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], default: float, code: int
) -> None:
    out = tmp_path / "out.jsonl"
    append_result(out, result("sign", loss=default))
    append_result(out, result("reference", loss=2.0))
    assert convergence.main([*TINY_FLAGS, f"--out={out}", "--jobs=0"]) == code
    assert ("NOT within" in capsys.readouterr().out) == bool(code)


def test_verdict_without_both_claims_nothing() -> None:
    above = percent_above_reference(rows(CONFIGURATIONS, [result("sign")]))
    assert above == ()
    assert "no seed of both" in verdict(above)


@pytest.fixture(scope="module")
def open_fonts() -> None:
    """Let matplotlib open its font files, which it keeps, before a test is watched for leaks."""
    figure = pytest.importorskip("matplotlib.figure").Figure()
    figure.text(0, 0, "a")
    figure.savefig(io.BytesIO(), format="svg")


@pytest.mark.usefixtures("open_fonts")
def test_report_holds_all_results_and_draws_what_there_is(tmp_path: Path) -> None:
    curve = tuple(5 / math.sqrt(i + 1) for i in range(8))
    results = [replace(result("sign", seed), curve=curve) for seed in range(2)]
    results.append(replace(result("beta-0.9"), curve=tuple(1.1 * loss for loss in curve)))
    out, stem = tmp_path / "out.jsonl", tmp_path / "2026_convergence.v1"
    for one in results:
        append_result(out, one)
    flags = [*TINY_FLAGS, f"--out={out}", "--jobs=0", f"--report={stem}"]
    assert convergence.main(flags) == 0
    written = json.loads((tmp_path / "2026_convergence.v1.json").read_text())
    assert [(one["configuration"], one["seed"]) for one in written] == [
        (one.configuration, one.seed) for one in results
    ]
    picture = (tmp_path / "2026_convergence.v1.svg").read_text()
    assert all(word in picture for word in ("<svg", "beta-0.9", "values"))
    assert "density" not in picture, "a group without results has no panel"
    assert convergence.main(flags) == 0
    assert (tmp_path / "2026_convergence.v1.svg").read_text() == picture
