"""Error feedback and accounts on disk: what is read is what was written, or nothing."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from skerry.pipeline.ledger import Accounts, LedgerEntry
from skerry.pipeline.snapshot import SnapshotFile
from skerry.protocol.errors import StateError
from skerry.protocol.ids import Address, CommitHash, RunId
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
    assert restored.load() == ACCOUNTS
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
    assert file_at(path).load() == accounts


def test_a_file_is_zero_until_it_is_written(tmp_path, caplog):
    file = file_at(tmp_path / "none")
    assert file.load() == Accounts()
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
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_process_left_half_written_goes_away(path):
    half = path.with_name(f"{path.name}.123.tmp")
    half.write_bytes(b"half")
    assert file_at(path).load() == ACCOUNTS
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
    accounts = restored.load()
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
    assert file_at(path).load() == Accounts()


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
    assert file.load() == Accounts()
    assert not file.vector(0).any()
    assert file.vector(0).dtype is dtype


def test_a_file_that_is_gone_is_told(path):
    file = file_at(path)
    file.load()
    path.unlink()
    with pytest.raises(StateError, match="SK-DSK-002"):
        file.vector(0)
