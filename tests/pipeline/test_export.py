"""The export: its files, that it is whole or not there, and that transformers agrees."""

import json
import os

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from skerry.pipeline import export
from skerry.pipeline.export import FILES, export_hf, hf_config, hf_name
from skerry.protocol.errors import StateError
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import ModelSection, SubspaceSection


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_tensors_read_back_under_hugging_face_names(section, model, tmp_path):
    export_hf(model, section, tmp_path / "out")
    assert names(tmp_path / "out") == FILES
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert len(tensors) == 3 + 9 * section.layers
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    assert torch.equal(tensors["model.embed_tokens.weight"], model.embed.tokens)
    assert torch.equal(tensors["model.norm.weight"], model.head.norm)
    assert torch.equal(tensors["lm_head.weight"], model.head.output)
    layer = "model.layers.1"
    block = model.block[1]
    assert torch.equal(tensors[f"{layer}.input_layernorm.weight"], block.attention_norm)
    assert torch.equal(tensors[f"{layer}.post_attention_layernorm.weight"], block.ffn_norm)
    assert torch.equal(tensors[f"{layer}.self_attn.k_proj.weight"], block.k)
    assert torch.equal(tensors[f"{layer}.mlp.down_proj.weight"], block.down)


def test_safetensors_says_it_holds_torch_tensors(section, model, tmp_path):
    export_hf(model, section, tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_names_are_one_to_one(section):
    pairs = [(shard.name, tensor.name) for shard in layout_of(section) for tensor in shard.tensors]
    assert len({hf_name(*pair) for pair in pairs}) == len(pairs)


def test_config_holds_the_shape(section, model, tmp_path):
    export_hf(model, section, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == hf_config(section)
    assert config["num_key_value_heads"] == 2
    assert config["head_dim"] == 8
    assert config["max_position_embeddings"] == 16
    assert config["tie_word_embeddings"] is False


def test_earlier_export_is_replaced(section, model, tmp_path):
    out = tmp_path / "deep" / "out"
    export_hf(model, section, out)
    with torch.no_grad():
        model.head.norm.fill_(3)
    export_hf(model, section, out)
    assert (load_file(out / "model.safetensors")["model.norm.weight"] == 3).all()
    assert names(out.parent) == {"out"}


def test_empty_folder_is_used(section, model, tmp_path):
    (tmp_path / "out").mkdir()
    export_hf(model, section, tmp_path / "out")
    assert names(tmp_path / "out") == FILES
    assert names(tmp_path) == {"out"}


def test_link_to_a_folder_is_followed(section, model, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    export_hf(model, section, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "real") == FILES


@pytest.mark.parametrize(
    "present",
    [
        {"notes.txt": "mine"},
        {"config.json": '{"model_type": "llama"}'},
        {"config.json": "not JSON"},
        {"config.json": '{"producer": "skerry"}', "tokenizer.json": "{}"},
        {"README.md": "mine"},
    ],
)
def test_foreign_folder_is_refused_and_untouched(section, model, tmp_path, present):
    out = tmp_path / "out"
    out.mkdir()
    for name, text in present.items():
        (out / name).write_text(text)
    with pytest.raises(StateError, match="SK-DSK-004"):
        export_hf(model, section, out)
    assert {path.name: path.read_text() for path in out.iterdir()} == present
    assert names(tmp_path) == {"out"}


def test_file_in_the_place_is_refused(section, model, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(StateError, match="SK-DSK-003"):
        export_hf(model, section, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(28, os.strerror(28)), "SK-DSK-001"),
        (SafetensorError("IoError: No space left on device (os error 28)"), "SK-DSK-001"),
        (PermissionError(13, os.strerror(13)), "SK-DSK-003"),
    ],
)
def test_failed_write_leaves_the_earlier_export(section, model, tmp_path, monkeypatch, error, code):
    out = tmp_path / "out"
    export_hf(model, section, out)
    before = (out / "model.safetensors").read_bytes()

    def failing(tensors, path, metadata):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(export, "save_file", failing)
    with torch.no_grad():
        model.head.norm.fill_(3)
    with pytest.raises(StateError) as refused:
        export_hf(model, section, out)
    assert refused.value.code == code
    assert (out / "model.safetensors").read_bytes() == before
    assert names(tmp_path) == {"out"}


def test_failed_rename_puts_the_earlier_export_back(section, model, tmp_path, monkeypatch):
    out = tmp_path / "out"
    export_hf(model, section, out)
    renamed = []
    rename = type(out).rename

    def failing_once(self, target):
        renamed.append(self)
        if len(renamed) == 2:
            raise OSError(5, os.strerror(5))
        return rename(self, target)

    monkeypatch.setattr(type(out), "rename", failing_once)
    with pytest.raises(StateError, match="SK-DSK-003"):
        export_hf(model, section, out)
    assert len(renamed) == 3
    assert names(out) == FILES
    assert names(tmp_path) == {"out"}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"rope_theta": 500.0, "norm_eps": 1e-3, "vocab_size": 300},
        {"kv_heads": 1, "layers": 3, "context": 40},
        {"subspace": SubspaceSection(dim=8, mode="reparam")},
        {"subspace": SubspaceSection(dim=8, mode="wire")},
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:transformers", "ignore::FutureWarning")
def test_transformers_computes_equal_logits(build_model, tmp_path, change):
    transformers = pytest.importorskip("transformers")
    shape = {"layers": 2, "d_model": 32, "heads": 4, "kv_heads": 2, "ffn_dim": 48, "context": 16}
    section = ModelSection(**(shape | change))
    model = build_model(section)
    export_hf(model, section, tmp_path / "out")
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "out")
    random = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 256, (3, section.context), generator=random)
    with torch.no_grad():
        expected, ours = theirs(tokens).logits, model(tokens)
    assert expected.dtype == torch.float32
    assert ours.abs().max() > 1
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
