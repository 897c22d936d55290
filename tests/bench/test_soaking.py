"""What the soak makes of its readings: what grows is told, what breathes or shrinks is not."""

import time
from pathlib import Path

import psutil
import pytest

from soaking.readings import Moment, Reading, read, stored
from soaking.report import cells, markdown, reports
from soaking.trend import slope, trend

MIB = 1 << 20
HOUR = range(0, 3600, 10)


def readings(role: str = "node", grows_per_hour: float = 0.0, **changes: int) -> list[Reading]:
    """One process over an hour, of 100 MiB, that breathes a little."""
    found = []
    for number, at_s in enumerate(HOUR):
        held = int(100 * MIB + grows_per_hour * at_s / 3600 + 50_000 * (number % 2))
        fields = {"num_fds": 20, "num_threads": 4, "pid": 7, "round": at_s // 5, **changes}
        memory = dict.fromkeys(("resident_bytes", "unique_bytes", "proportional_bytes"), held)
        found.append(Reading("a", role, at_s=at_s, cpu_s=at_s / 50, **memory, **fields))
    return found


def test_slope_is_that_of_the_line() -> None:
    assert slope([0, 1, 2, 3], [5, 7, 9, 11]) == pytest.approx(2)
    assert slope([3], [4]) == slope([3, 3], [4, 8]) == 0


def test_process_that_breathes_is_flat() -> None:
    (found,) = reports(readings(), warm_up_s=600)
    assert found.is_flat
    assert found.cpu_percent == pytest.approx(2)


def test_leak_is_told_with_its_bytes_per_round() -> None:
    (found,) = reports(readings(grows_per_hour=36 * MIB), warm_up_s=600)
    assert not found.is_flat
    assert found.resident_bytes.per_hour == pytest.approx(36 * MIB, rel=0.01)
    assert found.unique_bytes_per_round == pytest.approx(36 * MIB / 720, rel=0.01)
    assert cells(found)[-1] == "GROWS"


def test_growth_in_the_warm_up_does_not_count() -> None:
    young = [one for one in readings(grows_per_hour=900 * MIB) if one.at_s < 600]
    old = [one for one in readings() if one.at_s >= 600]
    (found,) = reports([*young, *old], warm_up_s=600)
    assert found.is_flat


@pytest.mark.parametrize("count", ["num_fds", "num_threads"])
def test_more_files_or_threads_are_told(count: str) -> None:
    half = len(HOUR) // 2
    before = readings()
    for more, flat in ((1, True), (2, False)):
        after = readings(**{count: getattr(before[0], count) + more})
        (found,) = reports([*before[:half], *after[half:]], warm_up_s=600)
        assert found.is_flat == flat


def test_processes_are_told_apart_and_a_restart_is_seen() -> None:
    restarted = [*readings("p2pd")[:200], *readings("p2pd", pid=8)[200:]]
    node, p2pd = reports([*readings(), *restarted], warm_up_s=600)
    assert (node.name, node.pids) == ("a node", (7,))
    assert (p2pd.name, p2pd.pids) == ("a p2pd", (7, 8))
    assert markdown([node, p2pd]).count("\n") == 3


def test_nothing_after_the_warm_up_is_no_trend() -> None:
    assert reports(readings(), warm_up_s=7200) == []
    with pytest.raises(ValueError, match="warm-up"):
        trend([], [])


def test_own_process_can_be_read() -> None:
    found = read("a", "node", psutil.Process(), Moment(time.monotonic() - 5, 3))
    assert found.resident_bytes >= found.unique_bytes > MIB
    assert found.num_fds > 2 and found.num_threads > 0
    assert found.at_s >= 5 and found.round == 3


def test_samples_can_be_read_again(tmp_path: Path) -> None:
    before = readings()
    (tmp_path / "samples.jsonl").write_text("".join(one.as_line() for one in before))
    assert stored(tmp_path / "samples.jsonl") == before
