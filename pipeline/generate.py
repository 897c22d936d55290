"""Sampled text: the model continues a prompt, byte by byte."""

import math

import torch
from torch import Tensor

from skerry.pipeline.corpus import BYTE_VALUES
from skerry.pipeline.model import Decoder
from skerry.protocol.errors import ComputeError, ConfigError


def generate(
    model: Decoder, prompt: bytes, text_tokens: int, temperature: float, seed: int
) -> bytes:
    """Continue ``prompt`` by ``text_tokens`` bytes; the model sees the last ``context`` of them.

    Args:
        model: on any device.
        prompt: may be empty, which reads as the start of a line.
        text_tokens: how many to add.
        temperature: 0 takes the likeliest byte, 1 samples as the model predicts.
        seed: of the sampling; torch's own random state is neither read nor changed.
    Returns: the prompt and its continuation.
    Raises: ConfigError("SK-CFG-002") if a number is out of range,
        ComputeError("SK-CMP-002") if the model's predictions are not finite.
    """
    _check(text_tokens, temperature)
    random = torch.Generator().manual_seed(seed)
    device = model.embed.tokens.device
    text = bytearray(prompt)
    with torch.no_grad():
        for _ in range(text_tokens):
            seen = bytes(text[-model.context :]) or b"\n"
            logits_V = model(torch.tensor([list(seen)], device=device))[0, -1]
            text.append(_choose(logits_V[:BYTE_VALUES].cpu(), temperature, random))
    return bytes(text)


def _choose(logits_V: Tensor, temperature: float, random: torch.Generator) -> int:
    """Draw one byte from logits [V] f32; ties of the likeliest go to the lowest."""
    if not bool(torch.isfinite(logits_V).all()):
        raise ComputeError("SK-CMP-002", "the model's predictions are not finite")
    if temperature == 0:
        return int(logits_V.argmax())
    # Subtracting the largest first, in double, keeps a tiny temperature from overflowing.
    scaled_V = (logits_V.double() - logits_V.max()) / temperature
    return int(torch.multinomial(scaled_V.softmax(0), 1, generator=random))


def _check(text_tokens: int, temperature: float) -> None:
    if text_tokens < 0:
        raise ConfigError("SK-CFG-002", f"text_tokens: {text_tokens}, at least 0 allowed")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ConfigError("SK-CFG-002", f"temperature: {temperature}, finite and >= 0 allowed")
