"""The blob store: whole and verified, or not there."""

import errno
import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.protocol.blobs import (
    BlobStore,
    check_blob,
    disk_errors,
    recheck_blobs,
    remove_files,
    replacing,
    write_atomic,
)
from skerry.protocol.chunk_tree import CHUNK_BYTES, address_of, cut, tree_of
from skerry.protocol.chunked_blob import ChunkedBlob
from skerry.protocol.errors import ProtocolError, StateError
from skerry.protocol.ids import Address

DATA = b"some payload"


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def names(store: BlobStore) -> set[str]:
    return set(os.listdir(store.path(address_of(DATA)).parent))


@pytest.mark.parametrize("data", [b"", DATA, bytes(CHUNK_BYTES), bytes(CHUNK_BYTES + 1)])
def test_a_blob_comes_back_by_its_address(store, data):
    address = store.put(data)
    assert address == address_of(data)
    assert store.read(address) == data
    into = bytearray(len(data))
    store.read_into(address, memoryview(into))
    assert into == data
    assert store.size(address) == len(data)
    tree = store.tree(address)
    assert (tree.address, tree.size) == (address, len(data))
    chunks = list(store.chunks(tree, 0, tree.num_chunks))
    assert b"".join(chunks) == data
    assert all(len(chunk) <= CHUNK_BYTES for chunk in chunks)
    assert store.put(data) == address
    assert names(store) == {address} | ({address + ".tree"} if len(data) > CHUNK_BYTES else set())


def test_a_tree_that_was_lost_or_damaged_is_made_anew(store):
    address = store.put(bytes(CHUNK_BYTES + 1))
    tree, file = store.tree(address), store.path(address).with_suffix(".tree")
    file.unlink()
    assert store.tree(address) == tree
    file.write_bytes(b"x" * 64)
    assert store.tree(address) == tree
    assert store.known_tree(address, tree.size) == tree, "still damaged"


@pytest.mark.parametrize("size", [5, CHUNK_BYTES + 5])
def test_a_blob_of_another_length_is_damaged(store, size):
    for change in (-1, 1):
        address = store.put(bytes(size))
        with pytest.raises(StateError, match="damaged"):
            store.read_into(address, memoryview(bytearray(size + change)))
        assert names(store) == set()


def test_a_missing_blob_has_no_size_and_cannot_be_read(store):
    assert store.size(address_of(DATA)) is None
    with pytest.raises(StateError) as caught:
        store.read(address_of(DATA))
    assert caught.value.code == "SK-DSK-002"


def test_a_damaged_blob_is_found_and_removed(store):
    address = store.put(DATA)
    store.path(address).write_bytes(b"other bytes!")
    with pytest.raises(StateError) as caught:
        store.read(address)
    assert caught.value.code == "SK-DSK-002"
    assert store.size(address) is None
    assert store.read(store.put(DATA)) == DATA


@pytest.mark.parametrize("address", ["", "../secret", "A" * 64, "a" * 63, "a" * 63 + "/"])
def test_only_addresses_lead_to_files(store, address):
    for call in (store.path, store.size, store.read):
        with pytest.raises(ProtocolError) as caught:
            call(Address(address))
        assert caught.value.reason == "address"


def test_setting_aside_removes_the_rest_but_no_download_in_progress(store):
    kept, dropped = store.put(b"kept"), store.put(b"dropped")
    store.partial(address_of(DATA), len(DATA)).append(DATA[:3])
    remove_files(store.set_aside([kept]))
    assert names(store) == {kept, address_of(DATA) + ".part"}
    assert store.size(dropped) is None


def test_what_is_left_of_downloads_that_were_given_up_is_removed(store):
    trees = [
        tree_of(cut(data), len(data)) for data in (b"x" * CHUNK_BYTES * 2, b"y" * CHUNK_BYTES * 2)
    ]
    for tree in trees:
        ChunkedBlob(store, tree).begin()
    going, given_up = (tree.address for tree in trees)
    whole = store.put(DATA)
    assert set(store.begun()) == {going, given_up, whole}
    remove_files(store.set_aside([], downloading=[going]))
    assert names(store) == {f"{going}.part", f"{going}.tree"}
    assert store.begun() == (going,)


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_a_download_in_any_pieces_and_after_restarts_is_the_blob(tmp_path_factory, data, cuts):
    folder = tmp_path_factory.mktemp("blobs")
    bounds = sorted({0, len(data), *(c for c in cuts if c <= len(data))})
    for start, end in pairwise(bounds):
        part = BlobStore(folder).partial(address_of(data), len(data))
        assert part.offset == start
        part.append(data[start:end])
        assert BlobStore(folder).size(address_of(data)) is None
    BlobStore(folder).partial(address_of(data), len(data)).finish()
    assert BlobStore(folder).read(address_of(data)) == data
    assert os.listdir(folder) == [address_of(data)]


def test_a_download_that_grows_too_long_is_refused_and_forgotten(store):
    part = store.partial(address_of(DATA), len(DATA))
    part.append(DATA)
    with pytest.raises(ProtocolError) as caught:
        part.append(b"x")
    assert caught.value.reason == "size"
    assert names(store) == set()


def test_a_download_cut_short_is_not_a_blob_but_can_go_on(store):
    part = store.partial(address_of(DATA), len(DATA))
    part.append(DATA[:4])
    with pytest.raises(ProtocolError) as caught:
        part.finish()
    assert caught.value.reason == "size"
    assert store.size(address_of(DATA)) is None
    part.append(DATA[4:])
    part.finish()
    assert store.read(address_of(DATA)) == DATA


def test_a_download_of_other_bytes_is_refused_and_forgotten(store):
    part = store.partial(address_of(DATA), len(DATA))
    part.append(bytes(len(DATA)))
    with pytest.raises(ProtocolError) as caught:
        part.finish()
    assert caught.value.reason == "hash"
    assert names(store) == set()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_and_leaves_nothing(store, monkeypatch, number):
    def full(descriptor):
        raise OSError(number, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError) as caught:
        store.put(DATA)
    assert caught.value.code == "SK-DSK-001"
    assert names(store) == set()


def test_other_disk_errors_pass_unchanged():
    with pytest.raises(PermissionError), disk_errors():
        raise PermissionError(errno.EACCES, "denied")


def test_replacing_shows_the_new_bytes_only_when_all_are_written(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as file:
        file.write(b"ne")
        assert not path.exists()
        file.write(b"w")
    assert path.read_bytes() == b"new"
    with pytest.raises(KeyError), replacing(path) as file:
        file.write(b"newer")
        raise KeyError
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_a_failed_replacement_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fail(descriptor):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="broken"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_was_hidden_but_not_removed_comes_back_at_the_next_start(tmp_path):
    store = BlobStore(tmp_path)
    kept, wanted = store.put(b"kept"), store.put(b"wanted")
    store.set_aside([])
    store.put(b"kept")  # again, before the other was removed
    store.clear_leftovers()
    assert [store.read(kept), store.read(wanted)] == [b"kept", b"wanted"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([kept, wanted])


@pytest.mark.parametrize("torn", [b"", b"brou", bytes(7), b"brought more"])
def test_what_a_power_cut_left_torn_is_removed_once_it_is_looked_at(tmp_path, torn):
    store = BlobStore(tmp_path)
    name, whole = store.put(b"brought"), store.put(b"whole")
    store.path(name).write_bytes(torn)
    recheck_blobs(store, [name])  # this process has written it itself
    assert store.size(name) == len(torn)
    again = BlobStore(tmp_path)
    recheck_blobs(again, [name, whole, address_of(b"not here")])
    assert [again.size(name), again.size(whole)] == [None, 5]
    with pytest.raises(StateError, match="SK-DSK-002"):
        check_blob(again, name)
