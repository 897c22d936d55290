"""Export in the Hugging Face layout: ``config.json`` and ``model.safetensors`` of a Llama.

The folder is written beside its place and renamed, so it is never half there. Parameters keep
their values: model.py uses the same rotary convention, so nothing is permuted.
"""

import json
import shutil
from pathlib import Path
from secrets import token_hex

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from skerry.pipeline.model import Decoder
from skerry.protocol.errors import StateError
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import ModelSection

PRODUCER = "skerry"
"""Value of the key ``producer`` in config.json, by which a later export knows its own."""

FILES = frozenset({"config.json", "model.safetensors", "README.md"})

_OUTER_NAMES = {
    "embed.tokens": "model.embed_tokens.weight",
    "head.norm": "model.norm.weight",
    "head.output": "lm_head.weight",
}
_BLOCK_NAMES = {
    "attention_norm": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
_README = """\
# A model trained with skerry

A Llama-family decoder in fp32: `config.json` and `model.safetensors`, in the Hugging Face layout.

Its text tokens are bytes: encode text as UTF-8 and use each byte (0 to 255) as one input id;
decode by turning the ids back into bytes. There is no tokenizer to load, and there are no special
text tokens for the beginning, the end or padding.

```python
import torch
from transformers import LlamaForCausalLM

model = LlamaForCausalLM.from_pretrained("path/to/this/folder")
ids = torch.tensor([list("def ".encode())])
out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=100)
print(bytes(i for i in out[0].tolist() if i < 256).decode(errors="replace"))
```
"""


def export_hf(model: Decoder, section: ModelSection, directory: Path) -> None:
    """Write the model to ``directory``, in place of an earlier export if there is one.

    Raises: StateError("SK-DSK-004") if the folder holds anything else,
        StateError("SK-DSK-003") if it cannot be written,
        StateError("SK-DSK-001") if the disk is full. Then what was there before is untouched.
    """
    directory = directory.expanduser().resolve()
    _check_replaceable(directory)
    part = _sibling(directory)
    try:
        part.mkdir(parents=True)
        (part / "config.json").write_text(json.dumps(hf_config(section), indent=2) + "\n")
        (part / "README.md").write_text(_README)
        save_file(hf_tensors(model, section), part / "model.safetensors", {"format": "pt"})
        _move_into_place(part, directory)
    except (OSError, SafetensorError) as error:
        raise _not_written(directory, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def hf_name(shard: str, tensor: str) -> str:
    """Return the Hugging Face name of a tensor of the layout. Raises: KeyError."""
    if shard.startswith("block."):
        return f"model.layers.{shard.removeprefix('block.')}.{_BLOCK_NAMES[tensor]}.weight"
    return _OUTER_NAMES[f"{shard}.{tensor}"]


def hf_tensors(model: Decoder, section: ModelSection) -> dict[str, Tensor]:
    """Return all parameters under their Hugging Face names, f32 on the CPU."""
    return {
        hf_name(spec.name, tensor.name): dense.to("cpu", torch.float32).contiguous()
        for spec in layout_of(section)
        for tensor, dense in zip(spec.tensors, model.dense_tensors(spec), strict=True)
    }


def hf_config(section: ModelSection) -> dict[str, object]:
    """Return the content of config.json."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "producer": PRODUCER,
        "vocab_size": section.vocab_size,
        "hidden_size": section.d_model,
        "intermediate_size": section.ffn_dim,
        "num_hidden_layers": section.layers,
        "num_attention_heads": section.heads,
        "num_key_value_heads": section.kv_heads,
        "head_dim": section.d_model // section.heads,
        "max_position_embeddings": section.context,
        "rms_norm_eps": section.norm_eps,
        # Two spellings: transformers 4 reads the first, transformers 5 the second.
        "rope_theta": section.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": section.rope_theta},
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "initializer_range": 0.02,
        "use_cache": True,
        "torch_dtype": "float32",
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def _check_replaceable(directory: Path) -> None:
    """Refuse a place that holds something other than an earlier export."""
    try:
        names = {path.name for path in directory.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise _not_written(directory, error) from error
    if names and not (names <= FILES and _is_ours(directory / "config.json")):
        raise StateError("SK-DSK-004", f"{directory} is not empty and not an earlier export")


def _is_ours(config: Path) -> bool:
    try:
        content = json.loads(config.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("producer") == PRODUCER


def _move_into_place(part: Path, directory: Path) -> None:
    """Rename ``part`` to ``directory``; what was there goes only when the new one stands."""
    if not directory.exists():
        part.rename(directory)
        return
    old = _sibling(directory)
    directory.rename(old)
    try:
        part.rename(directory)
    except OSError:
        old.rename(directory)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sibling(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.{token_hex(4)}.part")


def _not_written(directory: Path, error: OSError | SafetensorError) -> StateError:
    # safetensors writes from Rust and gives the errno only as text.
    full = "[Errno 28]" in str(error) or "os error 28" in str(error)
    return StateError("SK-DSK-001" if full else "SK-DSK-003", f"cannot write {directory}: {error}")
