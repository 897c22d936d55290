"""By what right each peer takes part, as this node knows it, for whoever looks after a run."""

from collections import Counter

from skerry.node.run.context import RunContext
from skerry.proto import control_pb2 as pb
from skerry.protocol.codec import decode_invite
from skerry.protocol.ids import PeerId
from skerry.protocol.messages import Invite, SignedMember

Holders = Counter[bytes]
"""How many members hold each invite, by nonce."""


def holders_of(context: RunContext) -> Holders:
    """Return how many members hold each invite, and of those the chain counts, who came by it."""
    found: Holders = Counter()
    if context.manifest.admission.mode == "invite":
        members = context.state.rounds.members.values()
        found.update(invite.nonce for invite in map(_invite_of, members) if invite)
    for nonce, guests in context.state.rounds.settings.guests.items():
        found[nonce] = len(guests)
    return found


def admission_status(
    context: RunContext, peer: PeerId, holders: Holders
) -> pb.AdmissionStatus | None:
    """Return a peer's right to take part; None while no record of it is known."""
    rounds, manifest = context.state.rounds, context.manifest
    member = rounds.members.get(peer)
    if member is None:
        return None
    status = pb.AdmissionStatus(refusal=rounds.settings.refusal(member))
    if peer == manifest.owner:
        status.right = "owner"
    elif peer in manifest.standby:
        status.right = "standby"
    elif manifest.admission.mode == "open":
        status.right = "open"
    elif manifest.admission.mode == "allow-list":
        status.right = "listed"
    else:
        status.right = "invite"
        _describe_invite(member, holders, status)
    return status


def _describe_invite(member: SignedMember, holders: Holders, status: pb.AdmissionStatus) -> None:
    envelope, invite = member.message.invite, _invite_of(member)
    if envelope is None or invite is None:
        return
    status.invite, status.inviter = invite.nonce.hex(), envelope.signer
    status.expires_at, status.max_uses = invite.expires_at, invite.max_uses
    status.uses = holders[invite.nonce]


def _invite_of(member: SignedMember) -> Invite | None:
    envelope = member.message.invite
    return decode_invite(envelope.body) if envelope is not None else None
