"""What is compared: no defence beyond validation, each rule alone, and the defaults.

All rules are the product's; a defence is an [aggregation] section, and whether norms are clipped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from skerry.compression.aggregate import Clip
from skerry.protocol.manifest import AggregationSection

_OFF: Mapping[str, object] = {
    "norm_limit": 0,
    "copy_overlap": 0,
    "direction_floor": 0,
    "newcomer_trust": 1.0,
    "spot_checks": 0,
}


@dataclass(frozen=True, slots=True)
class Defence:
    """A named way to aggregate."""

    name: str
    about: str
    section: AggregationSection = field(default_factory=AggregationSection)
    clip: Clip = "median"


def _rules(name: str, about: str, clip: Clip = "median", **settings: object) -> Defence:
    return Defence(name, about, AggregationSection.model_validate({**_OFF, **settings}), clip)


DEFAULT = "default"
VALIDATION = Defence(
    "validation",
    "malformed ones rejected, no more",
    AggregationSection.model_validate(_OFF),
    "none",
)
DEFENCES = {
    one.name: one
    for one in (
        Defence(DEFAULT, "the defaults of the run file"),
        _rules("clip", "norms clipped to the median, and no other rule"),
        VALIDATION,
        _rules("direction", "clip, and agreement with the others", direction_floor=0.25),
        _rules("centred", "centred clipping around the last aggregate", clip="centred"),
        _rules("votes", "clip, and at least two votes for an entry", min_votes=2),
        _rules("copies", "clip, and copies count once", copy_overlap=0.75),
        _rules("norms", "clip, and an exclusion at ten times the median norm", norm_limit=10.0),
        _rules("spot", "clip, and four spot checks a round", spot_checks=4, newcomer_trust=0.25),
    )
}
"""In the order in which they are run."""
