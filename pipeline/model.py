"""The Llama-family decoder in plain torch.

Its parameter names are the layout's: shard name, dot, tensor name (protocol/layout.py), so that
shards.py moves parameters without a table. Initial values come from shards.py, never from torch's
random numbers. Rotary embeddings follow the Hugging Face convention (first half of a head turns
with the second half), so that export.py needs no permutation of q and k.

Shape suffixes: B sequences, T text tokens, D model width, N query heads, K key-value heads,
H width of one head, R half of it, F feed-forward width, V vocabulary; S = T + 1; W what a part
writes to the residual stream (stream.py): D, or the dimensions of the subspace.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skerry.pipeline.stream import Stream
from skerry.protocol.layout import ShardSpec
from skerry.protocol.manifest import ModelSection


class ShardedModel(nn.Module):
    """A model whose parameters have the layout's names, so that they can be had by shard."""

    def shard_tensors(self, spec: ShardSpec) -> list[nn.Parameter]:
        """Return the parameters of one shard in layout order. Raises: AttributeError if none."""
        return [self.get_parameter(f"{spec.name}.{tensor.name}") for tensor in spec.tensors]


class Decoder(ShardedModel):
    """Embedding, blocks, head; every parameter is zero until its shard is loaded."""

    def __init__(self, section: ModelSection, seed: int | None = None) -> None:
        """Allocate the parameters of ``section`` in fp32, without touching any random state.

        Raises: ValueError without the run's seed if there is a subspace, which follows from it.
        """
        super().__init__()
        self.context = section.context
        self.embed = Embedding(section)
        self.block = nn.ModuleList(Block(section) for _ in range(section.layers))
        self.head = Head(section)
        self.stream = Stream(section, seed)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Predict each next text token.

        Args:
            tokens_BT: [B, T] int64, T at most ``context``.
        Returns: [B, T, V] f32, logits.
        """
        x_BTD = self.embed(tokens_BT, self.stream)
        for block in self.block:
            x_BTD = block(x_BTD, self.stream)
        logits_BTV: Tensor = self.head(x_BTD)
        return logits_BTV.float()

    def dense_tensors(self, spec: ShardSpec) -> list[Tensor]:
        """Return one shard as a model without a subspace would hold it, in layout order."""
        return [
            self._dense(tensor.name, parameter.detach())
            for tensor, parameter in zip(spec.tensors, self.shard_tensors(spec), strict=True)
        ]

    def _dense(self, name: str, parameter: Tensor) -> Tensor:
        match name:
            case "tokens":
                return self.stream.dense_embedding(parameter)
            case "o" | "down":
                return self.stream.dense_writer(parameter)
        return parameter


class Embedding(nn.Module):
    """Shard ``embed``."""

    def __init__(self, section: ModelSection) -> None:
        """Allocate one row per text token."""
        super().__init__()
        self.tokens = _parameter(section.vocab_size, section.written_dim)

    def forward(self, tokens_BT: Tensor, stream: Stream) -> Tensor:
        """Look up [B, T] int64; returns [B, T, D]."""
        return stream.embedded(tokens_BT, F.embedding(tokens_BT, self.tokens))


class Head(nn.Module):
    """Shard ``head``: last norm and output matrix, which is not tied to the embedding."""

    def __init__(self, section: ModelSection) -> None:
        """Allocate the norm and one row per text token."""
        super().__init__()
        self.eps = section.norm_eps
        self.norm = _parameter(section.d_model)
        self.output = _parameter(section.vocab_size, section.d_model)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Turn [B, T, D] into logits [B, T, V]."""
        return F.linear(rms_norm(x_BTD, self.norm, self.eps), self.output)


class Block(nn.Module):
    """Shard ``block.i``: grouped-query attention, then SwiGLU, each on a normed residual."""

    def __init__(self, section: ModelSection) -> None:
        """Allocate one block."""
        super().__init__()
        d, f, w = section.d_model, section.ffn_dim, section.written_dim
        self.eps = section.norm_eps
        self.head_dim = d // section.heads
        self.group = section.heads // section.kv_heads
        kv = self.head_dim * section.kv_heads
        self.attention_norm = _parameter(d)
        self.q, self.k, self.v = _parameter(d, d), _parameter(kv, d), _parameter(kv, d)
        self.o = _parameter(w, d)
        self.ffn_norm = _parameter(d)
        self.gate, self.up = _parameter(f, d), _parameter(f, d)
        self.down = _parameter(w, f)

    def forward(self, x_BTD: Tensor, stream: Stream) -> Tensor:
        """Add attention and feed-forward to the residual [B, T, D]."""
        normed_BTD = rms_norm(x_BTD, self.attention_norm, self.eps)
        x_BTD = x_BTD + stream.written(self.attention(normed_BTD, stream))
        normed_BTD = rms_norm(x_BTD, self.ffn_norm, self.eps)
        return x_BTD + stream.written(self.feed_forward(normed_BTD))

    def attention(self, x_BTD: Tensor, stream: Stream) -> Tensor:
        """Attend to oneself and what came before; [B, T, D] to [B, T, W]."""
        cos_TH, sin_TH = stream.rotary(x_BTD.shape[1])
        q_BNTH = rotate(self._heads(F.linear(x_BTD, self.q)), cos_TH, sin_TH)
        k_BKTH = rotate(self._heads(F.linear(x_BTD, self.k)), cos_TH, sin_TH)
        v_BKTH = self._heads(F.linear(x_BTD, self.v))
        # Query head n reads key-value head n // group, as in the Hugging Face model. The
        # enable_gqa switch of torch would do, but not before torch 2.5.
        k_BNTH = k_BKTH.repeat_interleave(self.group, dim=1)
        v_BNTH = v_BKTH.repeat_interleave(self.group, dim=1)
        out_BNTH = F.scaled_dot_product_attention(q_BNTH, k_BNTH, v_BNTH, is_causal=True)
        return F.linear(out_BNTH.transpose(1, 2).flatten(2), self.o)

    def feed_forward(self, x_BTD: Tensor) -> Tensor:
        """Apply SwiGLU; [B, T, D] to [B, T, W]."""
        hidden_BTF = F.silu(F.linear(x_BTD, self.gate)) * F.linear(x_BTD, self.up)
        return F.linear(hidden_BTF, self.down)

    def _heads(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.view(*x_BTD.shape[:2], -1, self.head_dim).transpose(1, 2)


def window_loss(model: Decoder, windows_BS: Tensor) -> Tensor:
    """Mean cross-entropy of predicting every text token of a window but its first.

    Args:
        windows_BS: [B, T + 1] int64.
    Returns: [] f32, nats per text token.
    """
    logits_BTV = model(windows_BS[:, :-1])
    return F.cross_entropy(logits_BTV.flatten(0, 1), windows_BS[:, 1:].flatten())


def rms_norm(x_BTD: Tensor, gain_D: Tensor, eps: float) -> Tensor:
    """Scale each row to a root mean square of one, then by the gain."""
    return F.rms_norm(x_BTD, gain_D.shape, gain_D, eps)


def rotate(x_BNTH: Tensor, cos_TH: Tensor, sin_TH: Tensor) -> Tensor:
    """Turn the pair (r, r + H/2) of each head by its position's r-th angle."""
    first_BNTR, second_BNTR = x_BNTH.chunk(2, dim=-1)
    turned_BNTH = torch.cat((-second_BNTR, first_BNTR), dim=-1)
    return (x_BNTH * cos_TH + turned_BNTH * sin_TH).type_as(x_BNTH)


def _parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))
