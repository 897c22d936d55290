"""A run's files: whatever a crash leaves of them, what is whole is read and the rest is cut."""

import errno
import os
from pathlib import Path

import event_strategies
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.node.home import RunHome
from skerry.node.run import store as store_module
from skerry.node.run.facts import Facts
from skerry.node.run.frame_file import framed
from skerry.node.run.measured import to_json
from skerry.node.run.store import MAX_OWN, RunStore
from skerry.protocol.blobs import BlobStore
from skerry.protocol.errors import ProtocolError, StateError
from skerry.protocol.messages import (
    Announce,
    Commit,
    Envelope,
    Kind,
    MemberRecord,
    Order,
    ShardPayload,
)
from skerry.protocol.rounds.events import LocalState

COMMITS = tuple({commit.hash: commit for commit in event_strategies.signed(Commit)}.values())
OWN = tuple(event_strategies.signed(Announce))
MEMBERS = tuple(event_strategies.signed(MemberRecord))
ORDERS = tuple(event_strategies.signed(Order))


@pytest.fixture
def home(tmp_path) -> RunHome:
    return RunHome(tmp_path / "run")


@pytest.fixture
def store(home) -> RunStore:
    return RunStore(home)


def ends(data: bytes) -> list[int]:
    """Where each frame of a file ends."""
    found, position = [], 0
    while position < len(data):
        position += 4 + int.from_bytes(data[position : position + 4], "big")
        found.append(position)
    return found


def store_bytes(signed) -> bytes:
    return framed(one.envelope for one in signed)


class TestWhole:
    def test_orders_come_back_the_newest_only(self, store, monkeypatch) -> None:
        assert store.orders.load() == ()
        store.orders.append(ORDERS[:1], durably=True)
        store.orders.append(ORDERS[1:])
        assert store.orders.load() == ORDERS
        monkeypatch.setattr(store_module, "MAX_KEPT_ORDERS", 2)
        assert store.orders.load() == ORDERS[-2:]
        monkeypatch.setattr(store_module, "MAX_KEPT_ORDERS", 9)
        assert store.orders.load() == ORDERS[-2:]

    def test_new_run_holds_nothing(self, store, home) -> None:
        assert (store.chain.load(), store.load_own()) == ((), ())
        assert (store.load_members(), store.load_states()) == ((), ())
        assert all(folder.is_dir() for folder in (home.blobs, home.compute))

    def test_pause_is_remembered_until_it_ends(self, store, home) -> None:
        assert not store.paused
        store.keep_paused(True)
        assert RunStore(home).paused
        store.keep_paused(False)
        store.keep_paused(False)
        assert not RunStore(home).paused

    def test_manifest_and_token_come_back(self, store) -> None:
        envelope = Envelope(Kind.MANIFEST, b"{}", event_strategies.SIGNERS[0].peer_id, bytes(64))
        store.save_manifest(envelope, "skerry1TOKEN")
        assert store.load_manifest() == (envelope, "skerry1TOKEN")

    def test_commits_members_and_own_come_back_in_order(self, store, home) -> None:
        store.chain.append(COMMITS[:2])
        store.chain.append(COMMITS[2:])
        for announce in OWN:
            store.append_own(announce)
        store.save_members(MEMBERS)
        store.save_members(MEMBERS[1:])
        for again in (store, RunStore(home)):
            assert again.chain.load() == COMMITS
            assert again.load_own() == OWN
            assert again.load_members() == MEMBERS[1:]

    def test_states_come_back(self, store) -> None:
        shards = (ShardPayload("embed", "a" * 64, 7),)
        states = tuple(LocalState(c * 64, shards, after="e" * 64) for c in "12")
        store.save_states(states)
        assert store.load_states() == states
        assert [state.after for state in store.load_states()] == ["e" * 64] * 2

    def test_measurements_come_back(self, store, home) -> None:
        assert store.load_facts() == Facts()
        facts = Facts(val_loss=4.5, validated_round=3, dense_bytes=9)
        store.save_facts(to_json(facts))
        assert RunStore(home).load_facts() == facts

    def test_only_the_newest_own_announcements_are_kept(self, store, home, monkeypatch) -> None:
        monkeypatch.setattr(store_module, "MAX_OWN", 2)
        for announce in OWN:
            store.append_own(announce)
        assert store.load_own() == OWN[-2:]
        assert len(ends((home.folder / "own.bin").read_bytes())) == 2
        assert MAX_OWN > 2

    def test_messages_of_another_kind_are_left_out(self, store) -> None:
        store.save_members([*MEMBERS[:1], *OWN[:1]])
        assert store.load_members() == MEMBERS[:1]


class TestDamaged:
    def test_file_cut_at_any_byte_loads_its_whole_frames_and_can_be_added_to(
        self, store, home
    ) -> None:
        store.chain.append(COMMITS[:2])
        data = home.chain_file.read_bytes()
        whole = ends(data)
        near = {end + by for end in (0, *whole) for by in range(-6, 7)}
        for cut in sorted(near | set(range(0, len(data), 29))):
            if not 0 <= cut < len(data):
                continue
            home.chain_file.write_bytes(data[:cut])
            count = sum(end <= cut for end in whole)
            assert store.chain.load() == COMMITS[:count]
            assert home.chain_file.stat().st_size == ([0, *whole][count])
            store.chain.append(COMMITS[2:3])
            assert store.chain.load() == (*COMMITS[:count], COMMITS[2])

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_file_with_a_flipped_bit_loads_all_but_what_holds_it(
        self, tmp_path_factory, data
    ) -> None:
        home = RunHome(tmp_path_factory.mktemp("run"))
        store = RunStore(home)
        store.chain.append(COMMITS[:3])
        content = bytearray(home.chain_file.read_bytes())
        whole = ends(bytes(content))
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] ^= 1 << data.draw(st.integers(0, 7))
        home.chain_file.write_bytes(content)
        damaged = sum(end <= position for end in whole)
        found = store.chain.load()
        # A bit of the envelope that means nothing, if there is one, may be lost unnoticed.
        rest = (*COMMITS[:damaged], *COMMITS[damaged + 1 : 3])
        assert found in (rest, COMMITS[:3])
        assert store.chain.load() == found
        assert [store.chain[commit.hash] for commit in found] == [x.envelope for x in found]
        aside = [path.read_bytes() for path in home.folder.glob("chain.bin.damaged-*")]
        assert aside == ([bytes(content)] if found == rest and damaged < 2 else [])

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=300))
    def test_any_bytes_after_what_is_whole_are_cut(self, tmp_path_factory, tail) -> None:
        home = RunHome(tmp_path_factory.mktemp("run"))
        store = RunStore(home)
        store.append_own(OWN[0])
        with (home.folder / "own.bin").open("ab") as file:
            file.write(tail)
        assert store.load_own() == OWN[:1]
        store.append_own(OWN[1])
        assert store.load_own() == OWN[:2]

    @pytest.mark.parametrize("text", ["", "{", "[1]", "[]x", '[{"digest": 1}]', "\xff"])
    def test_damaged_list_of_states_is_no_state(self, store, home, text) -> None:
        store.save_states((LocalState("1" * 64, ()),))
        (home.folder / "states.json").write_bytes(text.encode("latin-1"))
        assert store.load_states() == ()

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"dense_bytes": -1}', " " * 100_000])
    def test_damaged_measurements_are_begun_anew(self, store, home, text, caplog) -> None:
        (home.folder / "facts.json").write_text(text)
        assert store.load_facts() == Facts()
        assert "facts.json is damaged and ignored" in caplog.text

    def test_damaged_manifest_is_refused(self, store, home) -> None:
        store.save_manifest(COMMITS[0].envelope, "token")
        home.manifest_file.write_bytes(b"\xff" * 40)
        with pytest.raises(ProtocolError):
            store.load_manifest()

    def test_commit_file_with_something_else_in_it_goes_on_without(self, store, home) -> None:
        store.chain.append([COMMITS[0], MEMBERS[0], COMMITS[1]])
        assert store.chain.load() == COMMITS[:2]

    @pytest.mark.parametrize("lost", [b"", b"\0" * 40, b"\xff" * 40], ids=["gone", "zero", "ones"])
    def test_what_can_be_read_behind_damage_is_kept_and_the_rest_beside_it(
        self, store, home, caplog, lost
    ) -> None:
        store.chain.append(COMMITS[:3])
        data = home.chain_file.read_bytes()
        end = ends(data)[0]
        for number in (1, 2):  # a second damage does not replace what was kept of the first
            damaged = data[: end + 3] + lost + data[end + 43 :]
            home.chain_file.write_bytes(damaged)
            assert store.chain.load() == (COMMITS[0], COMMITS[2])
            assert home.folder.joinpath(f"chain.bin.damaged-{number}").read_bytes() == damaged
        assert f"SK-DSK-002: {home.chain_file} is damaged at byte {end} of" in caplog.text
        store.chain.append(COMMITS[1:3])  # once it was fetched
        assert store.chain.load() == (COMMITS[0], COMMITS[2], COMMITS[1])
        assert len(list(home.folder.glob("*damaged*"))) == 2

    def test_nothing_is_kept_aside_of_what_a_crash_left(self, store, home) -> None:
        store.chain.append(COMMITS[:2])
        with home.chain_file.open("ab") as file:
            file.write(bytes(5000))  # as some file systems do
        assert store.chain.load() == COMMITS[:2]
        assert home.chain_file.stat().st_size == len(store_bytes(COMMITS[:2]))
        assert not list(home.folder.glob("*damaged*"))


class TestFullDisk:
    @pytest.fixture
    def full(self, monkeypatch):
        """Let the disk take only some bytes more, as one that fills up does."""

        class Full:
            def __init__(self, file, room: int) -> None:
                self._file, self._room = file, room

            def write(self, data):
                if not self._room:
                    raise OSError(errno.ENOSPC, "No space left on device")
                taken = self._file.write(data[: self._room])
                self._room -= taken
                return taken

            def __getattr__(self, name):
                return getattr(self._file, name)

            def __enter__(self):
                return self

            def __exit__(self, *error):
                self._file.close()

        real = Path.open

        def fill(room: int) -> None:
            def opened(path, mode="r", *arguments, **named):
                file = real(path, mode, *arguments, **named)
                return Full(file, room) if mode == "ab" else file

            monkeypatch.setattr(Path, "open", opened)

        return fill

    def test_damage_is_left_as_it_is_while_nothing_can_be_written(
        self, store, home, monkeypatch
    ) -> None:
        store.chain.append(COMMITS[:3])
        data = bytearray(home.chain_file.read_bytes())
        data[50] ^= 1
        home.chain_file.write_bytes(data)

        def no_space(number: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", no_space)
        assert store.chain.load() == COMMITS[1:3]
        assert [store.chain[commit.hash] for commit in COMMITS[1:3]]
        assert home.chain_file.read_bytes() == data
        monkeypatch.undo()
        assert store.chain.load() == COMMITS[1:3]
        assert len(list(home.folder.glob("*damaged*"))) == 1

    @pytest.mark.parametrize("room", [0, 1, 100])
    def test_nothing_of_what_did_not_fit_is_left_in_the_way(
        self, store, home, full, monkeypatch, room
    ) -> None:
        store.chain.append(COMMITS[:1])
        store.append_own(OWN[0])
        full(room)
        with pytest.raises(StateError, match="SK-DSK-001"):
            store.chain.append(COMMITS[1:2])
        with pytest.raises(StateError, match="SK-DSK-001"):
            store.append_own(OWN[1])
        monkeypatch.undo()
        store.chain.append(COMMITS[2:3])
        store.append_own(OWN[2])
        assert store.chain.load() == (COMMITS[0], COMMITS[2])
        assert store.load_own() == (OWN[0], OWN[2])

    def test_lists_stay_as_they_were(self, store, home, monkeypatch) -> None:
        store.save_states((LocalState("1" * 64, ()),))

        def no_space(number: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", no_space)
        with pytest.raises(StateError, match="SK-DSK-001"):
            store.save_states(())
        assert [state.digest for state in store.load_states()] == ["1" * 64]
        assert not list(home.folder.glob("*.tmp"))


def test_blobs_set_aside_are_gone_at_once_and_freed_later(tmp_path) -> None:
    from skerry.protocol.blobs import remove_files

    blobs = BlobStore(tmp_path)
    kept, dropped = blobs.put(b"kept"), blobs.put(b"dropped")
    hidden = blobs.set_aside([kept])
    assert [blobs.size(kept), blobs.size(dropped)] == [4, None]
    again = blobs.put(b"dropped")  # wanted again before the thread came to it
    remove_files(hidden)
    remove_files(hidden)
    assert blobs.read(again) == b"dropped"
    blobs.set_aside([])  # and a crash before the files were removed
    remove_files(blobs.set_aside([]))
    assert list(tmp_path.iterdir()) == []
