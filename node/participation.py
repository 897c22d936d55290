"""The daemon's part in a run: entered, paused, left, and gone on with after a restart."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from skerry.node.config import NodeConfig
from skerry.node.ending import Ending
from skerry.node.run.kept import kept_run
from skerry.node.run.opening import (
    CURRENT_FILE,
    NodeParts,
    Opened,
    begin,
    go_on,
    join,
    new_token,
)
from skerry.node.run.orders import Sender, change_of, note_order
from skerry.node.run.peers import Peers
from skerry.node.run.session import Session
from skerry.node.run.talking import DISK_RETRY_SECONDS
from skerry.proto import control_pb2 as pb
from skerry.protocol.codec import decode_invite
from skerry.protocol.errors import DaemonError, SkerryError
from skerry.protocol.ids import RunId, is_hash
from skerry.protocol.quota import Quotas
from skerry.protocol.token import encode_token

_LOG = logging.getLogger(__name__)
_FAREWELL_SECONDS = 1.0
_DISK_FULL = "SK-DSK-001"


class Participation:
    """Takes part in one run at a time, or in none; changes come one after the other."""

    def __init__(self, parts: NodeParts, ending: Ending) -> None:
        """Take part in no run yet; a run that fails asks for the ``ending``."""
        self._parts, self._ending = parts, ending
        self._changing = asyncio.Lock()
        self._opened: Opened | None = None
        self._opening: asyncio.Task[Opened] | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def session(self) -> Session | None:
        """The run that the daemon takes part in."""
        return self._opened.session if self._opened else None

    @property
    def quotas(self) -> Quotas:
        """What peers may ask of this node."""
        return self._parts.quotas

    @property
    def opening(self) -> bool:
        """Whether a run is being opened, which takes as long as its compute process's start."""
        return self._opening is not None

    @property
    def join_token(self) -> str:
        """What others join the run with; empty while there is no run."""
        return self._opened.token if self._opened else ""

    async def init(self, toml: str) -> pb.RunReply:
        """Start an own run. Raises: SkerryError."""
        async with self._changing:
            self._check_free()
            return await self._open(begin(self._parts, toml, secrets.token_bytes(16)))

    async def resume(self, name: str) -> pb.RunReply:
        """Go on with a run that the home keeps (kept.py). Raises: SkerryError."""
        async with self._changing:
            run_id = await asyncio.to_thread(kept_run, self._parts.home, name)
            if self._opened is not None and self._opened.session.context.run_id == run_id:
                return _reply(self._opened)  # a daemon just started goes on by itself
            self._check_free()
            return await self._open(go_on(self._parts, run_id))

    async def join(self, token: str) -> pb.RunReply:
        """Join a run. Raises: SkerryError."""
        async with self._changing:
            self._check_free()
            return await self._open(join(self._parts, token))

    async def go_on(self) -> None:
        """Go on with the run that this home took part in last, if it did not leave it.

        On a full disk this is tried again, until there is room or the user wants something else.
        """
        run_id, told = self._last_run(), ""
        while run_id is not None and (failure := await self._go_on(run_id)):
            if failure != told:
                _LOG.warning("%s", failure)
                self._parts.journal.write("warning", text=failure)
            told = failure
            if _DISK_FULL not in failure or await self._ends_within(DISK_RETRY_SECONDS):
                return
            run_id = self._last_run()

    async def _go_on(self, run_id: RunId) -> str:
        """Open a run unless there is one; return why it cannot be."""
        async with self._changing:
            if self._opened is not None:
                return ""
            try:
                await self._open(go_on(self._parts, run_id))
            except (SkerryError, OSError) as error:
                if not self._ending.asked.is_set():
                    return f"run {run_id[:8]} cannot be continued: {error}"
            return ""

    async def _ends_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.asked.wait()
        return self._ending.asked.is_set()

    async def pause(self, paused: bool) -> None:
        """Stop training but follow the run, or train again. Raises: SkerryError."""
        async with self._changing:
            await self._in_run().session.pause(paused)

    async def order(self, request: pb.OrderRequest, sender: Sender) -> pb.OrderReply:
        """Give an order by this node's key, if it is an owner's. Raises: SkerryError."""
        async with self._changing:
            session = self._in_run().session
            order = await session.order(change_of(session.context, request))
            note = note_order(self._parts.journal, order, sender)
            number = order.message.sequence
            return pb.OrderReply(sequence=number, peer=note.peer, invite=note.invite)

    async def invite(self, lifetime_s: float, max_uses: int) -> pb.RunReply:
        """Return a fresh token made by this node's key; 0 s: as the run file says.

        Raises: DaemonError("SK-DMN-004"), OrderError.
        """
        async with self._changing:
            run = self._in_run().session.context
            token = new_token(self._parts, run, lifetime_s, max_uses)
            reply = pb.RunReply(run_id=run.run_id, name=run.manifest.name)
            reply.token = encode_token(token)
            if token.invite is not None:
                invite = decode_invite(token.invite.body)
                reply.invite = invite.nonce.hex()
                self._parts.journal.write(
                    "invited",
                    invite=reply.invite,
                    expires_at=invite.expires_at,
                    max_uses=invite.max_uses,
                )
            return reply

    async def leave(self) -> None:
        """Leave the run for good. Raises: DaemonError("SK-DMN-004"), StateError."""
        async with self._changing:
            self._in_run().session.context.store.keep_paused(False)
            (self._parts.home.path / CURRENT_FILE).unlink(missing_ok=True)
            await self._exit()

    def reconfigure(self, config: NodeConfig) -> None:
        """Take over settings that changed, now and for runs to come."""
        self._parts = replace(self._parts, config=config)
        if self.session is not None:
            self.session.reconfigure(config.heartbeat.interval, config.listen.announce)

    def give_up_opening(self) -> None:
        """End what is being opened, since the daemon ends."""
        if self._opening is not None:
            self._opening.cancel()

    async def end(self) -> None:
        """Take leave of the run; the daemon goes on with it when it is started again."""
        async with self._changing:
            await self._exit()

    def _last_run(self) -> RunId | None:
        current = self._parts.home.path / CURRENT_FILE
        try:
            run_id = current.read_text(errors="replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            text = f"{current} cannot be read: {error.strerror}"
            self._parts.journal.write("warning", text=text)
            return None
        return RunId(run_id) if is_hash(run_id) else None

    def _in_run(self) -> Opened:
        if self._opened is None:
            raise DaemonError("SK-DMN-004", "this daemon takes part in no run")
        return self._opened

    def _check_free(self) -> None:
        if self._opened is not None:
            name = self._opened.session.context.manifest.name
            raise DaemonError("SK-DMN-003", f"this daemon already takes part in run {name!r}")

    async def _open(self, work: Coroutine[Any, Any, Opened]) -> pb.RunReply:
        """Open a run and take part in it; a stop meanwhile ends that. Raises: SkerryError."""
        self._opening = asyncio.create_task(work, name="opening")
        if self._ending.asked.is_set():
            self._opening.cancel()
        try:
            return self._enter(await self._opening)
        except asyncio.CancelledError:
            if not self._ending.asked.is_set():
                raise
            raise DaemonError("SK-DMN-001", "the daemon is ending") from None
        finally:
            self._opening = None

    def _enter(self, opened: Opened) -> pb.RunReply:
        self._opened = opened
        run = opened.session.context
        self._running = asyncio.create_task(self._take_part(opened), name="run")
        self._parts.journal.write("entered", run=run.run_id, name=run.manifest.name)
        return _reply(opened)

    async def _take_part(self, opened: Opened) -> None:
        """Run a session; an unexpected exception in it is caught here and nowhere else."""
        try:
            await opened.session.run(opened.members)
        except Exception:
            _LOG.exception("the run has failed; the daemon ends, a restart goes on where it was")
            self._parts.journal.write("failed", text="the run has failed; see the daemon's log")
            self._ending.exit_code = 1
            self._ending.ask()

    async def _exit(self) -> None:
        if self._opened is None or self._running is None:
            return
        if not self._running.done():
            await self._say_goodbye(self._opened.session.peers)
        self._running.cancel()
        await asyncio.wait([self._running])
        name = self._opened.session.context.manifest.name
        self._opened = self._running = None
        self._parts.journal.write("left", name=name)

    async def _say_goodbye(self, peers: Peers) -> None:
        """Tell the others, so that they do not wait for us; for a second, or until hastened."""
        farewell = peers.broadcast(peers.heartbeat(leaving=True), peers.greeted)
        hastened = self._ending.hastened.wait()
        both = [asyncio.create_task(farewell), asyncio.create_task(hastened)]
        await asyncio.wait(both, timeout=_FAREWELL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        await asyncio.wait(both)


def _reply(opened: Opened) -> pb.RunReply:
    run = opened.session.context
    return pb.RunReply(run_id=run.run_id, name=run.manifest.name, token=opened.token)
