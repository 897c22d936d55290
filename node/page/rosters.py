"""Who has ever trained: the union of all rosters of the commit chain, read on as it grows."""

from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.rounds.state import RoundState


class Rosters:
    """Of one run; a commit of a branch that lost counts too, since its peers trained as well."""

    def __init__(self) -> None:
        """Know of nobody yet."""
        self._read_to: CommitHash | None = None
        self._peers: set[PeerId] = set()

    def read(self, rounds: RoundState) -> frozenset[PeerId]:
        """Return everyone who was in a roster up to the commit at hand.

        Reads only what is new: as many commits as were added since the last call, or a whole
        branch after the run has moved over to it.
        """
        for name in rounds.chain.path(rounds.at):
            if name == self._read_to:
                break
            self._peers.update(rounds.chain.roster(name))
        self._read_to = rounds.at
        return frozenset(self._peers)
