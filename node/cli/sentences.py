"""What a status says, in short texts that the live view and the plain lines share."""

from skerry.node.cli.figures import Figures
from skerry.node.cli.wording import count, duration, loss, names_of, percent, printable, size
from skerry.proto import control_pb2 as pb
from skerry.protocol.messages import FULL

_SLACK = 1.1
"""How far the pace of some rounds may be above that of the newest steps."""
_KINDS = {
    "payload": "pseudo-gradients",
    "control": "messages",
    "state": "parameters",
    "shadow": "stage copies",
    "ring": "activations and gradients",
}


def idle_text(status: pb.StatusReply) -> str:
    """Say what a node does that is in no run, and what to do about it."""
    if status.compute == "starting":
        return "opening a run: its compute process is being started"
    return "in no run: skerry init RUN.toml starts one, skerry join TOKEN joins one"


def round_text(round_: pb.RoundStatus) -> str:
    """Return which round is worked on, and of how many."""
    return f"round {round_.round} of {round_.rounds}" if round_.rounds else f"round {round_.round}"


def phase_text(run: pb.RunStatus) -> str:
    """Return what this node does for the round, and how far it is."""
    if run.finished:
        return "finished"
    round_ = run.round
    step = f" {round_.step}/{round_.steps}" if round_.steps else ""
    view = f" (view {round_.view})" if round_.view else ""
    return f"{printable(round_.phase)}{step}{view}"


def hosting_text(peer: pb.PeerStatus) -> str:
    """Return what a peer hosts; empty if that is the whole model, or nothing yet."""
    if peer.role != "stage":
        return ""
    blocks = [name.partition(".")[2] for name in peer.shards if "." in name]
    span = blocks[0] if len(blocks) == 1 else f"{blocks[0]}-{blocks[-1]}" if blocks else ""
    origin = len(blocks) < len(peer.shards)
    parts = ["origin"] * origin + [f"block{'s' * (len(blocks) > 1)} {span}"] * bool(blocks)
    return f"stage ({', '.join(map(printable, parts))})"


def waiting_text(round_: pb.RoundStatus) -> str:
    """Name whom or what the round waits for, and since when."""
    return f"waiting for {names_of(round_.waiting_for)} ({duration(round_.phase_seconds)})"


def val_loss_text(run: pb.RunStatus, figures: Figures) -> str:
    """Return what to compare the validation loss with; empty if nothing is known."""
    known = [f"after round {figures.val_round}"] if figures.val_round is not None else []
    known += [f"first here {loss(run.val_loss_start)}"] if run.val_loss_start else []
    known += [f"unigram entropy {loss(run.unigram_entropy)}"] if run.unigram_entropy else []
    return ", ".join(known)


def bytes_text(run: pb.RunStatus) -> str:
    """Return what was sent, beside the dense exchange."""
    sent, dense = run.payload_bytes_sent, run.dense_bytes
    if not sent:
        return "no pseudo-gradients sent yet"
    ratio = f", dense fp32 {size(dense)} ({dense / sent:.0f}x)" if dense else ""
    return f"sent {size(sent)} of pseudo-gradients{ratio}"


def other_bytes_text(run: pb.RunStatus) -> str:
    """Return what was sent besides pseudo-gradients, and all received; empty if nothing was."""
    parts = []
    for verb, by_kind in (("sent", run.sent_bytes), ("received", run.received_bytes)):
        names = [name for name in sorted(by_kind) if by_kind[name]]
        told = names if verb == "received" else [name for name in names if name != "payload"]
        known = [f"{_KINDS.get(name, printable(name))} {size(by_kind[name])}" for name in told]
        parts += [f"{verb} {', '.join(known)}"] if known else []
    return "; ".join(parts)


def pace_text(run: pb.RunStatus, figures: Figures) -> str:
    """Return how fast the run goes: committed text tokens per second, and the goodput.

    Before two rounds are done, what the peers say they make; empty before they do, and when the
    run is finished.
    """
    if run.finished:
        return ""
    alone = sum(peer.tokens_per_second for peer in run.peers if peer.alive and peer.in_roster)
    committed = figures.text_tokens_per_s
    if committed is None:
        return f"{count(alone)} text tokens/s while training" if alone > 0 else ""
    # Far more than all of them make: some were here in those rounds and are not now.
    comparable = 0 < committed <= alone * _SLACK
    goodput = f", goodput {percent(min(1.0, committed / alone))}" if comparable else ""
    return f"{count(committed)} text tokens/s{goodput}"


def ending_text(run: pb.RunStatus, figures: Figures, now: float) -> str:
    """Return how long the run goes on, by its pace; ``now`` in unix seconds."""
    seconds = None if run.finished else figures.seconds_left(run.round.rounds, now)
    return "" if seconds is None else f"about {duration(seconds)} left"


def peer_state(peer: pb.PeerStatus, round_: pb.RoundStatus) -> str:
    """Say in a word or two what a peer is to the run, or that the round waits for it."""
    if peer.self:
        return "this node"
    if peer.removed:
        return "removed"
    if not peer.alive:
        # A member that no heartbeat of has come yet has not been lost.
        silent = "suspect" if peer.standing == "suspect" else "lost"
        return silent if peer.phase else "joining"
    if peer.standing in ("dead", "evicted"):
        return "healing"  # it is back, but behind the plan in force
    if peer.phase == "paused":
        return "paused"
    if peer.peer_id in round_.waiting_for:
        return "awaited"
    # The last commit's roster is the last there is: who comes back later has all the same arrived.
    return "alive" if peer.in_roster or peer.phase == "done" else "joining"


def reputation(peer: pb.PeerStatus) -> str:
    """Return a peer's reputation, and why its newest contribution did not count in full."""
    text = f"{peer.reputation / FULL:.2f}"
    if not peer.doubt:
        return text
    counted = f"counts {peer.influence / FULL:.0%}" if peer.influence else "does not count"
    return f"{text}, {counted}: {printable(peer.doubt)}"


def seen_text(peer: pb.PeerStatus) -> str:
    """Return how long ago a peer was heard; a dash if it never was."""
    if peer.self:
        return duration(0)
    return duration(peer.seen_seconds_ago) if peer.phase else "-"
