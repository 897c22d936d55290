"""What fuzzing found worth keeping goes through every parser again (bench/fuzz.py finds it)."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))

from targets import TARGETS  # noqa: E402

CORPUS = FOLDER / "corpus"


def kept(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def test_every_parser_has_a_corpus_and_every_corpus_a_parser():
    assert sorted(TARGETS) == sorted(path.name for path in CORPUS.iterdir())
    assert all(len(kept(name)) >= 5 for name in TARGETS)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_no_kept_input_makes_a_parser_fail(name):
    accepted = [TARGETS[name](data) for data in kept(name)]
    assert not all(accepted), "or nothing was ever refused"


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_neither_cut_off_nor_doubled_nor_turned_over(name):
    for data in kept(name):
        for changed in (data[: len(data) // 2], data + data, data[::-1], data + bytes(1)):
            TARGETS[name](changed)
