"""The benchmark of hostile contributors: attacks are what they claim, gaps are right."""

from dataclasses import replace

import pytest
import torch

from byzantine_bench.attacks import ATTACKS, REPLACED, Situation
from byzantine_bench.defences import DEFAULT, DEFENCES
from byzantine_bench.jobs import (
    CLEAN,
    Job,
    Result,
    Size,
    append,
    jobs,
    pending,
    read,
    run,
)
from byzantine_bench.summary import misses, rows, table
from skerry.compression.agreement import agreement
from skerry.compression.options import CodecOptions
from skerry.compression.pseudogradient import PseudoGradientCodec

CODEC = PseudoGradientCodec(((256, 256),), CodecOptions())
TINY = Size(layers=1, d_model=32, ffn_dim=32, context=16, batch_size=1, inner_steps=1, rounds=2)


def payload(seed):
    generator = torch.Generator().manual_seed(seed)
    return CODEC.encode(1e-3 * torch.randn(CODEC.numel, generator=generator))


def forged(name, seed=0):
    random = torch.Generator().manual_seed(seed)
    conspiracy = torch.Generator().manual_seed(99)
    return ATTACKS[name](Situation(CODEC, payload(1), payload(2), random, conspiracy))


def seen(*payloads):
    return agreement(CODEC, payloads)


def test_a_reversed_update_opposes_the_honest_one_throughout():
    found = seen(payload(1), forged("flip"))
    assert -found.balance_CC[0, 1] == found.shared_CC[0, 1] == found.sent_C[0]


def test_a_scaled_update_is_a_hundred_times_as_long():
    found = seen(payload(1), forged("scale"))
    assert found.balance_CC[0, 1] == found.sent_C[0]
    assert found.squares[1] / found.squares[0] == pytest.approx(1e4, rel=0.1)


def test_noise_is_as_long_as_an_update_and_has_nothing_in_common_with_it():
    found = seen(payload(1), forged("noise"))
    assert found.squares[1] / found.squares[0] == pytest.approx(1.0, rel=0.1)
    assert found.shared_CC[0, 1] < 0.1 * found.sent_C[0]


def test_a_copy_shares_most_with_its_victim():
    found = seen(payload(2), forged("copy"))
    assert found.shared_CC[0, 1] / found.sent_C[0] == pytest.approx(1 - REPLACED, abs=0.05)


def test_colluders_agree_on_a_bias_in_every_round():
    found = seen(payload(1), forged("collude", seed=0), forged("collude", seed=1))
    assert found.shared_CC[0, 1] > 0.7 * found.sent_C[0]
    assert found.balance_CC[1, 2] == found.shared_CC[1, 2]


def test_what_the_defaults_promise_is_run_first():
    found = list(jobs(TINY, (0, 1)))
    assert found[:2] == [Job(CLEAN, 0, DEFAULT, seed, TINY) for seed in (0, 1)]
    half = found[: 2 + 2 * 2 * len(ATTACKS)]
    assert {job.defence for job in half} == {DEFAULT}
    assert {job.attack for job in half} == {CLEAN, *ATTACKS}
    assert {job.defence for job in found} == set(DEFENCES)


def result(attack, defence, seed, loss, percent=30):
    job = Job(attack, 0 if attack == CLEAN else percent, defence, seed, TINY)
    return Result(job, loss, {"hostile norm out": 1}, 10, 0.1)


def test_gaps_are_against_the_clean_run_of_the_same_seed():
    results = [
        result(CLEAN, DEFAULT, 0, 2.0),
        result(CLEAN, DEFAULT, 1, 4.0),
        result("flip", DEFAULT, 0, 2.02),
        result("flip", DEFAULT, 1, 4.0),
        result("flip", "clip", 0, float("inf")),
        result("flip", "clip", 2, 1.0),
    ]
    found = {(row.attack, row.defence): row for row in rows(results)}
    assert found["flip", DEFAULT].gaps == pytest.approx((1.0, 0.0))
    assert found["flip", DEFAULT].judged == {"hostile norm out": 2}
    text = table(list(found.values()))
    assert "| 30 % flip | +0.5 % (2) | diverged (1) |" in text
    assert misses(found.values(), ()) == []


def test_the_default_alone_can_miss_and_open_attacks_are_accepted():
    results = [result(CLEAN, DEFAULT, 0, 2.0), result("flip", DEFAULT, 0, 2.1)]
    results.append(result("flip", "clip", 0, 9.0))
    assert misses(rows(results), ()) == ["30 % flip: 5.0 %"]
    assert misses(rows(results), ("flip",)) == []


def test_finished_jobs_are_not_run_again(tmp_path):
    out = tmp_path / "results.jsonl"
    todo = list(dict.fromkeys(jobs(TINY, (0,))))
    append(out, replace(result(CLEAN, DEFAULT, 0, 2.0), job=todo[0]))
    with out.open("a") as file:
        file.write('{"cut by a kill')
    assert read(out)[0].job == todo[0]
    assert pending(todo, read(out)) == todo[1:]


def test_a_small_run_finds_its_attackers():
    found = run(Job("scale", 30, DEFAULT, 0, TINY))
    assert found.judged["hostile norm out"] == 3 * TINY.rounds
    assert not any(one.startswith("honest") and one.endswith("out") for one in found.judged)
    assert 0 < found.loss < 10
