"""The run manifest: what a run trains and by which rules, agreed by hash.

A TOML file becomes a validated ``Manifest``; its canonical JSON is what is hashed and signed.
The hash is the run id, so everything a joiner needs to verify follows from the token.
"""

import json
import tomllib
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from skerry.protocol.errors import ConfigError, ProtocolError
from skerry.protocol.ids import PeerId, RunId, content_hash
from skerry.protocol.messages import MAX_OUTER_LR
from skerry.protocol.signing import public_key_of
from skerry.protocol.units import Seconds

MAX_MANIFEST_BYTES = 64 * 1024
MAX_STANDBY = 8
MAX_ALLOWED = 256
LEAST_SWAPPED = 4
"""Stages with blocks, and so layers, that it takes for two at each end to swap."""

S = TypeVar("S", bound=BaseModel)


class Section(BaseModel):
    """Base of all sections: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SubspaceSection(Section):
    """The subspace that activations are projected onto between the peers of a ring."""

    dim: Annotated[int, Field(ge=0, le=65535)] = 0
    """R, its dimensions; 0: there is none, and rows of the residual stream are sent whole."""
    mode: Literal["wire", "reparam"] = "wire"
    """Whether only what is sent is projected, which loses the rest; or the matrices that write to
    the residual stream are confined to the subspace in every replica, and nothing is lost."""


class ModelSection(Section):
    """Shape of the Llama-family decoder."""

    layers: Annotated[int, Field(ge=1, le=512)] = 4
    d_model: Annotated[int, Field(ge=8, le=65536)] = 128
    heads: Annotated[int, Field(ge=1, le=1024)] = 4
    kv_heads: Annotated[int, Field(ge=1, le=1024)] = 2
    ffn_dim: Annotated[int, Field(ge=8, le=1_000_000)] = 352
    context: Annotated[int, Field(ge=8, le=1_048_576)] = 128
    """Text tokens per sequence."""
    vocab_size: Annotated[int, Field(ge=256, le=1_000_000)] = 256
    rope_theta: Annotated[float, Field(gt=0)] = 10_000.0
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    subspace: SubspaceSection = SubspaceSection()

    @property
    def is_reparametrised(self) -> bool:
        """Whether what writes to the residual stream is stored as coordinates in the subspace."""
        return self.subspace.mode == "reparam" and self.subspace.dim > 0

    @property
    def written_dim(self) -> int:
        """Entries per text token that a part of the model writes to the residual stream."""
        return self.subspace.dim if self.is_reparametrised else self.d_model

    @model_validator(mode="after")
    def _subspace_fits(self) -> "ModelSection":
        if self.subspace.dim > self.d_model:
            raise ValueError(
                f"subspace.dim must not exceed d_model: {self.subspace.dim} of {self.d_model}"
            )
        return self

    @model_validator(mode="after")
    def _heads_divide(self) -> "ModelSection":
        if self.d_model % (2 * self.heads):
            raise ValueError("d_model must be an even multiple of heads")
        if self.heads % self.kv_heads:
            raise ValueError("heads must be a multiple of kv_heads")
        return self


class DataSection(Section):
    """Where the text comes from; byte-level text tokens."""

    source: Literal["stdlib", "text", "jsonl"] = "stdlib"
    path: str = ""
    """File or folder of the ``text`` and ``jsonl`` sources, on every peer's own machine.

    Absolute, or below the home folder of the user whose daemon it is: "~/books".
    """
    field: str = "text"
    """Key of the text in a line of JSONL."""
    validation_percent: Annotated[int, Field(ge=1, le=50)] = 5
    """Share of files (stdlib, text) or lines (jsonl) kept for validation."""
    validation_batches: Annotated[int, Field(ge=1, le=1000)] = 8
    validation_every: Annotated[int, Field(ge=1)] = 5
    """Rounds between two measurements of the validation loss; the last round always counts."""

    @model_validator(mode="after")
    def _path_given(self) -> "DataSection":
        if self.source != "stdlib" and not self.path:
            raise ValueError(f"data.path is needed for source {self.source!r}")
        # Relative to what? Each peer's daemon runs in another folder, or in none that is known.
        if self.path and not self.path.startswith(("/", "~/")):
            raise ValueError(f"data.path {self.path!r} must begin with / or ~/")
        return self


class InnerSection(Section):
    """AdamW steps on each peer between two exchanges."""

    steps: Annotated[int, Field(ge=1, le=10_000)] = 30
    """H: inner steps per outer round (SparseLoCo: 30)."""
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 8
    """Sequences per inner step."""
    lr: Annotated[float, Field(gt=0, le=1)] = 2e-3
    min_lr_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    warmup_steps: Annotated[int, Field(ge=0)] = 20
    decay_steps: Annotated[int, Field(ge=1)] = 10_000
    """Inner steps after which the cosine has reached min_lr_ratio."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.1
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest gradient norm."""


class OuterSection(Section):
    """The outer update: plain SGD with a step schedule, applied once (DESIGN 7.7)."""

    lr: Annotated[float, Field(gt=0, le=MAX_OUTER_LR)] = 1.0
    final_lr: Annotated[float, Field(gt=0, le=MAX_OUTER_LR)] = 1.0
    decay_from_round: Annotated[int, Field(ge=0)] = 0
    """First round that uses final_lr; 0 keeps lr throughout (Covenant-72B: 1.0, later 0.65)."""
    divisor: Literal["contributors", "replicas"] = "contributors"
    """What the weighted sum of an entry is divided by: the weights of the peers that sent this
    entry, or of all that contributed. Supports hardly overlap, so with "replicas" a step is
    smaller by almost the number of peers, and lr means something else."""

    def lr_at(self, round_number: int) -> float:
        """Return the outer learning rate of a round."""
        decayed = self.decay_from_round and round_number >= self.decay_from_round
        return self.final_lr if decayed else self.lr


class CodecSection(Section):
    """Pseudo-gradients on the wire, and what is kept of them here (SparseLoCo defaults)."""

    values: Literal["sign", "sym2", "fp16"] = "sign"
    """How a kept entry is sent: its sign, or sign and one magnitude bit, both with scales per tile;
    or half precision, which shows what the other two lose."""
    k: Annotated[int, Field(ge=1)] = 64
    """Entries kept of each full tile."""
    chunk: Literal[1024, 4096, 16384] = 4096
    """Entries of a full tile: a square of side 32, 64 or 128."""
    error_decay: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Beta of the error feedback."""
    feedback: Literal["fp32", "bf16"] = "fp32"
    """How each peer keeps its error feedback; bf16 takes half the space, rounded at random."""

    @model_validator(mode="after")
    def _k_fits(self) -> "CodecSection":
        if self.k > self.chunk:
            raise ValueError(f"codec.k must not exceed codec.chunk: {self.k} of {self.chunk}")
        return self


class AggregationSection(Section):
    """How far contributions are believed; malformed ones never count, and norms are clipped.

    0 switches a rule off where it is allowed.
    """

    min_votes: Annotated[int, Field(ge=1, le=256)] = 1
    """Entries that fewer contributions name are left out."""
    norm_limit: Annotated[float, Field(ge=0, le=1e6)] = 10.0
    """A contribution with so many times the median norm per entry is excluded."""
    copy_overlap: Annotated[float, Field(ge=0, le=1)] = 0.75
    """Contributions that share more of their entries, beyond what two usually share, are copies of
    each other."""
    direction_floor: Annotated[float, Field(ge=0, le=1)] = 0.25
    """A contribution whose signs agree with the others' less than this share of what is usual
    among them is excluded."""
    newcomer_trust: Annotated[float, Field(ge=0.001, le=1)] = 0.25
    """Influence of a peer's first contributions, relative to that of trusted peers."""
    ramp_rounds: Annotated[int, Field(ge=1, le=1000)] = 8
    """Rounds without fault in which a newcomer comes to be trusted in full."""
    spot_checks: Annotated[int, Field(ge=0, le=16)] = 0
    """Contributions per round that verifiers try on held-out text, while the others wait."""


class RingSection(Section):
    """What travels between the peers of a ring, and how long they wait for each other."""

    microbatch: Annotated[int, Field(ge=1, le=65536)] = 1
    """Sequences of one microbatch; the last one of an inner step may have fewer."""
    activations: Literal["fp32", "bf16", "int8", "int4"] = "int8"
    """How an entry is sent, of a row of the residual stream or of its coordinates."""
    slots: Annotated[int, Field(ge=1, le=1024)] = 8
    """Microbatches that a peer keeps at a time."""
    skip_ratio: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of the stages that each microbatch skips as planned; the first never is."""
    swap_ratio: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of the microbatches that pass the two stages at each end in reverse order, so that each
    of two learns the other's role (CheckFree+)."""
    bypass: Annotated[int, Field(ge=0, le=512)] = 1
    """Stages that a microbatch may pass over beyond those, where no host is there or in time, or
    where a stage was interpolated and trains back in (``recovery.bypass_steps``)."""
    hop_min: Annotated[Seconds, Field(gt=0)] = 2.0
    hop_max: Annotated[Seconds, Field(gt=0)] = 30.0
    """How long a neighbour may take to pass a microbatch on, where there is another way."""
    attempt_min: Annotated[Seconds, Field(gt=0)] = 5.0
    attempt_max: Annotated[Seconds, Field(gt=0)] = 120.0
    """How long a microbatch may take around the ring before it is begun anew."""
    deadline_factor: Annotated[float, Field(ge=1, le=100)] = 4.0
    """Both deadlines = factor x moving average, within these bounds."""

    outliers: bool = True
    """Whether activations and gradients that are unlike those before them are dropped."""
    doubles: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of the rounds in which one microbatch is computed by a second host as well."""

    @model_validator(mode="after")
    def _ordered(self) -> "RingSection":
        if self.hop_min > self.hop_max or self.attempt_min > self.attempt_max:
            raise ValueError("hop_min and attempt_min must not exceed hop_max and attempt_max")
        return self


class RoundSection(Section):
    """Timing of outer rounds; deadlines adapt to measured round times within these bounds."""

    deadline_min: Annotated[Seconds, Field(gt=0)] = 5.0
    deadline_max: Annotated[Seconds, Field(gt=0)] = 600.0
    deadline_factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    """Deadline = factor x moving average of the peers' time to announce."""
    grace: Annotated[Seconds, Field(gt=0)] = 5.0
    """Time for announcements, payloads and the commit to travel; also the time of one view."""
    replay: Annotated[int, Field(ge=1, le=64)] = 6
    """Rounds whose payloads peers keep, so that others can catch up by replaying them."""

    @model_validator(mode="after")
    def _ordered(self) -> "RoundSection":
        if self.deadline_min > self.deadline_max:
            raise ValueError("deadline_min must not exceed deadline_max")
        return self


class RecoverySection(Section):
    """How what is lost comes back where no live host has it."""

    norm_exponent: Literal[1, 2] = 2
    """p: of the two stages beside a lost one, each counts by its gradient's norm to the power p.
    CheckFree prints it squared (arXiv:2506.15461, algorithm 1), its published code does not."""
    shadow_every: Annotated[int, Field(ge=0, le=1_000_000)] = 10
    """Inner steps after which a ring's stages are copied again, in bf16, to other peers of it; not
    before the next round, since they are agreed upon only once in each. 0: they never are, and
    embedding and head are lost with their only host."""
    bypass_steps: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    """Inner steps in which part of the microbatches pass over a stage that was interpolated, half
    of them at first, as far as ``ring.bypass`` lets them; 0: all visit it at once."""


class PeerSection(Section):
    """How many peers a run takes."""

    min: Annotated[int, Field(ge=1, le=256)] = 1
    """Training starts when so many are there."""
    max: Annotated[int, Field(ge=1, le=256)] = 64

    @model_validator(mode="after")
    def _ordered(self) -> "PeerSection":
        if self.min > self.max:
            raise ValueError("peers.min must not exceed peers.max")
        return self


def _check_peer_ids(where: str, peers: tuple[PeerId, ...]) -> None:
    for peer in peers:
        try:
            public_key_of(peer)
        except ProtocolError as error:
            hint = "skerry keys prints a node's"
            raise ValueError(f"{where}: {error.detail}; {hint}") from None


class AdmissionSection(Section):
    """Who may take part."""

    mode: Literal["open", "invite", "allow-list"] = "invite"
    """Anyone; whoever holds an invite of an owner; or only peers whose ids are listed."""
    invite_lifetime: Annotated[Seconds, Field(gt=0)] = 30 * 86400.0
    allowed: Annotated[tuple[PeerId, ...], Field(max_length=MAX_ALLOWED)] = ()
    """Peer ids, for the mode allow-list; skerry allow adds more while the run goes on."""

    @model_validator(mode="after")
    def _list_is_used(self) -> "AdmissionSection":
        if self.allowed and self.mode != "allow-list":
            raise ValueError(f"admission.allowed has no meaning with mode {self.mode!r}")
        if len(set(self.allowed)) < len(self.allowed):
            raise ValueError("admission.allowed names a peer twice")
        _check_peer_ids("admission.allowed", self.allowed)
        return self


class RunFile(Section):
    """What the user writes."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")] = "run"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    rounds: Annotated[int, Field(ge=0)] = 0
    """Outer rounds to train; 0 means until stopped."""
    standby: Annotated[tuple[PeerId, ...], Field(max_length=MAX_STANDBY)] = ()
    """Peer ids, which are public keys: whoever holds one may do what the owner may."""
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    inner: InnerSection = InnerSection()
    outer: OuterSection = OuterSection()
    codec: CodecSection = CodecSection()
    aggregation: AggregationSection = AggregationSection()
    ring: RingSection = RingSection()
    round: RoundSection = RoundSection()
    recovery: RecoverySection = RecoverySection()
    peers: PeerSection = PeerSection()
    admission: AdmissionSection = AdmissionSection()

    @model_validator(mode="after")
    def _standby_keys(self) -> "RunFile":
        if len(set(self.standby)) < len(self.standby):
            raise ValueError("standby names a key twice")
        _check_peer_ids("standby", self.standby)
        return self

    @model_validator(mode="after")
    def _halves_pair_up(self) -> "RunFile":
        if self.ring.activations == "int4" and self.model.subspace.dim % 2:
            raise ValueError("ring.activations int4 needs an even model.subspace.dim")
        return self

    @model_validator(mode="after")
    def _ends_can_swap(self) -> "RunFile":
        if self.ring.swap_ratio and self.model.layers < LEAST_SWAPPED:
            raise ValueError(f"ring.swap_ratio needs a model of {LEAST_SWAPPED} layers or more")
        return self


class Manifest(RunFile):
    """The user's file together with the owner, who alone may sign it and start the run."""

    version: Literal[1] = 1
    owner: PeerId

    @model_validator(mode="after")
    def _owner_apart(self) -> "Manifest":
        if self.owner in self.standby:
            raise ValueError("standby must not name the owner itself")
        return self

    @property
    def owner_keys(self) -> frozenset[PeerId]:
        """Who may give orders and invite peers: the owner and the standby owners."""
        return frozenset((self.owner, *self.standby))

    def canonical(self) -> bytes:
        """Return the one byte string that is hashed and signed: sorted keys, no spaces."""
        data = self.model_dump(mode="json")
        return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @property
    def run_id(self) -> RunId:
        """BLAKE2b-256 of the canonical bytes."""
        return RunId(content_hash(self.canonical()))

    @property
    def allowed(self) -> frozenset[PeerId] | None:
        """Whom the run lists from the outset, owners included; None if it keeps no list."""
        if self.admission.mode != "allow-list":
            return None
        return self.owner_keys | frozenset(self.admission.allowed)

    @property
    def max_round_tokens(self) -> int:
        """Text tokens that a full round of one peer trains."""
        return self.inner.steps * self.inner.batch_size * self.model.context


def parse_run_file(text: str, owner: PeerId) -> Manifest:
    """Turn the user's TOML into a manifest owned by ``owner``. Raises: ConfigError."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("SK-CFG-003", f"the run file is not TOML: {error}") from None
    run_file = validated(RunFile, data)
    return validated(Manifest, {**run_file.model_dump(), "owner": owner})


def parse_canonical(body: bytes) -> Manifest:
    """Read canonical bytes back. Raises: ConfigError if they are not exactly canonical."""
    if len(body) > MAX_MANIFEST_BYTES:
        raise ConfigError(
            "SK-CFG-002", f"manifest of {len(body)} bytes, limit {MAX_MANIFEST_BYTES}"
        )
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise ConfigError("SK-CFG-003", "the manifest is not JSON") from None
    manifest = validated(Manifest, data)
    if manifest.canonical() != body:
        raise ConfigError("SK-CFG-002", "the manifest is not in canonical form")
    return manifest


def validated(model: type[S], data: object) -> S:
    """Validate ``data``; an unknown key is answered with the nearest known one.

    Raises: ConfigError("SK-CFG-001") or ConfigError("SK-CFG-002").
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _explained(model, error) from None


def _explained(model: type[BaseModel], error: ValidationError) -> ConfigError:
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in first["loc"]]
    where = ".".join(location)
    if first["type"] != "extra_forbidden":
        got = f" (got {first['input']!r})" if location else ""
        return ConfigError("SK-CFG-002", f"{where or 'file'}: {first['msg']}{got}")
    known = list(_section_at(model, location[:-1]).model_fields)
    near = get_close_matches(location[-1], known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
    return ConfigError("SK-CFG-001", f"unknown key {where!r}; {hint}")


def _section_at(model: type[BaseModel], path: list[str]) -> type[BaseModel]:
    for name in path:
        if name.isdigit():  # a place in a list of sections
            continue
        inner: Any = model.model_fields[name].annotation
        model = next((one for one in get_args(inner) if hasattr(one, "model_fields")), inner)
    return model
