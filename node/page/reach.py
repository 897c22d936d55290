"""Dialling a peer because somebody asks: bounded in time and number."""

import asyncio
import time

from skerry.node.page.guard import Refusal
from skerry.node.page.models import Link, ReachableAnswer
from skerry.node.run.session import Session
from skerry.protocol.errors import NetworkError, ProtocolError
from skerry.protocol.ids import PeerId

DIAL_SECONDS = 15.0
MIN_GAP_SECONDS = 5.0
"""Between two dials of the same peer."""
MAX_AT_ONCE = 4


class Reach:
    """Answers whether a peer of the run can be reached, by trying."""

    def __init__(self) -> None:
        """Begin without a dial."""
        self._dialled: dict[PeerId, float] = {}
        self._dialling = 0

    async def answer(self, session: Session, peer: PeerId, link: Link) -> ReachableAnswer:
        """Dial ``peer`` and say hello. Raises: Refusal if it is unknown or was just dialled."""
        context = session.context
        member = context.state.rounds.members.get(peer)
        if member is None or peer == context.me:
            raise Refusal(404, "no other peer of this run has this id", "See /api/v1/peers.")
        self._admit(peer)
        began = time.monotonic()
        code, detail, reachable = None, None, True
        self._dialling += 1
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                await session.peers.greet(member)
        except TimeoutError:
            code, reachable = "SK-NET-003", False
            detail = f"no answer within {DIAL_SECONDS:.0f} s"
        except NetworkError as error:
            code, detail, reachable = error.code, error.detail, False
        except ProtocolError as error:  # it answered, though not as a peer of this run
            code, detail = error.code, error.detail
        finally:
            self._dialling -= 1
        return ReachableAnswer(
            as_of=time.time(),
            served_from=context.me,
            peer=peer,
            reachable=reachable,
            took_ms=1000 * (time.monotonic() - began),
            link=link if reachable else "unknown",
            code=code,
            detail=detail,
        )

    def _admit(self, peer: PeerId) -> None:
        now = time.monotonic()
        recent = {p: at for p, at in self._dialled.items() if at > now - MIN_GAP_SECONDS}
        if peer in recent or self._dialling >= MAX_AT_ONCE:
            detail = f"Wait {MIN_GAP_SECONDS:.0f} s; a dial takes its time."
            raise Refusal(429, "asked too often", detail)
        self._dialled = {**recent, peer: now}
