"""Error feedback and ledger on disk: what is read is what was written, or nothing."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from skerry.pipeline.ledger import LedgerEntry
from skerry.pipeline.snapshot import Snapshot, load_snapshot, save_snapshot
from skerry.protocol.ids import CommitHash, RunId
from skerry.protocol.layout import ShardSpec, TensorSpec

RUN = RunId("f" * 64)
LAYOUT = (ShardSpec("embed", (TensorSpec("tokens", (3, 2)),)),)
ENTRY = LedgerEntry(CommitHash("1" * 64), 4, (), 0, 64, 2.5, "unsent")
SNAPSHOT = Snapshot([torch.tensor([0.0, -0.0, 1.5, -2.25, 1e-40, 3e38])], -7, {ENTRY.parent: ENTRY})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "feedback.safetensors"
    save_snapshot(path, RUN, LAYOUT, SNAPSHOT)
    return path


def test_what_was_written_is_read(path):
    restored = load_snapshot(path, RUN, LAYOUT)
    assert restored is not None
    assert restored.vectors[0].numpy().tobytes() == SNAPSHOT.vectors[0].numpy().tobytes()
    assert (restored.pending, restored.ledger) == (SNAPSHOT.pending, SNAPSHOT.ledger)


def test_it_is_an_ordinary_safetensors_file(path):
    with safe_open(path, framework="pt") as file:
        assert list(file.keys()) == ["embed"]
        assert file.metadata()["pending"] == "-7"


def test_nothing_there_is_nothing_to_warn_of(tmp_path, caplog):
    assert load_snapshot(tmp_path / "none", RUN, LAYOUT) is None
    assert not caplog.records


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_is_noticed(path, caplog, data):
    sound = path.read_bytes()
    place = data.draw(st.integers(0, len(sound) - 1))
    bit = data.draw(st.integers(0, 7))
    damaged = bytearray(sound)
    damaged[place] ^= 1 << bit
    cut = data.draw(st.booleans())
    other = path.with_name("damaged")
    other.write_bytes(sound[:place] if cut else bytes(damaged))
    restored = load_snapshot(other, RUN, LAYOUT)
    # A flipped bit in the header's padding or in the case of an escape may change nothing.
    assert restored is None or (
        torch.equal(restored.vectors[0], SNAPSHOT.vectors[0])
        and (restored.pending, restored.ledger) == (SNAPSHOT.pending, SNAPSHOT.ledger)
    )
    assert restored is not None or "starts from zero" in caplog.text


def test_a_flipped_bit_of_a_value_is_noticed(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert load_snapshot(path, RUN, LAYOUT) is None


@pytest.mark.parametrize(
    ("run", "layout"),
    [
        (RunId("e" * 64), LAYOUT),
        (RUN, (ShardSpec("embed", (TensorSpec("tokens", (3, 3)),)),)),
        (RUN, (ShardSpec("head", (TensorSpec("norm", (6,)),)),)),
    ],
)
def test_another_run_or_model_starts_from_zero(path, run, layout):
    assert load_snapshot(path, run, layout) is None
