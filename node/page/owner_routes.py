"""Routes by which an owner of the run changes it; the guard lets none through without the token.

Only a node that holds an owner key obeys; any other answers 403 (SK-OWN-001). Every order that
was given is in the event log with the address it came from.
"""

from typing import Annotated

from fastapi import APIRouter, Path, Request

from skerry.node.page.desk import Desk
from skerry.node.page.models import OrderAnswer, OuterLrWish, RemoveWish
from skerry.proto import control_pb2 as pb

PeerName = Annotated[str, Path(min_length=1, max_length=64)]


def ordering(desk: Desk) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["changes"])

    @router.post("/peers/{peer}/remove")
    async def remove(request: Request, peer: PeerName, wish: RemoveWish) -> OrderAnswer:
        """Keep a peer out of the run, from the next round on."""
        wanted = pb.RemoveRequest(peer=peer, reason=wish.reason)
        return await desk.order(pb.OrderRequest(remove=wanted), address_of(request))

    @router.post("/peers/{peer}/readmit")
    async def readmit(request: Request, peer: PeerName) -> OrderAnswer:
        """Let a peer in again that was removed."""
        return await desk.order(pb.OrderRequest(readmit=peer), address_of(request))

    @router.post("/outer-lr")
    async def outer_lr(request: Request, wish: OuterLrWish) -> OrderAnswer:
        """Change alpha, the outer learning rate, for all peers from the same round on."""
        wanted = pb.OrderRequest(outer_lr=wish.value or 0.0)
        return await desk.order(wanted, address_of(request))

    return router


def address_of(request: Request) -> str:
    """Return from where something was asked, for the event log."""
    return request.client.host if request.client else "unknown"
