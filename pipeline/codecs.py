"""The pseudo-gradient codec of each shard: the one place where [codec] becomes CodecOptions."""

from skerry.compression.options import CodecOptions
from skerry.compression.pseudogradient import PseudoGradientCodec
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import Manifest


def shard_codecs(manifest: Manifest) -> tuple[PseudoGradientCodec, ...]:
    """Return the codecs of all shards in layout order. Raises: ValueError on a shard too large."""
    section = manifest.codec
    options = CodecOptions(k=section.k, chunk=section.chunk, values=section.values)
    return tuple(
        PseudoGradientCodec(tuple(tensor.shape for tensor in spec.tensors), options)
        for spec in layout_of(manifest.model)
    )


def payload_limits(manifest: Manifest) -> tuple[tuple[str, int], ...]:
    """Return the largest possible payload of each shard, from shapes and codec options alone."""
    codecs = zip(layout_of(manifest.model), shard_codecs(manifest), strict=True)
    return tuple((spec.name, codec.max_payload_bytes) for spec, codec in codecs)
