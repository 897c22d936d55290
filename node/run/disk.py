"""What a run writes to disk: in the order it was decided, in a thread of its own.

A disk may take long over an fsync or over freeing a large file; the event loop must not wait
for it, or the node would neither answer its user nor its peers meanwhile.
"""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from skerry.node.run.context import RunContext
from skerry.node.run.measured import to_json
from skerry.protocol.blobs import disk_errors, remove_files
from skerry.protocol.errors import StateError
from skerry.protocol.ids import Address
from skerry.protocol.messages import SignedAnnounce, SignedCommit
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds.events import LocalState

Kept = act.StoreCommits | act.StoreOrders | act.StoreStates | act.Retain
"""Decisions about what is on disk."""


class DiskWriter:
    """One thread that does one thing after another."""

    def __init__(
        self,
        context: RunContext,
        group: asyncio.TaskGroup,
        downloading: Callable[[], Iterable[Address]] = tuple,
    ) -> None:
        """Write into the stores of ``context``; failures are noted by tasks of ``group``.

        ``downloading`` says what is being fetched: the rest of what was not fetched whole can go.
        """
        self._context, self._group, self._downloading = context, group, downloading
        self._thread = ThreadPoolExecutor(1, "disk")
        self._owed: tuple[SignedCommit, ...] = ()
        """Commits that a full disk has refused: without them what follows could not be read."""

    def write(self, action: Kept) -> None:
        """Begin to write or tidy; what a full disk prevents is had again from the others."""
        store = self._context.store
        match action:
            case act.StoreCommits():
                done = self._begin(lambda: self._append(action.commits))
            case act.StoreOrders():
                done = self._begin(lambda: store.orders.append(action.orders))
            case act.StoreStates():
                done = self._begin(lambda: self._keep_states(action.states))
            case act.Retain():
                # What is hidden now cannot be taken for what is put or fetched a moment later.
                hidden = self._context.blobs.set_aside(action.addresses, self._downloading())
                done = self._begin(lambda: self._free(hidden))
        self._group.create_task(self._note_failure(done))

    def keep_facts(self) -> None:
        """Begin to write the measurements down as they are now."""
        data = to_json(self._context.facts)
        done = self._begin(lambda: self._context.store.save_facts(data))
        self._group.create_task(self._note_failure(done))

    async def keep_own(self, announce: SignedAnnounce) -> None:
        """Return when an own announcement is durable. Raises: StateError on a full disk."""
        await self._begin(lambda: self._context.store.append_own(announce))

    def failed(self, error: StateError) -> None:
        """Say that something could not be written, here or elsewhere in the run."""
        self._context.facts.warning = str(error)
        self._context.journal.write("disk", error=str(error), fix=error.fix)

    async def close(self) -> None:
        """Return when all is written, the newest measurements too."""
        data = to_json(self._context.facts)
        with suppress(StateError):  # a full disk was told of before
            await self._begin(lambda: self._context.store.save_facts(data))
            await self._begin(lambda: self._append(()))
        await asyncio.to_thread(self._thread.shutdown)

    def _append(self, commits: tuple[SignedCommit, ...]) -> None:
        self._owed += commits
        if not self._owed:
            return
        self._context.store.chain.append(self._owed)
        self._owed = ()

    def _keep_states(self, states: tuple[LocalState, ...]) -> None:
        """Name states as those to go on from, once all that they rest on survives a power cut.

        One fsync does for all commits since the last time: only what is named must be found again.
        """
        store = self._context.store
        self._append(())
        store.chain.sync()
        with disk_errors():
            named = (shard.address for state in states for shard in state.shards)
            self._context.blobs.lasting.make_durable(named)
        store.save_states(states)

    def _free(self, hidden: tuple[Path, ...]) -> None:
        """Remove files, but none of a state that the list on disk names: a newer may not fit."""
        states = self._context.store.load_states()
        named = {shard.address for state in states for shard in state.shards}
        remove_files(path for path in hidden if path.name.partition(".")[0] not in named)

    def _begin(self, work: Callable[[], None]) -> "asyncio.Future[None]":
        # Shielded: what was decided is written even if nobody waits for it any more.
        return asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))

    async def _note_failure(self, done: "asyncio.Future[None]") -> None:
        try:
            await done
        except StateError as error:
            self.failed(error)
