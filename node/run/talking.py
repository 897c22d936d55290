"""What this node says to the other peers of a run, and asks them for, by decision of the core."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from skerry.node.run.context import RunContext
from skerry.node.run.disk import DiskWriter
from skerry.node.run.peers import Peers
from skerry.node.run.state import Unreachable
from skerry.protocol.codec import open_envelope, sign_message
from skerry.protocol.errors import PeerUnavailable, ProtocolError, StateError
from skerry.protocol.messages import Announce, Commit, Finding, Signed, SignedCommit
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev

DISK_RETRY_SECONDS = 5.0
Saying = (
    act.PublishAnnounce
    | act.PublishCommit
    | act.PublishFinding
    | act.Broadcast
    | act.AskChain
    | act.Present
)


class Talking:
    """Announcements, commits and questions on their way out."""

    def __init__(
        self, context: RunContext, peers: Peers, disk: DiskWriter, group: asyncio.TaskGroup
    ) -> None:
        """Send to ``peers`` by tasks of ``group``; own announcements are on ``disk`` before."""
        self._context, self._peers, self._disk, self._group = context, peers, disk, group

    def say(self, action: Saying) -> None:
        """Begin one action."""
        match action:
            case act.PublishAnnounce():
                self._spawn(self._publish_announce(action.announce))
            case act.PublishCommit():
                self._publish_commit(action.commit)
            case act.PublishFinding():
                self._publish_finding(action.finding)
            case act.Broadcast():
                self._spawn(self._peers.broadcast(action.envelope, action.peers))
            case act.AskChain():
                self._spawn(self._ask_chain(action))
            case act.Present():
                self._spawn(self._peers.broadcast(self._peers.heartbeat(), self._peers.greeted))

    async def _publish_announce(self, announce: Announce) -> None:
        """Send an own announcement once it is on disk: later if the disk is full."""
        rounds = self._context.state.rounds
        # Read back what was signed: numbers are rounded on the wire, and all must decide alike.
        opened = open_envelope(sign_message(self._context.signer, announce).envelope)
        assert isinstance(opened.message, Announce)
        signed = Signed(opened.message, opened.envelope)
        while True:
            try:
                await self._disk.keep_own(signed)
                break
            except StateError as error:
                self._disk.failed(error)
            await asyncio.sleep(DISK_RETRY_SECONDS)
            if rounds.at != announce.parent or rounds.own is not None:
                return  # it does not matter any more
        self._context.post(ev.AnnounceReceived(signed))
        await self._peers.broadcast(signed.envelope, self._peers.greeted)

    def _publish_commit(self, commit: Commit) -> None:
        signed: SignedCommit = Signed(commit, sign_message(self._context.signer, commit).envelope)
        self._context.journal.write(
            "commit", round=commit.round, view=commit.view, contributions=len(commit.announces)
        )
        self._context.post(ev.CommitsReceived((signed,), self._context.me))
        self._spawn(self._peers.broadcast(signed.envelope, self._peers.greeted))

    def _publish_finding(self, finding: Finding) -> None:
        opened = open_envelope(sign_message(self._context.signer, finding).envelope)
        assert isinstance(opened.message, Finding)  # read back: rounded as the others see it
        self._context.post(ev.FindingReceived(Signed(opened.message, opened.envelope)))
        self._spawn(self._peers.broadcast(opened.envelope, self._peers.greeted))

    async def _ask_chain(self, action: act.AskChain) -> None:
        try:
            commits = await self._peers.chain(action.peer, action.from_round)
        except PeerUnavailable:
            self._context.post(Unreachable(action.peer))
        except ProtocolError as error:
            self._context.refuse(action.peer, error.reason, error.detail)
        else:
            self._context.post(ev.CommitsReceived(commits, action.peer))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._group.create_task(work)
