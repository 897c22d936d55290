"""A swarm written down as TOML: who would take part, over which links, to train what.

The border where text becomes a ``Problem``; docs/planning.md describes the keys with examples.
Neither torch nor numba is needed to read one.
"""

import tomllib
from itertools import chain
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from skerry.pipeline.capacity import block_activation_bytes, head_activation_bytes
from skerry.pipeline.planning.costs import HOME
from skerry.pipeline.planning.problem import (
    Limits,
    ModelCosts,
    Network,
    Peer,
    Problem,
    Traffic,
)
from skerry.protocol.errors import ConfigError
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import ModelSection, RingSection, RunFile, Section, validated
from skerry.protocol.units import Bytes, BytesPerSecond, Seconds

MAX_PEERS = 2048
"""Links are kept pair by pair."""
_USUAL_MICROBATCHES = 8
_PAYLOAD_HEADER_BYTES = 8
BACKWARD_PER_FORWARD = 3
"""Recomputation, the gradient of the input and that of the weights, each as much as a forward."""

Name = Annotated[str, Field(min_length=1, max_length=64)]
Positive = Annotated[float, Field(gt=0)]
Rate = Annotated[BytesPerSecond, Field(gt=0)]
Delay = Annotated[Seconds, Field(ge=0, le=60)]
Share = Annotated[float, Field(ge=0, lt=1)]


class PeerEntry(Section):
    """One peer, or several alike."""

    name: Name
    count: Annotated[int, Field(ge=1, le=MAX_PEERS)] = 1
    """More than one: named name-1, name-2 and so on."""
    memory: Annotated[Bytes, Field(gt=0)]
    tflops: Positive | None = None
    """What it really computes, in 10^12 operations per second."""
    forward: Positive | None = None
    """Instead of tflops: measured text tokens per second through one block."""
    backward: Positive | None = None
    """The same of the backward, recomputation included."""
    upload: Rate = float("inf")
    download: Rate = float("inf")
    site: str = ""
    """Where it is; links are between sites."""
    domain: str = ""
    """What fails together; by default its site, else itself."""

    @model_validator(mode="after")
    def _speed_given(self) -> "PeerEntry":
        measured = (self.forward, self.backward)
        if (self.tflops is None) == (measured == (None, None)) or measured.count(None) == 1:
            raise ValueError(f"{self.name}: give tflops, or forward and backward")
        return self


class LinkEntry(Section):
    """What lies between two places; bandwidth is that of one pair of peers."""

    latency: Delay
    """One way."""
    bandwidth: Rate = float("inf")


class SiteLink(LinkEntry):
    """The link between two sites, both ways."""

    a: Name
    b: Name


class PlanSection(Section):
    """What the plan may do."""

    microbatches: Annotated[int, Field(ge=0, le=65536)] = 0
    """Of one inner step, on average over replicas; 0: those of the run file, else 8."""
    slots: Annotated[int, Field(ge=1, le=1024)] = 8
    """Microbatches that one peer keeps at a time."""
    skip_ratio: Share = 0.0
    swap_ratio: Share = 0.0
    stages: Annotated[int, Field(ge=0, le=512)] = 0
    """0: the planner chooses."""
    max_blocks: Annotated[int, Field(ge=0, le=512)] = 0
    """Most blocks on one peer; 0: as many as its memory takes."""
    full_replicas: bool = True
    shadow_below: Annotated[int, Field(ge=0, le=64)] = 3
    """A stage hosted in fewer failure domains gets a stale copy on another peer."""
    overhead: Delay = 0.005
    """Added to every hop: copies and serialisation."""


class SwarmFile(Section):
    """What a file of peers or of a topology may hold."""

    model: ModelSection | None = None
    ring: RingSection | None = None
    plan: PlanSection = PlanSection()
    peers: tuple[PeerEntry, ...] = ()
    links: tuple[SiteLink, ...] = ()
    same_site: LinkEntry = LinkEntry(latency=0.001)
    default_link: LinkEntry = LinkEntry(latency=0.05)
    """Between peers whose sites no link joins."""


def read_swarm_file(name: str, text: str) -> SwarmFile:
    """Read one file. Raises: ConfigError that begins with the file's name."""
    try:
        return validated(SwarmFile, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("SK-CFG-003", f"{name} is not TOML: {error}") from None
    except ConfigError as error:
        raise ConfigError(error.code, f"{name}: {error.detail}") from None


def joined(peers: SwarmFile, topology: SwarmFile) -> SwarmFile:
    """Return the peers of one file over the links of another. Raises: ConfigError."""
    if topology.peers:
        raise ConfigError("SK-CFG-002", "peers are in both files; leave them out of the topology")
    links = {name: getattr(topology, name) for name in ("links", "same_site", "default_link")}
    if peers.model_fields_set & set(links):
        raise ConfigError("SK-CFG-002", "links are in both files; leave them out of the peers")
    if "plan" in peers.model_fields_set & topology.model_fields_set:
        raise ConfigError("SK-CFG-002", "[plan] is in both files; leave it out of one")
    plan = peers.plan if "plan" in peers.model_fields_set else topology.plan
    model, ring = peers.model or topology.model, peers.ring or topology.ring
    return SwarmFile(model=model, ring=ring, plan=plan, peers=peers.peers, **links)


def problem_of(swarm: SwarmFile, run: RunFile | None = None) -> Problem:
    """Return what is to be planned; a run file takes the place of [model] and [ring].

    Raises: ConfigError("SK-CFG-002").
    """
    if run is not None and (swarm.model or swarm.ring):
        raise ConfigError(
            "SK-CFG-002", "the model is in the run file; leave out [model] and [ring]"
        )
    model = run.model if run else swarm.model
    if model is None:
        raise ConfigError("SK-CFG-002", "no model: add [model] to the file, or give a run file")
    ring = run.ring if run else swarm.ring or RingSection()
    tokens = ring.microbatch * model.context
    batch = -(-run.inner.batch_size // ring.microbatch) if run else _USUAL_MICROBATCHES
    peers = _peers(swarm, model)
    return Problem(
        peers=peers,
        network=_network(swarm, peers),
        model=_costs(model),
        traffic=Traffic(
            microbatch_tokens=tokens,
            payload_bytes=payload_bytes(model, ring, tokens),
            microbatches=0,
            per_ring=swarm.plan.microbatches or batch,
            overhead_s=swarm.plan.overhead,
        ),
        limits=_limits(swarm.plan),
        costs=HOME,
    )


def payload_bytes(model: ModelSection, ring: RingSection, rows: int) -> int:
    """Return what ActivationSpec.payload_bytes does, without torch; a test compares them."""
    width = model.subspace.dim or model.d_model
    row = {
        "fp32": 4 * width,
        "bf16": 2 * width,
        "int8": width + 2,
        "int4": width // 2 + 2,
    }[ring.activations]
    return _PAYLOAD_HEADER_BYTES + rows * row


def block_flops(model: ModelSection) -> float:
    """Return the operations of one block's forward per text token: 2 per parameter, and attention.

    A token attends to half of the context on average, in two products of d_model each.
    """
    return 2.0 * _block_params(model) + 2.0 * model.context * model.d_model


def _peers(swarm: SwarmFile, model: ModelSection) -> tuple[Peer, ...]:
    total = sum(entry.count for entry in swarm.peers)
    if not 1 <= total <= MAX_PEERS:
        raise ConfigError("SK-CFG-002", f"{total} [[peers]], allowed 1 to {MAX_PEERS}")
    found = tuple(chain.from_iterable(_alike(entry, model) for entry in swarm.peers))
    names = [peer.name for peer in found]
    if len(set(names)) < total:
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError("SK-CFG-002", f"two peers are named {twice!r}")
    return found


def _alike(entry: PeerEntry, model: ModelSection) -> list[Peer]:
    if entry.tflops is not None:
        forward = entry.tflops * 1e12 / block_flops(model)
        backward = forward / BACKWARD_PER_FORWARD
    else:
        forward, backward = entry.forward or 0.0, entry.backward or 0.0
    numbers = range(1, entry.count + 1)
    names = [entry.name] if entry.count == 1 else [f"{entry.name}-{i}" for i in numbers]
    return [
        Peer(
            name=name,
            forward=forward,
            backward=backward,
            memory=entry.memory,
            upload=entry.upload,
            download=entry.download,
            site=entry.site,
            domain=entry.domain or entry.site or name,
        )
        for name in names
    ]


def _network(swarm: SwarmFile, peers: tuple[Peer, ...]) -> Network:
    sites = sorted({peer.site for peer in peers})
    _check_sites(swarm, set(sites))
    place = {site: i for i, site in enumerate(sites)}
    table = np.full((2, len(sites), len(sites)), 0.0)
    table[:] = np.array(_figures(swarm.default_link))[:, None, None]
    for i, site in enumerate(sites):
        table[:, i, i] = _figures(swarm.same_site if site else swarm.default_link)
    for link in swarm.links:
        if {link.a, link.b} <= place.keys():
            a, b = place[link.a], place[link.b]
            table[:, a, b] = table[:, b, a] = _figures(link)
    at_N = np.array([place[peer.site] for peer in peers])
    latency_NN, bandwidth_NN = table[:, at_N[:, None], at_N]
    _check_bandwidth(peers, bandwidth_NN)
    return Network(latency_NN, bandwidth_NN)


def _figures(link: LinkEntry) -> tuple[float, float]:
    return link.latency, link.bandwidth


def _check_sites(swarm: SwarmFile, sites: set[str]) -> None:
    """Refuse a site that no link names, if there are links: it may be misspelt."""
    known = {end for link in swarm.links for end in (link.a, link.b)}
    unknown = sorted(sites - known - {""})
    if known and unknown:
        raise ConfigError(
            "SK-CFG-002", f"no link leads to site {unknown[0]!r}; known: {', '.join(sorted(known))}"
        )


def _check_bandwidth(peers: tuple[Peer, ...], bandwidth_NN: Any) -> None:  # noqa: ANN401 - an array
    uploads_N = np.array([peer.upload for peer in peers])
    free_NN = np.isinf(np.minimum(bandwidth_NN, uploads_N[:, None]))
    np.fill_diagonal(free_NN, False)
    if free_NN.any():
        a, b = (peers[int(i)].name for i in np.argwhere(free_NN)[0])
        raise ConfigError(
            "SK-CFG-002",
            f"how fast {a} sends to {b} is not known: give its upload, or the link's bandwidth",
        )


def _costs(model: ModelSection) -> ModelCosts:
    sizes = {shard.name: shard.numel for shard in layout_of(model)}
    head = 2.0 * model.vocab_size * model.d_model / block_flops(model)
    return ModelCosts(
        blocks=model.layers,
        block_params=_block_params(model),
        embed_params=sizes["embed"],
        head_params=sizes["head"],
        head_units=head * BACKWARD_PER_FORWARD,
        width=model.d_model,
        block_activation_bytes=block_activation_bytes(model),
        head_activation_bytes=head_activation_bytes(model),
    )


def _block_params(model: ModelSection) -> int:
    return next(shard.numel for shard in layout_of(model) if shard.name == "block.0")


def _limits(plan: PlanSection) -> Limits:
    return Limits(
        slots=plan.slots,
        skip_ratio=plan.skip_ratio,
        swap_ratio=plan.swap_ratio,
        stages=plan.stages,
        max_blocks=plan.max_blocks,
        full_replicas=plan.full_replicas,
        shadow_below=plan.shadow_below,
    )
