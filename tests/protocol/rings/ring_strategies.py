"""Frames and plans that hypothesis draws."""

from dataclasses import replace

from hypothesis import strategies as st
from ring_world import plan_of

from skerry.protocol.fields import FASTEST, SLOWEST
from skerry.protocol.ids import RunId
from skerry.protocol.rings import frames as fr
from skerry.protocol.rings import plan as pl

counts = st.integers(0, 2**40)
small = st.integers(0, 2**32 - 1)
stages = st.lists(st.integers(0, 600), max_size=5).map(tuple)
routes = st.lists(st.builds(pl.Hop, st.integers(0, 300), stages), max_size=8).map(tuple)
paces = st.builds(fr.Pace, counts, counts)
reasons = st.text("abcdefgh- ", max_size=64)
visits = st.lists(
    st.builds(fr.StageVisits, small, counts, st.lists(st.integers(0, 4095), max_size=9).map(tuple)),
    max_size=4,
).map(tuple)
ages = st.lists(st.builds(fr.StageAge, small, counts), max_size=4).map(tuple)
controls = st.one_of(
    st.builds(fr.Reserve, routes),
    st.just(fr.Grant()),
    st.builds(fr.Refuse, reasons),
    st.builds(fr.Release, st.booleans()),
    st.just(fr.Passed()),
    st.builds(fr.Rerouted, routes, small),
    st.builds(fr.Failed, small, reasons),
    st.just(fr.StepBegin()),
    st.builds(fr.StepEnd, visits),
    st.builds(fr.Stepped, visits, reasons),
    st.builds(fr.Rebuilt, ages),
)
bodies = st.one_of(
    controls,
    st.builds(fr.Activation, routes, small, paces),
    st.builds(fr.Gradient, paces),
)
run_ids = st.binary(min_size=32, max_size=32).map(lambda raw: RunId(raw.hex()))
fences = st.builds(fr.Fence, run_ids, counts, small, counts, small)
places = st.builds(fr.Place, st.integers(0, 4095), small, st.integers(0, pl.MAX_HOPS))
frames = st.builds(fr.Frame, fences, places, bodies)


def rated(plan: pl.Plan, rate: float) -> pl.Plan:
    """The plan, made for members as fast as that."""
    rings = [
        replace(ring, members=tuple(replace(member, rate=rate) for member in ring.members))
        for ring in plan.rings
    ]
    return replace(plan, rings=tuple(rings))


plans = st.builds(
    rated,
    st.builds(
        plan_of,
        st.integers(1, 6),
        slots=st.integers(1, pl.MAX_SLOTS),
        in_flight=st.integers(1, 100),
    ),
    st.just(0.0) | st.floats(SLOWEST, FASTEST),
)
