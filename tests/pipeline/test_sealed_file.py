"""A sealed file: what was written, whole, or the word that it was damaged."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from skerry.pipeline.sealed_file import Form, remove_unfinished, sealing, verified
from skerry.protocol.errors import StateError

LENGTHS = st.lists(st.integers(0, 9), max_size=4)


def write(path: Path, lengths: list[int], dtype: torch.dtype, note: bytes) -> list[torch.Tensor]:
    vectors = [torch.randn(length).to(dtype) for length in lengths]
    form = Form([(str(i), length) for i, length in enumerate(lengths)], dtype, "note")
    with sealing(path, form) as writer:
        for vector in vectors:
            writer.add(vector)
        writer.finish(note)
    return vectors


def names(lengths: list[int]) -> list[str]:
    return [str(i) for i in range(len(lengths))]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LENGTHS, st.sampled_from([torch.float32, torch.bfloat16]), st.binary(max_size=20))
def test_what_was_written_is_read(tmp_path, lengths, dtype, note):
    path = tmp_path / "file"
    vectors = write(path, lengths, dtype, note)
    assert verified(path, names(lengths), "note") == note
    with safe_open(path, framework="pt") as file:
        for name, vector in zip(names(lengths), vectors, strict=True):
            assert torch.equal(file.get_tensor(name), vector)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_to_vectors_note_or_hash_is_told(tmp_path, data):
    path = tmp_path / "file"
    write(path, [3, 5], torch.float32, b"note")
    content = bytearray(path.read_bytes())
    tail = 4 * 8 + len(b"note") + 32  # all behind the header, whose padding may be anything
    if data.draw(st.booleans()):
        place = data.draw(st.integers(len(content) - tail, len(content) - 1))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path.write_bytes(content)
    with pytest.raises((SafetensorError, OSError, ValueError)):
        verified(path, ["0", "1"], "note")


def test_a_full_disk_leaves_the_old_file(tmp_path, full_disk_at):
    path = tmp_path / "file"
    write(path, [3], torch.float32, b"old")
    full_disk_at(path)
    with pytest.raises(StateError, match="SK-DSK-001"):
        write(path, [3], torch.float32, b"new")
    assert verified(path, ["0"], "note") == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_only_what_is_unfinished_of_this_file_is_removed(tmp_path):
    mine, other, whole = (tmp_path / name for name in ("file.7.tmp", "other.7.tmp", "file"))
    for path in (mine, other, whole):
        path.write_bytes(b"")
    remove_unfinished(whole)
    assert set(tmp_path.iterdir()) == {other, whole}
