"""The manifest's [codec] as CodecOptions, and what follows for the size of payloads.

Loads no kernels and no torch: the node process takes the limits from here.
"""

from skerry.compression.layout import PayloadLayout
from skerry.compression.options import CodecOptions
from skerry.protocol.layout import ShardSpec, layout_of
from skerry.protocol.manifest import Manifest


def codec_options(manifest: Manifest) -> CodecOptions:
    """Return what the run's peers agree on about the codec."""
    section = manifest.codec
    return CodecOptions(k=section.k, chunk=section.chunk, values=section.values)


def shapes_of(spec: ShardSpec) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of a shard's tensors in layout order."""
    return tuple(tensor.shape for tensor in spec.tensors)


def payload_limits(manifest: Manifest) -> tuple[tuple[str, int], ...]:
    """Return the largest possible payload of each shard, from shapes and codec options alone.

    Raises: ValueError on a shard too large.
    """
    options = codec_options(manifest)
    return tuple(
        (spec.name, PayloadLayout(shapes_of(spec), options).max_payload_bytes)
        for spec in layout_of(manifest.model)
    )
