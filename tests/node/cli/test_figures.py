"""Losses and pace from the log: over the newest rounds, without the gaps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moments import START, line, round_lines, rounds

from skerry.node.cli import figures as figures_module
from skerry.node.cli.figures import PACE_ROUNDS, Figures, Tally
from skerry.node.page.lines import read_line


def figures_of(lines: list[str]) -> Figures:
    tally = Tally()
    for text in lines:
        read = read_line(text)
        assert read is not None
        tally.take(read)
    return tally.figures()


def test_losses_in_the_order_of_rounds() -> None:
    found = figures_of(rounds(3))
    assert found.losses == (4.75, 4.5, 4.25)
    assert found.val_losses == (4.5, 4.25, 4.0)
    assert (found.val_round, found.applied, found.applied_at) == (3, 3, START + 30)


def test_loss_is_weighted_by_text_tokens() -> None:
    parts = [
        {"peer": "a", "text_tokens": 100, "loss": 1.0, "bytes": 1},
        {"peer": "b", "text_tokens": 300, "loss": 3.0, "bytes": 1},
    ]
    (text,) = (text for text in round_lines(1, START) if '"committed"' in text)
    start, end = text.index('"included": ['), text.index('"late"')
    text = f'{text[:start]}"included": {str(parts).replace(chr(39), chr(34))}, {text[end:]}'
    assert figures_of([text]).losses == (2.5,)
    assert figures_of([f'{text[:start]}"included": [], {text[text.index(chr(34) + "late") :]}'])
    assert figures_of(
        [f'{text[:start]}"included": [], {text[text.index(chr(34) + "late") :]}']
    ) == (Figures())


def test_a_round_that_is_committed_anew_counts_once() -> None:
    lines = [*round_lines(1, START, loss=9.0), *round_lines(1, START + 50, loss=3.0)]
    assert figures_of(lines).losses == (3.0,)


def test_pace_needs_two_rounds_and_takes_the_newest() -> None:
    assert figures_of(rounds(1)).round_s is None
    found = figures_of(rounds(2))
    assert (found.text_tokens_per_s, found.round_s) == (100.0, 10.0)
    slow = [*rounds(PACE_ROUNDS), *round_lines(PACE_ROUNDS + 1, START + 100, seconds=110.0)]
    assert figures_of(slow).round_s == pytest.approx((9 * 10 + 110) / PACE_ROUNDS)


def test_pace_ends_at_a_round_that_was_missed() -> None:
    lines = [*round_lines(1, START), *round_lines(5, START + 80), *round_lines(6, START + 90)]
    assert figures_of(lines).round_s == 10.0
    late = line("applied", START + 200, round=9, digest="ef" * 32)
    assert figures_of([*lines, late]).round_s is None


def test_seconds_left_shrink_within_a_round_and_end_with_the_last() -> None:
    found = figures_of(rounds(2))
    assert found.seconds_left(5, START + 20) == 30.0
    assert found.seconds_left(5, START + 24) == 26.0
    assert found.seconds_left(5, START + 500) == 20.0
    assert found.seconds_left(2, START + 20) is None
    assert Figures().seconds_left(5, START) is None


def test_only_so_many_rounds_are_kept(monkeypatch) -> None:
    monkeypatch.setattr(figures_module, "_KEPT_ROUNDS", 4)
    assert len(figures_of(rounds(9)).losses) == 4


@given(st.permutations(rounds(3)))
def test_the_order_of_lines_changes_no_loss(lines) -> None:
    assert figures_of(lines).losses == (4.75, 4.5, 4.25)
