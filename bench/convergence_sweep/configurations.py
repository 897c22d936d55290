"""What is compared: named variations of one training run, the most telling ones first.

Everything that a variation may change is written out in ``BASE``, so that a name keeps its
meaning when a default of the manifest changes. Variations differ from it in one thing each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from skerry.protocol.ids import PeerId
from skerry.protocol.manifest import Manifest

Scheme = Literal["codec", "reference", "dense"]
Overrides = Mapping[str, Mapping[str, object]]
T = TypeVar("T", int, float)

DEFAULT = "sign"
"""The configuration that the others are compared with: the manifest's codec as it was."""

BASE: Overrides = {
    "codec": {
        "values": "sign",
        "k": 64,
        "chunk": 4096,
        "error_decay": 0.95,
        "feedback": "fp32",
    },
    "outer": {"lr": 1.0, "divisor": "contributors"},
}


def _setting(default: T, about: str) -> T:
    return field(default=default, metadata={"about": about})


@dataclass(frozen=True, slots=True)
class Size:
    """How much one job trains. The defaults take about a minute on one core of 2026."""

    layers: int = _setting(6, "blocks of the model")
    d_model: int = _setting(128, "model width; 4 heads, 2 key-value heads")
    ffn_dim: int = _setting(352, "feed-forward width")
    context: int = _setting(64, "text tokens per sequence")
    batch_size: int = _setting(4, "sequences per inner step and replica")
    inner_steps: int = _setting(10, "inner steps per round")
    rounds: int = _setting(30, "outer rounds")
    replicas: int = _setting(4, "peers that take part in every round")
    inner_lr: float = _setting(2e-3, "peak of the inner learning rate, a cosine to a tenth of it")
    warmup_steps: int = _setting(20, "inner steps until the peak")
    curve_batches: int = _setting(8, "batches of 32 validation sequences after each round")
    final_batches: int = _setting(64, "the same after the last round, whose loss is compared")


@dataclass(frozen=True, slots=True)
class RingShape:
    """Which replicas are rings, and what travels between their stages."""

    share: float = 0.5
    """Of the replicas; the others are full."""
    ratio: int = 0
    """How many times narrower than the model the subspace is; 0: there is none."""
    mode: Literal["wire", "reparam"] = "wire"
    skip: float = 0.0
    """Share of the stages that a microbatch skips."""

    def overrides(self, d_model: int) -> Overrides:
        """Return what the manifest says of it."""
        subspace = {"dim": d_model // self.ratio if self.ratio else 0, "mode": self.mode}
        # Every microbatch is to count, also the few honest ones that look like outliers.
        ring = {"microbatch": 1, "activations": "int8", "outliers": False}
        return {"model": {"subspace": subspace}, "ring": ring}


@dataclass(frozen=True, slots=True)
class Configuration:
    """One variation; ``group`` and ``about`` are its panel and its line in the report."""

    name: str
    group: str
    about: str
    scheme: Scheme = "codec"
    overrides: Overrides = field(default_factory=dict)
    ring: RingShape | None = None
    """None: all replicas are full."""


def manifest_of(configuration: Configuration, size: Size, seed: int) -> Manifest:
    """Return the manifest of a run. Raises: ValidationError on an unknown setting."""
    model = {
        "layers": size.layers,
        "d_model": size.d_model,
        "ffn_dim": size.ffn_dim,
        "context": size.context,
    }
    inner = {
        "steps": size.inner_steps,
        "batch_size": size.batch_size,
        "lr": size.inner_lr,
        "warmup_steps": size.warmup_steps,
        "decay_steps": size.inner_steps * size.rounds,
    }
    of_ring = configuration.ring.overrides(size.d_model) if configuration.ring else {}
    sections: dict[str, dict[str, object]] = {"model": {**model}, "inner": {**inner}}
    for some in (BASE, configuration.overrides, of_ring):
        for name, settings in some.items():
            sections[name] = {**sections.get(name, {}), **settings}
    run = {"owner": PeerId("bench"), "name": configuration.name, "rounds": size.rounds}
    return Manifest.model_validate({**run, "seed": seed, **sections})


def _codec(name: str, group: str, about: str, **settings: object) -> Configuration:
    return Configuration(name, group, about, overrides={"codec": settings})


def _outer(name: str, about: str, **settings: object) -> Configuration:
    return Configuration(name, "divisor and outer lr", about, overrides={"outer": settings})


CONFIGURATIONS = (
    Configuration(
        DEFAULT, "values", "signs, k 64, beta 0.95, divisor contributors, outer lr 1: the default"
    ),
    Configuration("reference", "values", "2-bit values and 12-bit indices", "reference"),
    _outer("replicas-lr1", "divisor replicas", divisor="replicas"),
    _outer("replicas-lr2", "divisor replicas, outer lr 2", divisor="replicas", lr=2.0),
    _outer("replicas-lr4", "divisor replicas, outer lr 4", divisor="replicas", lr=4.0),
    Configuration("dense", "values", "no compression: the mean of all deltas in fp32", "dense"),
    _codec("sym2", "values", "a sign and a magnitude bit per entry", values="sym2"),
    _codec("beta-0.99", "feedback", "beta 0.99", error_decay=0.99),
    _codec("beta-0.9", "feedback", "beta 0.9", error_decay=0.9),
    _codec("k-32", "density", "k 32", k=32),
    _codec("k-128", "density", "k 128", k=128),
    _codec("k-16", "density", "k 16", k=16),
    _outer("lr-0.7", "outer lr 0.7", lr=0.7),
    _codec("bf16", "feedback", "error feedback in randomly rounded bf16", feedback="bf16"),
    _codec("fp16", "values", "fp16 values: what signs lose", values="fp16"),
    _codec("beta-0.999", "feedback", "beta 0.999", error_decay=0.999),
    _outer("lr-1.4", "outer lr 1.4", lr=1.4),
    _codec(
        "chunk-1024", "density", "k 16 of 1024: smaller tiles, the same density", k=16, chunk=1024
    ),
    _codec("chunk-16384", "density", "k 256 of 16384: larger tiles", k=256, chunk=16384),
)
"""In the order in which they are run."""
