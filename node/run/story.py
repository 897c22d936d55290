"""Events, decisions and situations in words, for whoever reads a replay."""

from collections.abc import Iterable, Sized
from typing import assert_never

from skerry.node.run.replay import Situation
from skerry.node.run.state import Closed, Network, NodeEvent, Unreachable
from skerry.protocol.compute import Contribution, Hosting, Verdict
from skerry.protocol.ids import PeerId, short
from skerry.protocol.layout import state_digest
from skerry.protocol.messages import (
    FULL,
    AllowPeer,
    Announce,
    Commit,
    Judgement,
    ReadmitPeer,
    RemovePeer,
    RevokeInvite,
    SetOuterLr,
    SignedCommit,
    SignedFinding,
    SignedOrder,
)
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds.actions import Action


def event_words(event: NodeEvent) -> str:
    """Say what happened."""
    match event:
        case ev.Trained():
            return f"trained upon {short(event.parent)}"
        case ev.Encoded() if event.shards:
            tokens = f"{event.round_tokens} of {event.text_tokens} unsent text tokens"
            return f"encoded a contribution upon {short(event.parent)}: {tokens}"
        case ev.Encoded():
            return f"folded the progress upon {short(event.parent)} into the error feedback"
        case ev.Gathered():
            ending = "are here" if event.complete else "could not be had"
            return f"the payloads of commit {short(event.commit)} {ending}"
        case ev.Applied():
            judged = "".join(map(_judgement, event.judgements))
            return f"applied {short(event.commit)}: state {short(event.state.digest)}{judged}"
        case ev.Tried():
            of = f"of {short(event.subject)} to commit {short(event.commit)}"
            return f"the contribution {of} alone lowers the loss by {event.gain:.4f}"
        case ev.Checked():
            verdict = f"is refused: {event.reason}" if event.reason else "is sound"
            return f"contribution {short(event.announce)} {verdict}"
        case ev.Planned():
            return f"a plan for {len(event.candidates)} peers" if event.plan else "no plan works"
        case ev.Tick():
            return "a deadline may have passed"
        case ev.Restored() | ev.ComputeReady() | ev.ComputeLost() | ev.Paused() | ev.Resumed():
            return _own_words(event)
        case ev.StateLoaded() | ev.StateFailed():
            return _state_words(event)
        case _:
            return _peer_words(event)


_OwnEvent = ev.Restored | ev.ComputeReady | ev.ComputeLost | ev.Paused | ev.Resumed


def _own_words(event: _OwnEvent) -> str:
    match event:
        case ev.Restored():
            found = (
                (event.commits, "commit"),
                (event.own, "own contribution"),
                (event.states, "state"),
            )
            return f"restored from disk: {', '.join(_count(*pair) for pair in found)}"
        case ev.ComputeReady():
            open_ones = _count(event.ledger, "open contribution")
            return f"the compute process is up with {open_ones}"
        case ev.ComputeLost():
            return "the compute process ended"
        case ev.Paused():
            return "the user pauses this node"
        case ev.Resumed():
            return "the user lets this node train again"


def _state_words(event: ev.StateLoaded | ev.StateFailed) -> str:
    match event:
        case ev.StateLoaded():
            return f"loaded state {short(event.state.digest)}"
        case ev.StateFailed():
            return f"state {_digest(event.digest)} could not be loaded"


_PeerEvent = (
    ev.AnnounceReceived
    | ev.CommitsReceived
    | ev.OrderReceived
    | ev.FindingReceived
    | ev.MemberLearned
    | ev.HeartbeatReceived
    | ev.PeerUp
    | ev.PeerDown
    | ev.PeerDead
    | ev.PeerEvicted
    | Unreachable
    | Closed
    | Network
)


def _peer_words(event: _PeerEvent) -> str:
    match event:
        case ev.AnnounceReceived():
            by = f"{short(event.announce.hash)} by {short(event.announce.signer)}"
            return f"announcement {by}: {_announced(event.announce.message)}"
        case ev.CommitsReceived():
            return f"from {short(event.source)}: {_commits(event.commits)}"
        case ev.OrderReceived():
            return f"from {short(event.source)}: {_ordered(event.order)}"
        case ev.FindingReceived():
            return _found(event.finding)
        case ev.MemberLearned():
            return f"record of member {short(event.member.signer)}"
        case ev.HeartbeatReceived():
            beat = event.heartbeat.message
            where = f"{beat.phase}, after round {beat.head_round}, step {beat.step}/{beat.steps}"
            return f"heartbeat of {short(event.heartbeat.signer)}: {where}"
        case ev.PeerUp():
            return f"{short(event.peer)} is up"
        case ev.PeerDown():
            return f"{short(event.peer)} is down"
        case ev.PeerDead():
            return f"{short(event.peer)} is dead"
        case ev.PeerEvicted():
            return f"{short(event.peer)} is evicted"
        case Unreachable():
            cause = "for want of a connection" if event.refused else "or was not answered in time"
            return f"a request to {short(event.peer)} failed {cause}"
        case Closed():
            return f"a connection to {short(event.peer)} broke"
        case Network():
            return f"the network is {'back' if event.up else 'lost'}"
        case _:
            assert_never(event)


def action_words(action: Action) -> str:
    """Say what was decided."""
    match action:
        case act.LoadState() if action.local is not None:
            return f"load state {short(action.local.digest)} from disk"
        case act.LoadState() if action.digest is not None:
            return f"download state {short(action.digest)} from {_peers(action.holders)}"
        case act.LoadState():
            return "load the initial state"
        case act.Renew():
            made = ", ".join(action.lost) or "nothing"
            return f"bring back the state before {short(action.commit)}, made anew: {made}"
        case act.Host():
            return f"host {_hosted(action.hosting)}"
        case act.MakePlan():
            return f"plan for {_peers(c.peer for c in action.candidates)}"
        case act.Train():
            slot = f"slot {action.slot + 1} of {action.num_slots}"
            return f"train round {action.round} upon {short(action.parent)}, {slot}"
        case act.FinishTraining():
            return "end training early"
        case act.Encode():
            purpose = "to send it" if action.send else "to keep it as error feedback"
            return f"encode the progress upon {short(action.parent)} {purpose}"
        case act.Gather():
            return f"gather the payloads of {_contributions(action.contributions, action.commit)}"
        case act.Apply():
            count = _contributions(action.contributions, action.commit)
            alpha = "" if action.outer_lr is None else f", alpha {action.outer_lr:g}"
            return f"apply round {action.round}: {count}{alpha}"
        case act.Settle():
            return f"settle {', '.join(map(_verdict, action.verdicts))}"
        case act.Try():
            author = short(action.contribution.author)
            return f"try the contribution of {author} to round {action.round} on held-out text"
        case act.Evaluate():
            return f"measure the validation loss after round {action.round}"
        case act.Note():
            return f"{'warn' if action.warning else 'note'}: {action.text}"
        case act.StoreCommits() | act.StoreOrders() | act.StoreStates() | act.Retain():
            return _disk_words(action)
        case _:
            return _talk_words(action)


_Disk = act.StoreCommits | act.StoreOrders | act.StoreStates | act.Retain


def _disk_words(action: _Disk) -> str:
    match action:
        case act.StoreOrders():
            return f"store {_count(action.orders, 'order')}"
        case act.StoreCommits():
            return f"store {_count(action.commits, 'commit')}"
        case act.StoreStates():
            digests = ", ".join(short(state.digest) for state in action.states)
            return f"keep states {digests}"
        case act.Retain():
            return f"keep {_count(action.addresses, 'blob')} and remove all others"


_Talk = (
    act.PublishAnnounce
    | act.PublishCommit
    | act.PublishFinding
    | act.Broadcast
    | act.Check
    | act.AskChain
    | act.Present
    | act.Refuse
    | act.GiveUp
)


def _talk_words(action: _Talk) -> str:
    match action:
        case act.PublishAnnounce():
            return f"announce {_announced(action.announce)}"
        case act.PublishCommit():
            return f"publish the commit of {_committed(action.commit)}"
        case act.PublishFinding():
            return f"publish harm found in the contribution of {short(action.finding.subject)}"
        case act.Broadcast():
            return f"send {action.envelope.kind.name.lower()} again to {_peers(action.peers)}"
        case act.Check():
            return f"check contribution {short(action.announce.hash)}"
        case act.AskChain():
            return f"ask {short(action.peer)} for its chain from round {action.from_round}"
        case act.Present():
            return "tell the others where it stands"
        case act.Refuse():
            return f"refuse something of {short(action.peer)}: {action.reason}"
        case act.GiveUp():
            return f"end what is under way with {short(action.peer)}"
        case _:
            assert_never(action)


def change_words(before: Situation, after: Situation) -> list[str]:
    """Say what is different after an event, and whom the node waits for then."""
    words = [f"{short(peer)} is alive" for peer in sorted(after.alive - before.alive)]
    words += [f"{short(peer)} is gone" for peer in sorted(before.alive - after.alive)]
    leader = f"led by {short(after.leader)}" if after.leader else "without a leader"
    if (before.round, before.view) != (after.round, after.view):
        words.append(f"round {after.round} view {after.view} {leader}")
        if before.round == after.round and before.leader:
            state = "gave no commit" if before.leader in after.alive else "is gone"
            words.append(f"{short(before.leader)} {state}")
    if before.phase is not after.phase:
        words.append(f"{before.phase} -> {after.phase}")
    changed = (before.phase, before.waiting_for) != (after.phase, after.waiting_for)
    if changed and after.waiting_for:
        words.append(f"waits for {', '.join(map(_name, after.waiting_for))}")
    return words


def _name(name: str) -> str:
    """Shorten a peer id; a phrase stays as it is."""
    return short(name) if name.startswith("12D3") else name


def _announced(announce: Announce) -> str:
    loss = f"loss {announce.loss:.4f}, state {short(state_digest(announce.state))}"
    return f"round {announce.round}, {announce.text_tokens} text tokens, {loss}"


def _commits(commits: tuple[SignedCommit, ...]) -> str:
    if not commits:
        return "no commits"
    newest = commits[-1]
    text = f"commit {short(newest.hash)} of {_committed(newest.message)}"
    return text if len(commits) == 1 else f"{len(commits)} commits, at last {text}"


def _committed(commit: Commit) -> str:
    authors = [announce.signer for announce in commit.announces]
    new = [member.signer for member in commit.admissions]
    text = f"round {commit.round} view {commit.view} with {_peers(authors)}"
    text = f"{text}, taking in {_peers(new)}" if new else text
    text = f"{text}; plan {commit.plan.version}" if commit.plan else text
    judged = "".join(map(_judgement, commit.judgements))
    return "; ".join([text + judged, *map(_found, commit.findings), *map(_ordered, commit.orders)])


def _judgement(judgement: Judgement) -> str:
    counts = f"counts {judgement.influence / FULL:.0%}" if judgement.influence else "does not count"
    return f"; {short(judgement.peer)} {counts}: {judgement.reason}"


def _found(finding: SignedFinding) -> str:
    harm = f"raises the loss by {-finding.message.gain:.4f}"
    subject, commit = short(finding.message.subject), short(finding.message.commit)
    return f"{short(finding.signer)} finds that {subject}'s part in commit {commit} {harm}"


def _ordered(order: SignedOrder) -> str:
    number = f"order {order.message.sequence} of {short(order.signer)}"
    match order.message.change:
        case RemovePeer(peer, reason):
            return f"{number}: remove {short(peer)} ({reason or 'no reason given'})"
        case ReadmitPeer(peer):
            return f"{number}: let {short(peer)} in again"
        case SetOuterLr(lr):
            return f"{number}: alpha {'as the run file says' if lr is None else f'{lr:g}'}"
        case RevokeInvite(nonce, reason):
            return f"{number}: revoke invite {nonce.hex()} ({reason or 'no reason given'})"
        case AllowPeer(peer):
            return f"{number}: put {short(peer)} on the list"


def _hosted(hosting: Hosting | None) -> str:
    if hosting is None:
        return "the whole model"
    return ", ".join(shard for stage in hosting.stages for shard in stage.shards) or "nothing"


def _contributions(contributions: tuple[Contribution, ...], commit: str) -> str:
    return f"{_peers(c.author for c in contributions)} of commit {short(commit)}"


def _verdict(verdict: Verdict) -> str:
    fate = "included" if verdict.included else "left out"
    return f"{short(verdict.parent)} {fate}"


def _count(items: Sized, name: str) -> str:
    return f"{len(items)} {name}{'s' if len(items) != 1 else ''}"


def _peers(peers: Iterable[PeerId]) -> str:
    return ", ".join(map(short, peers)) or "nobody"


def _digest(digest: str | None) -> str:
    return short(digest) if digest else "from the seed"
