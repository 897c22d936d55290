"""Everything that reads bytes of strangers, as functions of bytes that must never fail.

Each target takes any bytes, and returns whether they were accepted; what a parser may raise is
caught here, so anything else that comes out is a defect. ``bench/fuzz.py`` drives them with
coverage. What they need is loaded lazily: a run fuzzes one of them.
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from functools import cache
from hashlib import blake2b

Target = Callable[[bytes], bool]

KINDS = ("MEMBER", "HEARTBEAT", "ANNOUNCE", "COMMIT", "INVITE", "ORDER", "MANIFEST")


def envelope(data: bytes) -> bool:
    """An envelope as it is stored and sent, up to its signature."""
    from skerry.protocol.codec import decode_envelope, open_envelope

    return _refused_or(lambda: open_envelope(decode_envelope(data)))


def message(data: bytes) -> bool:
    """The body of a message, correctly signed by whoever means harm; the first byte is its kind."""
    from skerry.protocol.codec import MAX_BODY_BYTES, encode, open_envelope
    from skerry.protocol.messages import Kind

    kind = Kind[KINDS[data[0] % len(KINDS)]] if data else Kind.MEMBER
    body = data[1:]
    if len(body) > MAX_BODY_BYTES[kind]:
        return False
    signed = _signer().sign(kind, body)

    def read() -> None:
        opened = open_envelope(signed)
        assert encode(opened.message)[0] is kind

    return _refused_or(read)


def dht_record(data: bytes) -> bool:
    """What somebody wants stored in the directory, in the place of its own signer."""
    from hivemind.dht.routing import DHTID
    from hivemind.dht.validation import DHTRecord
    from hivemind.utils import MSGPackSerializer

    from skerry.node.net.record_validator import MemberValidator, run_key
    from skerry.protocol.ids import RunId

    run = RunId("ab" * 32)
    key = DHTID.generate(source=run_key(run)).to_bytes()
    subkey = MSGPackSerializer.dumps(str(_signer().peer_id))
    return MemberValidator(run).validate(DHTRecord(key, subkey, data, 1.0))


def token(data: bytes) -> bool:
    """A join token as somebody pastes it."""
    from skerry.protocol.token import decode_token

    return _refused_or(lambda: decode_token(data.decode("latin-1")))


def sealed_token(data: bytes) -> bool:
    """A token whose length and checksum hold."""
    from skerry.protocol.token import PREFIX

    whole = (len(data) + 8).to_bytes(4, "big")[2:] + data
    whole += blake2b(whole, digest_size=8, person=b"skerry-token").digest()
    return token(PREFIX.encode() + urlsafe_b64encode(whole).rstrip(b"="))


def manifest(data: bytes) -> bool:
    """A manifest as another peer sends it."""
    from skerry.protocol.manifest import parse_canonical

    return _refused_or(lambda: parse_canonical(data))


def run_file(data: bytes) -> bool:
    """A run file that somebody was handed."""
    from skerry.protocol.manifest import parse_run_file

    return _refused_or(lambda: parse_run_file(data.decode("latin-1"), _signer().peer_id))


def ring_frame(data: bytes) -> bool:
    """The head of a frame between the peers of a ring."""
    from skerry.protocol.rings.codec import decode_frame

    return _refused_or(lambda: decode_frame(data))


def ring_plan(data: bytes) -> bool:
    """A plan of rings, stages and paths."""
    from skerry.protocol.rings.codec import decode_plan

    return _refused_or(lambda: decode_plan(data))


def ring_stream(data: bytes) -> bool:
    """The bytes of a ring's stream, in the pieces in which they arrive."""
    from skerry.protocol.rings.lanes import Inbox, LaneLimits, SizeRange

    limits = LaneLimits(SizeRange(1, 65536), SizeRange(1, 65536))
    inbox = Inbox(limits)

    def read() -> None:
        for start in range(0, len(data), 997):
            inbox.feed(data[start : start + 997])
            inbox.received_credit()
            assert inbox.held_bytes <= 4 * limits.window_bytes

    return _refused_or(read)


def payload(data: bytes) -> bool:
    """A contribution's payload, with the checksum that belongs to it."""
    from skerry.compression.errors import CompressionError
    from skerry.compression.payload import checksum

    sealed = data[:30] + checksum(data) + data[38:] if len(data) >= 38 else data
    accepted = False
    for codec in _codecs():
        try:
            codec.check(sealed)
            accepted = True
        except CompressionError:
            pass
    return accepted


def activations(data: bytes) -> bool:
    """Activations of a microbatch in any of the formats; the first byte chooses."""
    import torch

    from skerry.compression.activations.codec import ActivationCodec, ActivationSpec
    from skerry.compression.errors import CompressionError

    values = ("fp32", "bf16", "int8", "int4")
    choice = data[0] % len(values) if data else 0
    codec = ActivationCodec(ActivationSpec(values[choice], 16), torch.device("cpu"))
    try:
        codec.decode_gradients(data[1:], 4)
    except CompressionError:
        return False
    return True


def text_ids(data: bytes) -> bool:
    """The text token ids of a microbatch."""
    from skerry.compression.activations.text_ids import decode_ids
    from skerry.compression.errors import CompressionError

    try:
        decode_ids(data, 12, 300)
    except CompressionError:
        return False
    return True


def address(data: bytes) -> bool:
    """A multiaddr with a peer id, from a token or from another peer."""
    from skerry.protocol.token import split_bootstrap

    return _refused_or(lambda: split_bootstrap(data.decode("latin-1")))


TARGETS: dict[str, Target] = {
    target.__name__.replace("_", "-"): target
    for target in (
        envelope,
        message,
        dht_record,
        token,
        sealed_token,
        manifest,
        run_file,
        ring_frame,
        ring_plan,
        ring_stream,
        payload,
        activations,
        text_ids,
        address,
    )
}


def _refused_or(read: Callable[[], object]) -> bool:
    """Say whether ``read`` accepts; a refusal has a code, and nothing else may come out."""
    from skerry.protocol.errors import SkerryError

    try:
        read()
    except SkerryError as error:
        assert error.code
        return False
    return True


@cache
def _signer():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from skerry.protocol.signing import Signer

    return Signer(Ed25519PrivateKey.from_private_bytes(bytes([7] * 32)))


@cache
def _codecs():
    from skerry.compression.options import CodecOptions
    from skerry.compression.pseudogradient import PseudoGradientCodec

    shapes = ((70, 66), (33,))
    return [PseudoGradientCodec(shapes, CodecOptions(64, 4096, v)) for v in ("sign", "sym2")]
