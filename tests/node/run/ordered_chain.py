"""A chain that holds orders of the run's owner, put under a context's state."""

from dataclasses import replace

import run_world

from skerry.node.run.context import RunContext
from skerry.node.run.peers import member_record
from skerry.protocol.codec import sign_message
from skerry.protocol.ids import CommitHash
from skerry.protocol.messages import Change, Commit, Order, SignedCommit
from skerry.protocol.rounds.settings import Removal
from skerry.protocol.signing import Signer
from skerry.protocol.token import make_invite

NEVER = 2**40


def removal(reason: str) -> Removal:
    return Removal(run_world.OWNER.peer_id, reason)


def obey(context: RunContext, owner: Signer, *changes: Change) -> tuple[SignedCommit, ...]:
    """Begin the run, and have a second commit order ``changes``; stand at it. Returns both."""
    rounds, run_id = context.state.rounds, context.run_id
    other = run_world.signer_of(9)
    invite = make_invite(owner, run_id, NEVER, b"n" * 16)
    first = Commit(
        run_id=run_id,
        round=0,
        view=0,
        parent=CommitHash(run_id),
        state=run_world.made_up_state(context.manifest),
        announces=(),
        roster=(owner.peer_id,),
        admissions=(),
        cursor=0,
        weight=0,
    )
    begun = sign_message(owner, first)
    second = replace(
        first,
        round=1,
        parent=CommitHash(begun.hash),
        roster=(other.peer_id,),
        admissions=(member_record(other, run_id, (), invite),),
        cursor=rounds.rules.chain.steps,
        orders=tuple(
            sign_message(owner, Order(run_id, number, change))
            for number, change in enumerate(changes, 1)
        ),
    )
    done = sign_message(other, second)
    for commit in (begun, done):
        rounds.chain.add(commit)
        rounds.at = CommitHash(commit.hash)
    return begun, done
