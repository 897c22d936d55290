"""Whom or what a node waits for, in words for the log and the status (DESIGN 1)."""

from skerry.protocol.ids import PeerId, short
from skerry.protocol.rounds.collecting import missing
from skerry.protocol.rounds.state import Phase, RoundState

STANDS_BY = "a stage to take over: this peer stands by"
NO_PLACE = "a plan that gives this peer something to host"


def waiting_for(s: RoundState) -> tuple[PeerId | str, ...]:
    """Return peer ids, or a phrase where no single peer is meant; empty if nothing is awaited."""
    match s.phase:
        case Phase.STARTING:
            return ("the compute process",)
        case Phase.LOADING | Phase.FETCHING:
            return s.others or ("a peer that has the state",)
        case Phase.WAITING:
            return _members(s)
        case Phase.OBSERVING:
            if not s.hosted:
                return (STANDS_BY if s.hosts.names(s.me) else NO_PLACE,)
            return _leader(s) if s.roster else ()
        case Phase.REMOVED:
            return ("the owner to let this peer in again",)
        case Phase.COLLECTING:
            late = [peer for peer in missing(s) if peer != s.me]
            return tuple(late) or _leader(s)
        case _:
            return ()


def _members(s: RoundState) -> tuple[PeerId | str, ...]:
    present = len(s.active - {s.me}) + 1
    if present < s.rules.min_peers:
        absent = s.rules.min_peers - present
        return (f"{absent} more peer{'s' if absent > 1 else ''}",)
    owner = s.rules.chain.owner
    if s.me != owner:
        return (f"the owner {short(owner)} to start the run",)
    return ("a plan of who hosts what",) if s.plan_asked and not s.plan_made else ()


def _leader(s: RoundState) -> tuple[PeerId | str, ...]:
    return (s.leader,) if s.leader and s.leader != s.me else ()
