"""The corpus: what is read, how it is split, and what is refused."""

import json
import logging
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.pipeline import corpus as corpus_module
from skerry.pipeline.corpus import Corpus, load_corpus, unigram_entropy
from skerry.protocol.errors import ConfigError
from skerry.protocol.manifest import DataSection

NAMES = [f"file{i:03d}.txt" for i in range(60)]


def tagged(name: str) -> str:
    return f"<{name}>\n" * 5


def tags(part: np.ndarray) -> set[str]:
    return set(re.findall(r"<(.+?)>", part.tobytes().decode()))


def as_corpus(training: bytes, validation: bytes) -> Corpus:
    return Corpus(np.frombuffer(training, np.uint8), np.frombuffer(validation, np.uint8))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "texts"
    for i, name in enumerate(NAMES):
        path = root / f"part{i % 3}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(tagged(name))
    return root


def text_of(path, percent=20):
    return DataSection(source="text", path=str(path), validation_percent=percent)


def jsonl_of(path, field="text"):
    return DataSection(source="jsonl", path=str(path), field=field, validation_percent=20)


@pytest.mark.parametrize("seed", range(5))
def test_no_file_is_in_both_parts_and_none_is_lost(folder, seed):
    corpus = load_corpus(text_of(folder), seed, 8)
    training, validation = tags(corpus.training), tags(corpus.validation)
    assert not training & validation
    assert training | validation == set(NAMES)
    assert 2 <= len(validation) <= 25


def test_split_depends_on_the_seed_and_not_on_the_place(folder, tmp_path):
    first = load_corpus(text_of(folder), 0, 8)
    moved = folder.rename(tmp_path / "elsewhere")
    again, other = (load_corpus(text_of(moved), seed, 8) for seed in (0, 1))
    assert again.training.tobytes() == first.training.tobytes()
    assert again.validation.tobytes() == first.validation.tobytes()
    assert tags(other.validation) != tags(first.validation)


def test_a_further_file_moves_no_other(folder):
    before = tags(load_corpus(text_of(folder), 0, 8).validation)
    (folder / "more.txt").write_text(tagged("more"))
    assert tags(load_corpus(text_of(folder), 0, 8).validation) - {"more"} == before


def test_share_of_validation_follows_the_percentage(folder):
    sizes = [
        len(tags(load_corpus(text_of(folder, percent), 0, 8).validation)) for percent in (1, 20, 50)
    ]
    assert sizes == sorted(sizes)
    assert 18 <= sizes[2] <= 42


@pytest.mark.parametrize("count", [2, 3])
def test_few_files_still_give_both_parts(tmp_path, count):
    for name in NAMES[:count]:
        (tmp_path / name).write_text(tagged(name))
    for seed in range(20):
        corpus = load_corpus(text_of(tmp_path, 1), seed, 8)
        assert len(tags(corpus.validation)) == 1
        assert len(tags(corpus.training)) == count - 1


def test_hidden_and_binary_files_are_left_out(folder, caplog):
    (folder / ".hidden").write_text(tagged("hidden"))
    (folder / "image.bin").write_bytes(b"<image>\xff\xfe")
    with caplog.at_level(logging.WARNING):
        corpus = load_corpus(text_of(folder), 0, 8)
    assert tags(corpus.training) | tags(corpus.validation) == set(NAMES)
    assert "image.bin" in caplog.text


@pytest.mark.parametrize("line_end", ["\n", ""], ids=["lines", "one line"])
def test_a_single_file_is_split_by_stretches(tmp_path, line_end):
    path = tmp_path / "book.txt"
    words = [f"{i:06d}{line_end}" for i in range(30_000)]
    path.write_text("".join(words))
    corpus = load_corpus(text_of(path, 10), 0, 8)
    total = corpus.training.size + corpus.validation.size
    assert 0.02 < corpus.validation.size / total < 0.25
    if line_end:
        lines = [
            part.tobytes().decode().split("\n") for part in (corpus.training, corpus.validation)
        ]
        assert sorted(lines[0][:-1] + lines[1][:-1]) == [w.strip() for w in words]


@given(text=st.binary(max_size=5000), stretch=st.tuples(st.integers(1, 50), st.integers(50, 99)))
@settings(deadline=None)
def test_stretches_put_together_are_the_file(text, stretch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "_STRETCH_BYTES", stretch)
        pieces = list(corpus_module._stretches("f", text))
    assert b"".join(piece.text for piece in pieces) == text
    assert all(pieces) and len({piece.name for piece in pieces}) == len(pieces)


def test_jsonl_gives_the_field_of_each_line(tmp_path):
    names = [f"ä{i}" for i in range(80)]
    lines = [json.dumps({"body": tagged(name), "other": "<no>"}) for name in names]
    (tmp_path / "a.jsonl").write_text("\n".join(lines[:40]) + "\n\n")
    (tmp_path / "b.jsonl").write_text("\n".join(lines[40:]))
    (tmp_path / "notes.md").write_text("not JSON")
    corpus = load_corpus(jsonl_of(tmp_path, "body"), 0, 8)
    training, validation = tags(corpus.training), tags(corpus.validation)
    assert training | validation == set(names)
    assert not training & validation
    assert len(validation) > 5


def test_jsonl_line_that_occurs_twice_stays_in_one_part(tmp_path):
    names = [f"n{i % 40}" for i in range(200)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": tagged(name)}) for name in names))
    corpus = load_corpus(jsonl_of(path), 0, 8)
    assert not tags(corpus.training) & tags(corpus.validation)


@pytest.mark.parametrize(
    "line", ["{", "[" * 100_000, '"text"', "[1]", "{}", '{"text": 1}', b"\xff\xfe{"]
)
def test_bad_jsonl_line_is_named(tmp_path, line):
    path = tmp_path / "a.jsonl"
    line = line if isinstance(line, bytes) else line.encode()
    path.write_bytes(b'{"text": "good"}\n\n' + line + b"\n")
    with pytest.raises(ConfigError) as refused:
        load_corpus(jsonl_of(path), 0, 8)
    assert refused.value.code == "SK-DAT-002"
    assert f"{path}, line 3" in refused.value.detail


def test_lone_surrogate_in_json_is_replaced(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "\\ud800aaaaaaaaa"}\n{"text": "bbbbbbbbbbbbbb"}\n')
    corpus = load_corpus(jsonl_of(path), 0, 8)
    assert b"?aaaaaaaaa\n" in corpus.training.tobytes() + corpus.validation.tobytes()


def test_missing_path_is_refused(tmp_path):
    for data in (text_of(tmp_path / "no"), jsonl_of(tmp_path / "no")):
        with pytest.raises(ConfigError, match=r"SK-DAT-001.*does not exist"):
            load_corpus(data, 0, 8)


@pytest.mark.parametrize("content", [b"", b"too short", b"\xff\xfe" * 1000])
def test_too_little_text_is_refused(tmp_path, content):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    for place in (path, tmp_path):
        with pytest.raises(ConfigError, match=r"SK-DAT-001.*at least 65 needed"):
            load_corpus(text_of(place), 0, 64)


def test_smallest_text_is_one_window_in_each_part(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(b"x" * 8 + b"\n")
    corpus = load_corpus(text_of(tmp_path), 0, 8)
    assert (corpus.training.size, corpus.validation.size) == (9, 9)
    with pytest.raises(ConfigError, match="SK-DAT-001"):
        load_corpus(text_of(tmp_path), 0, 9)


def test_text_past_the_limit_is_left_out_loudly(folder, monkeypatch, caplog):
    monkeypatch.setitem(corpus_module.MAX_CORPUS_BYTES, "text", 1000)
    with caplog.at_level(logging.WARNING):
        corpus = load_corpus(text_of(folder), 0, 8)
    assert 1000 <= corpus.training.size + corpus.validation.size <= 1001
    assert "larger than 1000 bytes" in caplog.text


def test_text_of_exactly_the_limit_is_whole(folder, monkeypatch, caplog):
    whole = load_corpus(text_of(folder), 0, 8)
    size = whole.training.size + whole.validation.size
    monkeypatch.setitem(corpus_module.MAX_CORPUS_BYTES, "text", size)
    assert load_corpus(text_of(folder), 0, 8).training.size == whole.training.size
    assert not caplog.text


def test_standard_library_is_sources_without_tests(tmp_path, monkeypatch):
    wanted = {f"pkg{i}/mod.py" for i in range(40)}
    unwanted = {"test/test_a.py", "pkg1/tests/b.py", "site-packages/c.py", "pkg2/__pycache__/d.py"}
    for name in wanted | unwanted | {"pkg0/data.txt"}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(tagged(name))
    monkeypatch.setattr(corpus_module.sysconfig, "get_path", lambda name: str(tmp_path))
    corpus = load_corpus(DataSection(), 0, 8)
    assert tags(corpus.training) | tags(corpus.validation) == wanted


def test_this_interpreters_standard_library_is_enough():
    corpus = load_corpus(DataSection(), 0, 128)
    assert corpus.training.size > 4 * 2**20
    assert corpus.validation.size > 100 * 2**10
    assert 2.5 < unigram_entropy(corpus) < 3.6


def test_entropy_of_a_certain_byte_is_near_zero():
    assert unigram_entropy(as_corpus(b"a" * 10**6, b"aaaa")) == pytest.approx(0, abs=1e-3)


def test_entropy_of_uniform_bytes_is_that_of_256_values():
    every = bytes(range(256))
    assert unigram_entropy(as_corpus(every * 4, every)) == pytest.approx(math.log(256))


def test_entropy_is_the_smoothed_cross_entropy():
    # Counts plus one: a 4, b 2, 254 others 1 each, of 260.
    expected = -(math.log(4 / 260) + 2 * math.log(2 / 260) + math.log(1 / 260)) / 4
    assert unigram_entropy(as_corpus(b"aaab", b"abbz")) == pytest.approx(expected)
