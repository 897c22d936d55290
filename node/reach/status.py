"""How the node is reached, as the control API and the status page tell it."""

from skerry.node.reach.keeper import Reachability
from skerry.node.reach.words import in_words
from skerry.proto import control_pb2 as pb


def reach_status(reach: Reachability) -> pb.ReachStatus:
    """Return what is known now."""
    standing, places = reach.standing, reach.places
    words = in_words(standing, places, reach.port, reach.beyond, reach.names_as_relay)
    return pb.ReachStatus(
        verdict=standing.verdict.value if reach.beyond else "local",
        nat=standing.nat.value,
        open=[str(endpoint) for endpoint in standing.open],
        relays=[place.relay for place in places],
        observers=standing.observers,
        summary=words.summary,
        advice=words.advice,
    )
