"""Error feedback and accounts on disk: what is read is what was written, or nothing."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from skerry.pipeline.ledger import Accounts, LedgerEntry, accounts_to_json
from skerry.pipeline.snapshot import SnapshotFile
from skerry.protocol.errors import StateError
from skerry.protocol.ids import Address, CommitHash, RunId, content_hash
from skerry.protocol.layout import ShardSpec, TensorSpec
from skerry.protocol.messages import ShardPayload

RUN = RunId("f" * 64)
LAYOUT = (
    ShardSpec("embed", (TensorSpec("tokens", (3, 2)),)),
    ShardSpec("head", (TensorSpec("norm", (1,)), TensorSpec("output", (2, 2)))),
)
SHARDS = (ShardPayload("embed", Address("a" * 64), 9), ShardPayload("head", Address("b" * 64), 8))
ENTRY = LedgerEntry(CommitHash("1" * 64), 4, SHARDS, 64, 64, 2.5, "open")
ACCOUNTS = Accounts(-7, 3, {ENTRY.parent: ENTRY})
VECTORS = [
    torch.tensor([0.0, -0.0, 1.5, -2.25, 1e-40, 3e38]),
    torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0]),
]
SAME, NEW = (ACCOUNTS, ACCOUNTS), (Accounts(), Accounts())
"""What load() returns: of what is read, and of what was written last."""
DTYPES = [torch.float32, torch.bfloat16]


def file_at(path: Path, dtype=torch.float32, run=RUN, layout=LAYOUT) -> SnapshotFile:
    return SnapshotFile(path, run, layout, dtype)


def write(file: SnapshotFile, dtype=torch.float32, accounts=ACCOUNTS) -> None:
    with file.rewriting() as writer:
        for vector in VECTORS:
            writer.add(vector.to(dtype))
        writer.finish(accounts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "feedback.safetensors"
    write(file_at(path))
    return path


def bits(vector: torch.Tensor) -> bytes:
    return vector.view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_was_written_is_read_bit_for_bit(tmp_path, dtype):
    path = tmp_path / "file"
    write(file_at(path, dtype), dtype)
    restored = file_at(path, dtype)
    assert restored.load() == SAME
    for position, vector in enumerate(VECTORS):
        got = restored.vector(position)
        assert got.dtype is dtype
        assert bits(got) == bits(vector.to(dtype))


def test_bf16_takes_half_the_space(tmp_path):
    for dtype in DTYPES:
        write(file_at(tmp_path / str(dtype), dtype), dtype)
    sizes = [(tmp_path / str(dtype)).stat().st_size for dtype in DTYPES]
    assert abs(sizes[0] - sizes[1] - 2 * 11) <= 8  # the header is padded to 8


def test_it_is_an_ordinary_safetensors_file(path):
    with safe_open(path, framework="pt") as file:
        assert sorted(file.keys()) == ["accounts", "embed", "hash", "head"]
    assert torch.equal(load_file(path)["head"], VECTORS[1])


@given(st.integers(0, 40))
def test_any_number_of_accounts_has_room(tmp_path_factory, count):
    path = tmp_path_factory.mktemp("snapshot") / "file"
    names = [CommitHash(f"{number:064x}") for number in range(count)]
    accounts = Accounts(0, 1, {n: LedgerEntry(n, 1, SHARDS, 9, 9, 0.1, "open") for n in names})
    write(file_at(path), accounts=accounts)
    assert file_at(path).load() == (accounts, accounts)


def test_a_file_is_zero_until_it_is_written(tmp_path, caplog):
    file = file_at(tmp_path / "none")
    assert file.load() == NEW
    assert not caplog.records
    assert not file.vector(0).any()
    write(file)
    assert torch.equal(file.vector(0), VECTORS[0])


def test_what_was_read_does_not_change_with_the_file(path):
    file = file_at(path)
    file.load()
    before = file.vector(1)
    with file.rewriting() as writer:
        writer.add(torch.zeros(6))
        writer.add(torch.zeros(5))
        writer.finish(Accounts())
    assert torch.equal(before, VECTORS[1])
    assert not file.vector(1).any()


def test_a_block_that_fails_leaves_the_old_file(path):
    file, before = file_at(path), path.read_bytes()
    file.load()
    with pytest.raises(KeyError), file.rewriting() as writer:
        writer.add(torch.ones(6))
        raise KeyError
    assert path.read_bytes() == before
    assert torch.equal(file.vector(0), VECTORS[0])
    assert set(path.parent.iterdir()) == {path, path.with_suffix(".json")}


def test_what_a_killed_process_left_half_written_goes_away(path):
    half = path.with_name(f"{path.name}.123.tmp")
    half.write_bytes(b"half")
    assert file_at(path).load() == SAME
    assert not half.exists()


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
    restored = file_at(other)
    accounts, newest = restored.load()
    assert accounts == newest
    # A flipped bit in the header's padding or in the case of an escape may change nothing.
    if accounts == ACCOUNTS:
        assert all(bits(restored.vector(i)) == bits(v) for i, v in enumerate(VECTORS))
    else:
        assert accounts == Accounts()
        assert not restored.vector(0).any()
        assert "starts from zero" in caplog.text


@pytest.mark.parametrize("place", [-1, -33, -40, -300])
def test_a_flipped_bit_of_hash_accounts_or_value_is_noticed(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert file_at(path).load() == NEW


@pytest.mark.parametrize(
    ("run", "layout", "dtype"),
    [
        (RunId("e" * 64), LAYOUT, torch.float32),
        (RUN, (ShardSpec("embed", (TensorSpec("tokens", (3, 3)),)), LAYOUT[1]), torch.float32),
        (RUN, (ShardSpec("body", (TensorSpec("tokens", (3, 2)),)), LAYOUT[1]), torch.float32),
        (RUN, LAYOUT, torch.bfloat16),
    ],
)
def test_another_run_model_or_form_starts_from_zero(path, run, layout, dtype):
    file = file_at(path, dtype, run, layout)
    assert file.load() == NEW
    assert not file.vector(0).any()
    assert file.vector(0).dtype is dtype


def test_a_file_that_is_gone_is_told(path):
    file = file_at(path)
    file.load()
    path.unlink()
    with pytest.raises(StateError, match="SK-DSK-002"):
        file.vector(0)


class TestVersionBefore:
    """Two are kept; the one before is used only where it is known what was written since."""

    @pytest.fixture
    def other(self, path) -> Path:
        """Write once more, to the second of the two files."""
        file = file_at(path)
        file.load()
        write(file, accounts=AFTER)
        return path.with_name("feedback.other.safetensors")

    def test_writes_take_turns(self, path, other):
        before, after = path.read_bytes(), other.read_bytes()
        file = file_at(path)
        assert file.load() == (AFTER, AFTER)
        write(file, accounts=replace(AFTER, writes=5))
        assert (path.read_bytes() == before, other.read_bytes() == after) == (False, True)

    def test_a_damaged_older_one_costs_nothing(self, path, other):
        spoil(path)
        assert file_at(path).load() == (AFTER, AFTER)

    @pytest.mark.parametrize("gone", [False, True])
    def test_the_one_before_comes_with_what_was_written_since(self, path, other, caplog, gone):
        other.unlink() if gone else spoil(other)
        file = file_at(path)
        assert file.load() == (ACCOUNTS, AFTER)
        assert torch.equal(file.vector(1), VECTORS[1])
        write(file, accounts=AFTER)
        assert file_at(path).load() == (AFTER, AFTER)

    @pytest.mark.parametrize("told", ["damaged", "gone", "older", "newer"])
    def test_where_that_is_not_known_it_starts_from_zero(self, path, other, caplog, told):
        beside = path.with_suffix(".json")
        spoil(other)
        match told:
            case "damaged":
                spoil(beside)
            case "gone":
                beside.unlink()
            case _:
                accounts = replace(AFTER, writes={"older": 2, "newer": 5}[told])
                data = accounts_to_json(RUN, accounts)
                beside.write_bytes(content_hash(data).encode() + b"\n" + data)
        file = file_at(path)
        assert file.load() == NEW
        assert not file.vector(0).any()
        assert "starts from zero" in caplog.text
        # Nor does it come back once something newer is there.
        write(file, accounts=Accounts(writes=1))
        assert file_at(path).load()[1] == Accounts(writes=1)

    def test_a_write_that_a_kill_has_cut_short_has_not_happened(self, path, other):
        data = accounts_to_json(RUN, replace(AFTER, writes=5))
        path.with_suffix(".json").write_bytes(content_hash(data).encode() + b"\n" + data)
        assert file_at(path).load() == (AFTER, AFTER)  # both are whole
        spoil(path)
        path.with_name(f"{path.name}.7.tmp").write_bytes(b"half")
        assert file_at(path).load() == (AFTER, AFTER)

    def test_both_damaged_start_from_zero(self, path, other, caplog):
        spoil(path)
        spoil(other)
        assert file_at(path).load() == NEW
        assert "starts from zero" in caplog.text

    def test_one_without_anything_beside_it_is_of_an_earlier_version(self, path):
        path.with_suffix(".json").unlink()
        assert file_at(path).load() == SAME

    def test_accounts_are_durable_before_the_file_is_in_its_place(self, path, monkeypatch):
        file, order, rename = file_at(path), [], os.replace
        file.load()

        def replaced(source, target):
            order.append(Path(target).name)
            rename(source, target)

        monkeypatch.setattr(os, "replace", replaced)
        write(file, accounts=AFTER)
        assert order == ["feedback.json", "feedback.other.safetensors"]


AFTER = replace(ACCOUNTS, writes=ACCOUNTS.writes + 1, pending=0)


def spoil(path: Path) -> None:
    """Alter the last byte."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
