"""From the run file's [codec] to the codecs: every setting arrives, and the limits are theirs."""

import pytest
import torch

from skerry.pipeline.codecs import payload_limits
from skerry.pipeline.payloads import shard_codecs
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import CodecSection


def with_codec(manifest, **settings):
    section = CodecSection.model_validate({**manifest.codec.model_dump(), **settings})
    return manifest.model_copy(update={"codec": section})


def payloads_of(manifest) -> list[bytes]:
    random = torch.Generator().manual_seed(0)
    return [
        codec.encode(torch.randn(codec.numel, generator=random)) for codec in shard_codecs(manifest)
    ]


def test_one_codec_a_shard_in_the_order_of_the_layout(manifest):
    layout = layout_of(manifest.model)
    assert [codec.numel for codec in shard_codecs(manifest)] == [spec.numel for spec in layout]
    assert [name for name, _ in payload_limits(manifest)] == [spec.name for spec in layout]


@pytest.mark.parametrize("settings", [{"values": "sym2"}, {"values": "fp16"}, {"k": 128}])
def test_settings_that_send_more_make_payloads_and_limits_larger(manifest, settings):
    larger = with_codec(manifest, **settings)
    for little, much in zip(payloads_of(manifest), payloads_of(larger), strict=True):
        assert len(little) < len(much)
    for (_, low), (_, high) in zip(payload_limits(manifest), payload_limits(larger), strict=True):
        assert low < high


@pytest.mark.parametrize("settings", [{"values": "sym2"}, {"k": 65}, {"chunk": 16384}])
def test_payload_of_other_settings_is_refused(manifest, settings):
    other = shard_codecs(with_codec(manifest, **settings))
    for codec, payload in zip(other, payloads_of(manifest), strict=True):
        with pytest.raises(ValueError, match=r"wrong-layout|bad-codec|too-long"):
            codec.check(payload)


def test_no_payload_is_longer_than_its_limit(manifest):
    for values in ("sign", "sym2", "fp16"):
        chosen = with_codec(manifest, values=values, chunk=1024)
        for payload, (_, limit) in zip(payloads_of(chosen), payload_limits(chosen), strict=True):
            assert len(payload) <= limit
