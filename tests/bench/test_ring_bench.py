"""The ring's benchmark: its plan, its figures and its table; `python bench/ring.py` is the rest."""

import json
from dataclasses import asdict

import ring
from ring_bench.local_ring import plan_of

OPTIONS = ring._parser().parse_args(["--layers", "5", "--d-model", "64", "--context", "32"])


def test_stages_share_the_blocks_and_every_microbatch_passes_all():
    plan = plan_of(ring._manifest("int8", OPTIONS), 3)
    assert [len(stage.shards) for stage in plan.stages] == [2 + 2, 1, 2]
    (path,) = plan.rings[0].paths
    assert [hop.stages for hop in path.hops] == [(0,), (1,), (2,)]
    assert path.quota == OPTIONS.batch_size


def test_every_codec_is_a_manifest_that_sends_what_its_name_says():
    sent = {
        name: next(ring._results(name, ring._manifest(name, OPTIONS), *figures()))
        for name in ring.CODECS
    }
    assert sent["bf16"].dense_bytes == 2 * 64
    assert 0 <= sent["bf16"].bytes_per_text_token - 2 * 64 < 1  # and the payload's header
    assert 64 < sent["int8"].bytes_per_text_token < 70
    assert 8 < sent["subspace+int8"].bytes_per_text_token < 16


def test_fractions_are_of_the_median_step_without_limits():
    results = list(ring._results("int8", ring._manifest("int8", OPTIONS), *figures()))
    tokens = OPTIONS.batch_size * OPTIONS.context
    assert [one.text_tokens_per_s for one in results] == [tokens, tokens / 2, tokens / 4]
    assert [one.fraction for one in results] == [1, 0.5, 0.25]
    assert json.loads(json.dumps(asdict(results[0])))["redone"] == 1


def test_table_has_a_row_for_each_result():
    results = list(ring._results("int8", ring._manifest("int8", OPTIONS), *figures()))
    rows = ring.table(results).splitlines()
    assert len(rows) == 2 + len(ring.LINES)
    assert rows[3].startswith("| int8 | 100 Mbit/s, 50 ms | 256 | 50 % | 66.25 (dense bf16: 128)")


def figures():
    """Seconds of steps, with one that something else has slowed down; and attempts that failed."""
    seconds = {line: [2.0**i, 9.0, 2.0**i] for i, line in enumerate(ring.LINES)}
    return seconds, dict.fromkeys(ring.LINES, 1)
