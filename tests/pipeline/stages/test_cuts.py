"""Which shards make up a stage: every shard once, the ends with the origin."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from skerry.pipeline.stages.cuts import blocks_of, cut, hosted_specs
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import ModelSection

SECTION = ModelSection(layers=5, d_model=16, heads=2, kv_heads=1, ffn_dim=24, context=8)


@given(st.integers(0, 4), st.lists(st.integers(1, 4), max_size=6))
@settings(deadline=None)
def test_a_cut_has_every_shard_once_and_in_order(first, rest):
    assume(first + sum(rest) > 0)
    section = SECTION.model_copy(update={"layers": first + sum(rest)})
    stages = cut(section, (first, *rest))
    assert hosted_specs(section, stages) == layout_of(section)
    assert [len(blocks_of(stages, [number])) for number in stages] == [first, *rest]
    blocks = blocks_of(stages, range(len(stages)))
    assert blocks == tuple(f"block.{i}" for i in range(section.layers))


@pytest.mark.parametrize("sizes", [(4,), (3, 3), (5, 0), (-1, 6), (0, 2, 2)])
def test_other_sums_are_refused(sizes):
    with pytest.raises(ValueError, match="blocks"):
        cut(SECTION, sizes)


def test_blocks_come_in_the_order_of_the_visit():
    stages = cut(SECTION, (0, 2, 2, 1))
    assert blocks_of(stages, (3, 1)) == ("block.4", "block.0", "block.1")
    with pytest.raises(KeyError):
        blocks_of(stages, (4,))


@pytest.mark.parametrize(
    "stages",
    [
        {1: ()},
        {1: ("block.5",)},
        {1: ("block.1", "block.1")},
        {1: ("block.1",), 2: ("block.1",)},
        {1: ("head",)},
        {1: ("embed", "block.0", "head")},
        {0: ("embed", "block.0")},
        {0: ("block.0",)},
    ],
)
def test_stages_that_cannot_be_hosted_are_refused(stages):
    with pytest.raises(ValueError):
        hosted_specs(SECTION, stages)
