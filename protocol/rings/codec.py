"""Bytes to plans and frame heads and back, with every size limit and range check.

The only user of the generated classes of proto/ring.proto. The same plan or frame always gives
the same bytes. Decoding raises nothing but ProtocolError, whatever the bytes.
"""

from collections.abc import Sequence

from skerry.proto import ring_pb2 as pb
from skerry.protocol.errors import ProtocolError
from skerry.protocol.fields import bounded, hash_of, parsed, printable, serialized, speed
from skerry.protocol.ids import PeerId, RunId
from skerry.protocol.rings import frames as fr
from skerry.protocol.rings import plan as pl

MAX_PLAN_BYTES = 1024 * 1024
MAX_HEAD_BYTES = 128 * 1024
MAX_REASON_CHARS = 64
MAX_NAME_CHARS = 64
MAX_PEER_CHARS = 128


def encode_plan(plan: pl.Plan) -> bytes:
    """Return the bytes of a plan, which a signature may cover."""
    message = pb.Plan(
        version=plan.version,
        microbatch_tokens=plan.microbatch_tokens,
        stages=[pb.Stage(shards=stage.shards) for stage in plan.stages],
        rings=[_ring_pb(ring) for ring in plan.rings],
        spares=plan.spares,
        shadows=[pb.Shadow(stage=s.stage, source=s.source, holder=s.holder) for s in plan.shadows],
    )
    return serialized(message)


def decode_plan(data: bytes) -> pl.Plan:
    """Read and check a plan. Raises: ProtocolError."""
    if len(data) > MAX_PLAN_BYTES:
        raise ProtocolError("size", f"plan of {len(data)} bytes, limit {MAX_PLAN_BYTES}")
    message = parsed(pb.Plan, data)
    plan = pl.Plan(
        version=bounded(message.version),
        microbatch_tokens=message.microbatch_tokens,
        stages=tuple(
            pl.Stage(tuple(printable(shard, MAX_NAME_CHARS) for shard in stage.shards))
            for stage in message.stages
        ),
        rings=tuple(_ring(ring) for ring in message.rings),
        spares=tuple(_peer(peer) for peer in message.spares),
        shadows=tuple(
            pl.Shadow(s.stage, _peer(s.source), _peer(s.holder)) for s in message.shadows
        ),
    )
    pl.check_plan(plan)
    return plan


def encode_frame(frame: fr.Frame, payload_bytes: int) -> bytes:
    """Return the head of a frame that ``payload_bytes`` of payload will follow."""
    message = pb.Frame(
        run_id=bytes.fromhex(frame.fence.run_id),
        plan=frame.fence.plan,
        ring=frame.fence.ring,
        round=frame.fence.round,
        step=frame.fence.step,
        microbatch=frame.place.microbatch,
        attempt=frame.place.attempt,
        hop=frame.place.hop,
        payload_bytes=payload_bytes,
    )
    _fill(message, frame.body)
    return serialized(message)


def decode_frame(data: bytes) -> tuple[fr.Frame, int]:
    """Read the head of a frame and how much payload it announces. Raises: ProtocolError."""
    if len(data) > MAX_HEAD_BYTES:
        raise ProtocolError("size", f"frame head of {len(data)} bytes, limit {MAX_HEAD_BYTES}")
    message = parsed(pb.Frame, data)
    fence = fr.Fence(
        run_id=RunId(hash_of(message.run_id)),
        plan=bounded(message.plan),
        ring=message.ring,
        round=bounded(message.round),
        step=message.step,
    )
    if message.microbatch >= pl.MAX_MICROBATCHES or message.hop > pl.MAX_HOPS:
        raise ProtocolError("range", f"microbatch {message.microbatch}, hop {message.hop}")
    place = fr.Place(message.microbatch, message.attempt, message.hop)
    return fr.Frame(fence, place, _body(message)), message.payload_bytes


def _fill(message: pb.Frame, body: fr.Body) -> None:
    match body:
        case fr.Activation(route, text_tokens, pace):
            whole = pb.Activation(
                path=_route_pb(route), text_tokens=text_tokens, pace=_pace_pb(pace)
            )
            message.activation.CopyFrom(whole)
        case fr.Gradient(pace):
            message.gradient.CopyFrom(pb.Gradient(pace=_pace_pb(pace)))
        case fr.Reserve(route):
            message.reserve.CopyFrom(pb.Reserve(path=_route_pb(route)))
        case fr.Grant():
            message.grant.SetInParent()
        case fr.Refuse(reason):
            message.refuse.CopyFrom(pb.Refuse(reason=reason))
        case fr.Release(done):
            message.release.CopyFrom(pb.Release(done=done))
        case fr.Passed():
            message.passed.SetInParent()
        case fr.Rerouted(route, culprit):
            message.rerouted.CopyFrom(pb.Rerouted(path=_route_pb(route), culprit=culprit))
        case fr.Failed(culprit, reason):
            message.failed.CopyFrom(pb.Failed(culprit=culprit, reason=reason))
        case fr.StepBegin():
            message.step_begin.SetInParent()
        case fr.StepEnd(visits, last):
            message.step_end.CopyFrom(pb.StepEnd(visits=_visits_pb(visits), last=last))
        case fr.Stepped(visits, reason):
            message.stepped.CopyFrom(pb.Stepped(visits=_visits_pb(visits), reason=reason))
        case fr.Rebuilt(stages):
            ages = [pb.StageAge(stage=one.stage, steps=one.steps) for one in stages]
            message.rebuilt.CopyFrom(pb.Rebuilt(stages=ages))


def _body(message: pb.Frame) -> fr.Body:
    match message.WhichOneof("body"):
        case "activation":
            whole = message.activation
            return fr.Activation(_route(whole.path), whole.text_tokens, _pace(whole.pace))
        case "gradient":
            return fr.Gradient(_pace(message.gradient.pace))
        case "reserve":
            return fr.Reserve(_route(message.reserve.path))
        case "grant":
            return fr.Grant()
        case "refuse":
            return fr.Refuse(printable(message.refuse.reason, MAX_REASON_CHARS))
        case "release":
            return fr.Release(message.release.done)
        case "passed":
            return fr.Passed()
        case "rerouted":
            return fr.Rerouted(_route(message.rerouted.path), message.rerouted.culprit)
        case "failed":
            failed = message.failed
            return fr.Failed(failed.culprit, printable(failed.reason, MAX_REASON_CHARS))
        case "step_begin":
            return fr.StepBegin()
        case "step_end":
            return fr.StepEnd(_visits(message.step_end.visits), message.step_end.last)
        case "stepped":
            reason = printable(message.stepped.reason, MAX_REASON_CHARS)
            return fr.Stepped(_visits(message.stepped.visits), reason)
        case "rebuilt":
            ages = message.rebuilt.stages
            _limit(len(ages), pl.MAX_STAGES, "stages")
            return fr.Rebuilt(tuple(fr.StageAge(one.stage, bounded(one.steps)) for one in ages))
        case _:
            raise ProtocolError("kind", "a frame of no known kind")


def _ring_pb(ring: pl.Ring) -> pb.Ring:
    return pb.Ring(
        members=[
            pb.Member(peer=m.peer, stages=m.stages, slots=m.slots, rate=m.rate)
            for m in ring.members
        ],
        paths=[pb.Path(hops=_route_pb(path.hops), quota=path.quota) for path in ring.paths],
        in_flight=ring.in_flight,
    )


def _ring(message: pb.Ring) -> pl.Ring:
    return pl.Ring(
        members=tuple(
            pl.Member(_peer(m.peer), tuple(m.stages), m.slots, speed(m.rate))
            for m in message.members
        ),
        paths=tuple(pl.Path(_route(path.hops), path.quota) for path in message.paths),
        in_flight=message.in_flight,
    )


def _route_pb(route: pl.Route) -> list[pb.Hop]:
    return [pb.Hop(member=hop.member, stages=hop.stages) for hop in route]


def _route(messages: Sequence[pb.Hop]) -> pl.Route:
    _limit(len(messages), pl.MAX_HOPS, "hops")
    return tuple(pl.Hop(hop.member, tuple(hop.stages)) for hop in messages)


def _pace_pb(pace: fr.Pace) -> pb.Pace:
    return pb.Pace(queued_us=pace.queued_us, bottleneck_us=pace.bottleneck_us)


def _pace(message: pb.Pace) -> fr.Pace:
    return fr.Pace(bounded(message.queued_us), bounded(message.bottleneck_us))


def _visits_pb(visits: tuple[fr.StageVisits, ...]) -> list[pb.StageVisits]:
    return [
        pb.StageVisits(stage=v.stage, text_tokens=v.text_tokens, microbatches=v.microbatches)
        for v in visits
    ]


def _visits(messages: Sequence[pb.StageVisits]) -> tuple[fr.StageVisits, ...]:
    _limit(len(messages), pl.MAX_STAGES, "stages")
    for message in messages:
        _limit(len(message.microbatches), pl.MAX_MICROBATCHES, "microbatches")
    return tuple(
        fr.StageVisits(m.stage, bounded(m.text_tokens), tuple(m.microbatches)) for m in messages
    )


def _limit(number: int, limit: int, what: str) -> None:
    if number > limit:
        raise ProtocolError("size", f"{number} {what}, limit {limit}")


def _peer(text: str) -> PeerId:
    return PeerId(printable(text, MAX_PEER_CHARS))
