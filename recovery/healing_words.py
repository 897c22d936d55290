"""What healing says in the log and on the page: plain sentences, one for each rung of a stage."""

from collections.abc import Sequence
from itertools import groupby

from skerry.protocol.ids import PeerId, short
from skerry.recovery.healing import (
    TRAINED_IN,
    Rung,
    ShardHealing,
    StageHealing,
    is_block,
)
from skerry.recovery.survey import Copy, Place, Survey, Taker

_PLACES = {
    Place.SAME: "on {peer}, which had it before",
    Place.SPARE: "on {peer}, which stood by",
    Place.NEIGHBOUR: "on its neighbour {peer}",
    Place.MEMBER: "on {peer}, beside another stage",
    Place.MOVED: "on {peer}, whose own stage goes to others",
    Place.JOINER: "on {peer}, which has joined since",
}


def sentences(healing: StageHealing, survey: Survey) -> tuple[str, ...]:
    """Say for each rung what is lost, what is left of it, and what is done where."""
    groups = groupby(
        sorted(healing.shards, key=_what_is_left), key=_what_is_left
    )  # sorted is stable: shards stay in the order of the model
    grouped = [list(shards) for _, shards in groups]
    grouped.sort(key=lambda shards: survey.stages[healing.lost.stage].index(shards[0].shard))
    return tuple(_sentence(healing, shards, survey) for shards in grouped)


def healed(shards: Sequence[str], peer: PeerId, seconds: float, rung: Rung) -> str:
    """Say that shards train again, and how long they did not."""
    verb = "trains" if len(shards) == 1 else "train"
    return f"{named(shards)} {verb} again on {short(peer)} after {seconds:.1f} s ({rung})"


def unplaced(shards: Sequence[str], peer: PeerId, passed_over: bool) -> str:
    """Say that no plan gives what was lost with a peer to anyone who is here."""
    until = "microbatches pass over it" if passed_over else "its ring waits"
    text = f"{named(shards)} lost with peer {short(peer)}: nobody here has room"
    return f"{text}: waits for a joiner; until then {until}"


def named(shards: Sequence[str]) -> str:
    """Name shards shortly: consecutive blocks as ``block.3-5``."""
    numbers = [int(shard.removeprefix("block.")) for shard in shards if is_block(shard)]
    places = enumerate(numbers)
    runs = [[n for _, n in run] for _, run in groupby(places, key=lambda one: one[1] - one[0])]
    blocks = [f"block.{r[0]}-{r[-1]}" if len(r) > 1 else f"block.{r[0]}" for r in runs]
    return ", ".join([*(shard for shard in shards if not is_block(shard)), *blocks])


def _sentence(healing: StageHealing, shards: Sequence[ShardHealing], survey: Survey) -> str:
    names = named([one.shard for one in shards])
    left, verb = _left(shards[0], healing.lost.stage, survey)
    where = _where(healing.lost.taker)
    back = _back(healing.trains_in) if shards[0].rung in TRAINED_IN else ""
    return f"{names} lost with peer {short(healing.lost.peer)}: {left}: {verb} {where}{back}"


def _left(one: ShardHealing, stage: int, survey: Survey) -> tuple[str, str]:
    """Return what is left of a shard, and what is therefore done."""
    age = _age(one.sources[0].age) if one.sources else ""
    peers = " and ".join(short(copy.peer) for copy in one.sources)
    nothing = f"no live host, {_no_shadow(one.shard, survey)}"
    stages = [named([s for s in survey.stages[made] if is_block(s)]) for made in one.made_of]
    match one.rung:
        case Rung.COPY:
            return f"live on {peers}", "copying"
        case Rung.SHADOW:
            return f"no live host, shadow on {peers} is {age} old", "restoring"
        case Rung.AVERAGE:
            return nothing, f"averaging {' and '.join(stages)}"
        case Rung.SWAP:
            knows = survey.partners.get(stage) == one.made_of[0]
            learned = "has learned its role" if knows else "is the only one beside it"
            return f"{nothing}, {stages[0]} {learned}", f"copying {stages[0]}"
        case Rung.INTERPOLATE if len(stages) > 1:
            return f"{nothing}, nor a stage beside it", f"interpolating {' and '.join(stages)}"
        case Rung.INTERPOLATE:
            return f"{nothing}, nor a stage beside it", f"copying {stages[0]}"
        case Rung.CHECKPOINT:
            return f"no live host, {_checkpoint(one.sources[0], survey.round)}", "restoring"
        case Rung.SEED:
            return f"{nothing}, and no checkpoint", "beginning from the seed"


def _checkpoint(copy: Copy, round_number: int) -> str:
    """Say how old what lies on the own disk is."""
    if copy.round is None:
        return f"own checkpoint at least {_age(copy.age)} old"
    behind = round_number - copy.round
    return f"own checkpoint of round {copy.round}, {behind} round{'s' * (behind != 1)} old"


def _no_shadow(shard: str, survey: Survey) -> str:
    copies = survey.shadows.get(shard)
    if not copies:
        return "no shadow"
    return f"a shadow too old ({_age(min(copy.age for copy in copies))})"


def _where(taker: Taker) -> str:
    return _PLACES[taker.place].format(peer=short(taker.peer))


def _back(steps: int) -> str:
    """Say how long it takes until all microbatches visit a stage."""
    text = "; it trains back in: half of the microbatches pass over it at first, none after"
    return f"{text} {steps} steps" if steps else ""


def _what_is_left(one: ShardHealing) -> tuple[str, tuple[str, ...], tuple[int, ...]]:
    return one.rung, tuple(f"{c.peer} {c.age}" for c in one.sources), one.made_of


def _age(steps: int) -> str:
    return "1 step" if steps == 1 else f"{steps} steps"
