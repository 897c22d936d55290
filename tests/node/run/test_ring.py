"""Rounds in a ring: what takes the place of Train on the members of one, on virtual time.

Contexts, streams, decisions and stages are those of daemons; their sessions are the test.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ring_member_of_ill_will import HostileMember
from run_world import OWNER, context_of, entered, invite_to, made_up_state, signer_of
from stage_compute import StageCompute, one_thread
from tiny_run import tiny_run_file

from skerry.node.run.context import RunContext
from skerry.node.run.peers import Peers, member_record
from skerry.node.run.ring import RingRounds
from skerry.pipeline.stages.sizes import payload_bytes
from skerry.protocol.codec import open_envelope, sign_message
from skerry.protocol.ids import CommitHash, PeerId
from skerry.protocol.manifest import Manifest, parse_run_file
from skerry.protocol.memory import Link, VirtualNetwork
from skerry.protocol.messages import Commit
from skerry.protocol.rings.plan import Hop, Member, Plan, Ring, Stage
from skerry.protocol.rings.plan import Path as RingPath
from skerry.protocol.rounds import actions as act
from skerry.protocol.rounds import events as ev
from skerry.protocol.rounds.state import Phase
from skerry.protocol.signing import Signer
from skerry.protocol.virtual_time import run_virtual

STEPS, BATCH = 3, 4
PATIENCE_S = 600.0
"""Virtual seconds."""
TOKENS = BATCH * 32
RUN_FILE = """
[ring]
microbatch = 1
activations = "fp32"
bypass = {bypass}
attempt_min = "2s"
attempt_max = "8s"
hop_min = "1s"
hop_max = "2s"

[recovery]
bypass_steps = 8
"""


def manifest_in(folder: Path, bypass: int) -> Manifest:
    text = folder / "text.txt"
    text.write_text("".join(f"{word} of the tide at the skerry\n" for word in range(600)))
    changes = {"layers": 2, "steps": STEPS, "batch_size": BATCH, "rounds": 9}
    return parse_run_file(
        tiny_run_file(text, **changes) + RUN_FILE.format(bypass=bypass), OWNER.peer_id
    )


def plan_of(peers: list[PeerId], hosted: list[tuple[int, ...]], in_flight: int) -> Plan:
    """Return a plan of one ring of three stages; each stage's first host is on the path."""
    stages = (Stage(("embed", "head")), Stage(("block.0",)), Stage(("block.1",)))
    hops = tuple(Hop(next(i for i, own in enumerate(hosted) if s in own), (s,)) for s in range(3))
    members = tuple(Member(p, own, 4) for p, own in zip(peers, hosted, strict=True))
    return Plan(0, 32, stages, (Ring(members, (RingPath(hops, BATCH),), in_flight),))


@dataclass
class RingMember:
    """One member of the run, and its rounds in the ring."""

    context: RunContext
    folder: Path
    compute: StageCompute | None = None
    rounds: RingRounds = field(init=False)

    def __post_init__(self) -> None:
        self.rounds = RingRounds(self.context, lambda build: self.asked().ask(build))

    def asked(self) -> StageCompute:
        assert self.compute is not None
        return self.compute

    def host(self, plan: Plan) -> None:
        """Start compute of what a plan gives this member, as its session would."""
        me = self.context.me
        self.compute = StageCompute(self.context.manifest, plan, me, self.folder)
        self.compute.start()

    def train(self, number: int) -> None:
        """Begin a round upon the commit that this member stands at."""
        self.rounds.train(act.Train(number, self.context.state.rounds.at, 0, 0, 1))

    async def trained(self) -> ev.Trained:
        """Wait until a round's training is over here."""
        event = await self.context.events.get()
        assert isinstance(event, ev.Trained)
        return event

    async def encode(self) -> tuple[int, list[str]]:
        """Encode as after Trained; return the text tokens of the round, and the shards."""
        self.rounds.end_round()
        encoded = await self.asked().encode(self.context.state.rounds.at)
        return encoded.round_tokens, [shard.shard for shard in encoded.shards]

    def lines(self, event: str) -> list[dict[str, object]]:
        lines = map(json.loads, self.context.journal.last(1000))
        return [line for line in lines if line["event"] == event]


class RingWorld:
    """Three members of a run in a ring; the first one is its origin."""

    def __init__(self, folder: Path, stack: AsyncExitStack, bypass: int) -> None:
        self.network = VirtualNetwork(seed=1, link=Link(delay_s=0.02, bytes_per_s=5_000_000))
        self.manifest = manifest_in(folder, bypass)
        signers = (OWNER, signer_of(2), signer_of(3))
        self.members = [self._member(folder / str(i), s, stack) for i, s in enumerate(signers)]
        self.signers = signers

    @property
    def origin(self) -> RingMember:
        return self.members[0]

    def _member(self, folder: Path, signer: Signer, stack: AsyncExitStack) -> RingMember:
        start = entered(signer, self.manifest, 0.0)
        context = context_of(folder, signer, self.network, self.manifest, start)
        member = RingMember(context, folder)
        for closing in (context.client.close, context.transport.close, member.rounds.close):
            stack.push_async_callback(closing)
        return member

    def follow(self, *hosted: tuple[int, ...], in_flight: int = 4) -> Plan:
        """Have all members stand at a first commit whose plan gives them these stages."""
        plan = plan_of([signer.peer_id for signer in self.signers], list(hosted), in_flight)
        joined = [
            member_record(s, self.manifest.run_id, (), invite_to(self.manifest))
            for s in self.signers[1:]
        ]
        commit = Commit(
            run_id=self.manifest.run_id,
            round=0,
            view=0,
            parent=CommitHash(self.manifest.run_id),
            state=made_up_state(self.manifest),
            announces=(),
            roster=tuple(sorted(signer.peer_id for signer in self.signers)),
            admissions=tuple(joined),
            cursor=0,
            weight=0,
            plan=plan,
        )
        begun = sign_message(OWNER, commit)
        for member in self.members:
            rounds = member.context.state.rounds
            rounds.chain.add(begun)
            rounds.at, rounds.phase = CommitHash(begun.hash), Phase.TRAINING
            rounds.members.update({record.signer: record for record in joined})
            member.host(plan)
        return plan

    def train(self, number: int = 1) -> None:
        for member in self.members:
            member.train(number)


def ring_test(
    folder: Path, scenario: Callable[[RingWorld], Awaitable[None]], bypass: int = 0
) -> RingWorld:
    """Run ``scenario`` on virtual time; the members follow no plan yet."""

    async def main() -> RingWorld:
        async with AsyncExitStack() as stack:
            world = RingWorld(folder, stack, bypass)
            async with asyncio.timeout(PATIENCE_S):
                await scenario(world)
        return world

    with one_thread():
        return run_virtual(main())


async def until(condition: Callable[[], bool]) -> None:
    """Let virtual time pass in small steps until ``condition`` holds."""
    while True:
        if condition():
            return
        await asyncio.sleep(0.01)


def test_a_round_is_trained_by_all_members_and_each_is_told_when_it_is_over(tmp_path):
    async def scenario(world: RingWorld) -> None:
        world.follow((0,), (1,), (2,))
        world.train()
        for member, shards in zip(
            world.members, [["embed", "head"], ["block.0"], ["block.1"]], strict=True
        ):
            assert (await member.trained()).parent == member.context.state.rounds.at
            assert await member.encode() == (STEPS * TOKENS, shards)
            facts = member.context.facts
            assert (facts.compute, facts.step, facts.steps) == ("ready", STEPS, STEPS)
        [line] = world.origin.lines("trained")
        assert (line["round"], line["steps"]) == (1, STEPS)
        for member in world.members:
            [line] = member.lines("first-step")
            assert line["round"] == 1
        assert world.origin.context.facts.loss > 0

    ring_test(tmp_path, scenario)


def test_what_the_ring_has_sent_is_counted_by_kind_lane_and_peer(tmp_path):
    async def scenario(world: RingWorld) -> None:
        world.follow((0,), (1,), (2,))
        world.train()
        for member in world.members:
            await member.trained()
        found = [member.context.facts for member in world.members]
        await until(
            lambda: _total(f.sent_bytes for f in found) == _total(f.received_bytes for f in found)
        )
        payloads = STEPS * BATCH * payload_bytes(world.manifest, 1)
        for facts in found:  # each passes all microbatches on, and back
            assert facts.ring_text_tokens == STEPS * TOKENS
            for lane in ("forward", "backward"):
                assert payloads < facts.ring_sent[lane] < 1.2 * payloads
            to_peers = sum(traffic.sent for traffic in facts.traffic.values())
            assert to_peers == facts.sent_bytes["ring"] == facts.ring_sent.total()

    ring_test(tmp_path, scenario)


def _total(by_kind: Iterable[Counter[str]]) -> int:
    return sum(counts["ring"] for counts in by_kind)


def test_what_a_member_computes_slowly_is_told_as_its_speed(tmp_path):
    async def scenario(world: RingWorld) -> None:
        world.follow((0,), (1,), (2,))
        for member, takes_s in zip(world.members, (0.01, 0.01, 0.04), strict=True):
            member.asked().takes_s = takes_s
        world.train()
        rates = []
        for member in world.members:
            event = await member.trained()
            assert event.block_rate == member.context.facts.block_rate
            rates.append(event.block_rate)
        # Stage 0 has no block. A microbatch takes four forwards in three computations.
        assert rates == pytest.approx([0.0, 4 / 3 * 32 / 0.01, 4 / 3 * 32 / 0.04], rel=0.05)
        beat = Peers(world.members[2].context).heartbeat()
        assert open_envelope(beat).message.block_rate == rates[2]

    ring_test(tmp_path, scenario)


def test_a_round_that_is_to_finish_ends_after_the_step_under_way(tmp_path):
    async def scenario(world: RingWorld) -> None:
        world.follow((0,), (1,), (2,))
        world.members[1].asked().takes_s = 0.5
        world.train()
        await until(lambda: world.origin.context.facts.step >= 1)
        for member in world.members:
            member.rounds.finish()
        tokens = set()
        for member in world.members:
            await member.trained()
            tokens.add((await member.encode())[0])
        [line] = world.origin.lines("trained")
        assert line["steps"] in (1, 2)
        assert all(TOKENS <= found < STEPS * TOKENS for found in tokens)

    ring_test(tmp_path, scenario)


def test_a_round_that_cannot_end_is_given_up_when_it_is_to_finish(tmp_path):
    """A loss is there, but the way back is gone: without it the origin would wait for ever."""

    async def scenario(world: RingWorld) -> None:
        world.follow((0,), (1,), (2,))
        world.train()
        body = world.members[1]
        await until(lambda: body.asked().requests > 3)
        world.network.crash(body.context.me)
        await body.rounds.close()
        await asyncio.sleep(30.0)
        assert world.origin.context.events.empty()
        world.origin.rounds.finish()
        await world.origin.trained()

    ring_test(tmp_path, scenario)


def test_a_compute_process_that_is_back_trains_the_steps_that_are_left(tmp_path):
    async def scenario(world: RingWorld) -> None:
        world.follow((0,), (1,), (2,))
        world.train()
        await until(lambda: world.origin.context.facts.step >= 1)
        world.origin.asked().start()
        world.origin.train(1)
        for member in world.members:
            await member.trained()
        assert (await world.origin.encode())[0] < STEPS * TOKENS
        for member in world.members[1:]:
            assert (await member.encode())[0] >= (STEPS - 1) * TOKENS
        assert not any("ended early" in str(line) for line in world.origin.lines("warning"))

    ring_test(tmp_path, scenario)


def test_a_member_whose_compute_process_is_back_after_the_last_step_waits_for_nothing(tmp_path):
    async def scenario(world: RingWorld) -> None:
        world.follow((0,), (1,), (2,))
        world.train()
        for member in world.members:
            await member.trained()
        body = world.members[1]
        body.asked().start()
        body.train(1)
        await body.trained()
        assert await body.encode() == (0, [])

    ring_test(tmp_path, scenario)


def test_a_round_in_which_nothing_was_trained_is_trained_when_it_is_begun_again(tmp_path):
    """A member that is not whole yet: all are told to finish, and later to train once more."""

    async def scenario(world: RingWorld) -> None:
        world.follow((0,), (1,), (2,))
        world.train()
        await until(lambda: world.members[1].asked().requests > 0)
        world.members[1].asked().gone = True
        await asyncio.sleep(5.0)
        for member in world.members:
            member.rounds.finish()
        for member in world.members:
            await member.trained()
            if member is not world.members[1]:
                assert await member.encode() == (0, [])
        world.members[1].asked().start()
        world.train()
        for member in world.members:
            await member.trained()
            assert (await member.encode())[0] == STEPS * TOKENS

    ring_test(tmp_path, scenario)


def test_who_comes_after_a_round_that_trained_nothing_takes_part_when_it_is_begun_again(tmp_path):
    """A newcomer must not take the end of the attempt before it for the end of the round."""

    async def scenario(world: RingWorld) -> None:
        world.follow((0,), (1,), (2,))
        newcomer, *there = world.members[1], world.origin, world.members[2]
        for member in there:
            member.train(1)
        await until(lambda: world.origin.context.facts.steps > 0)
        for member in there:
            member.rounds.finish()
        for member in there:
            await member.trained()
            assert await member.encode() == (0, [])
        for member in there:
            member.train(1)
        await asyncio.sleep(5.0)
        newcomer.train(1)
        for member in world.members:
            await member.trained()
            assert (await member.encode())[0] == STEPS * TOKENS

    ring_test(tmp_path, scenario)


def test_another_plan_means_other_streams(tmp_path):
    async def scenario(world: RingWorld) -> None:
        for round_number, hosted in enumerate([((0,), (1,), (2,)), ((0,), (2,), (1,))], 1):
            world.follow(*hosted)
            world.train(round_number)
            for member in world.members:
                await member.trained()
                tokens, _ = await member.encode()
                assert tokens == STEPS * TOKENS

    ring_test(tmp_path, scenario)


def test_a_stage_that_was_interpolated_trains_back_in_under_whatever_plan(tmp_path):
    """Its age goes along; half of the microbatches pass over it at first, none after 8 steps."""

    async def scenario(world: RingWorld) -> None:
        body = world.members[1]
        visits = []
        body.rounds.train_in(("block.0",))
        for round_number, in_flight in ((1, 4), (2, 3), (3, 3)):
            world.follow((0,), (1,), (2,), in_flight=in_flight)
            world.train(round_number)
            for member in world.members:
                await member.trained()
                tokens, _ = await member.encode()
                if member is body:
                    visits.append(tokens // 32)
                else:
                    assert tokens == STEPS * TOKENS
            if round_number == 2:
                body.rounds.train_in(("block.0",))  # made anew, although the plan is as before
        assert visits[:2] == [2 + 2 + 2, 3 + 3 + 3]
        assert visits[2] < STEPS * BATCH
        notes = [str(line["text"]) for line in world.origin.lines("note")]
        told = [text for text in notes if "trains stage 1 back in" in text]
        assert ["50 %" in told[0], "31 %" in told[1]] == [True, True]

    ring_test(tmp_path, scenario, bypass=1)


def test_a_node_that_left_its_ring_is_gone_for_the_others(tmp_path):
    async def scenario(world: RingWorld) -> None:
        world.follow((0,), (1,), (2,))
        world.train()
        for member in world.members:
            await member.trained()
        await world.members[2].rounds.leave()
        world.origin.train(2)
        await asyncio.sleep(1.0)
        assert world.origin.context.waiting_for == ()  # not yet worth a word
        await asyncio.sleep(20.0)
        assert world.origin.context.events.empty()
        assert world.origin.context.waiting_for == ("a host of stage 2",)

    ring_test(tmp_path, scenario)


def test_without_a_ring_a_round_is_over_at_once_and_the_user_is_told(tmp_path):
    async def scenario(world: RingWorld) -> None:
        world.origin.train(1)
        await world.origin.trained()
        [line] = world.origin.lines("warning")
        assert "no ring" in str(line["text"])

    ring_test(tmp_path, scenario)


def test_a_compute_process_that_refuses_the_round_ends_it_and_the_user_is_told(tmp_path):
    async def scenario(world: RingWorld) -> None:
        world.follow((0,), (1,), (2,))
        world.origin.asked().gone = True
        world.origin.train(1)
        await world.origin.trained()
        [line] = world.origin.lines("warning")
        assert "SK-CMP-001" in str(line["text"])

    ring_test(tmp_path, scenario)


def test_what_a_hostile_member_does_is_counted_under_its_name_and_the_round_goes_on(tmp_path):
    """It ends its streams by what no member may send, and keeps what it is given."""

    async def scenario(world: RingWorld) -> None:
        world.follow((0,), (1,), (2,))
        body = world.members[1].context
        honest = [world.members[0], world.members[2]]
        others = {m.context.me: m.context.transport.addresses for m in honest}
        hostile = HostileMember(body.transport, world.manifest, others)
        await hostile.start()
        origin = world.origin.context
        for member in honest:
            member.train(1)
        await until(lambda: origin.me in hostile.streams)
        await hostile.send(origin.me, b"\xff" * 100)
        await world.origin.trained()
        assert (await world.origin.encode())[0] == STEPS * TOKENS
        counted = origin.facts.refused
        assert (counted["lane"], counted["late"]) == (1, 1)
        assert origin.facts.traffic[body.me].refused == 2
        [line] = world.origin.lines("refused")  # what may happen to an honest one is only counted
        assert (line["peer"], line["reason"]) == (body.me, "lane")
        await hostile.close()

    ring_test(tmp_path, scenario, bypass=1)


def test_a_round_that_is_encoded_tells_nobody_that_it_was_trained(tmp_path):
    async def scenario(world: RingWorld) -> None:
        world.follow((0,), (1,), (2,))
        world.members[1].asked().takes_s = 0.5
        world.train()
        await asyncio.sleep(3.0)
        for member in world.members:
            await member.encode()
        await asyncio.sleep(20.0)
        assert all(member.context.events.empty() for member in world.members)

    ring_test(tmp_path, scenario)


@pytest.mark.parametrize("moment_s", [0.0, 0.001, 0.05, 0.5])
def test_a_round_begun_anew_at_any_moment_is_trained(tmp_path, moment_s):
    async def scenario(world: RingWorld) -> None:
        world.follow((0,), (1,), (2,))
        world.train()
        await asyncio.sleep(moment_s)
        world.members[1].train(1)
        for member in world.members:
            await member.trained()
            assert (await member.encode())[0] == STEPS * TOKENS

    ring_test(tmp_path, scenario)
