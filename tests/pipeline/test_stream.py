"""The subspace inside the model: what parts write to the stream, and what it stands for."""

import pytest
import torch

from skerry.compression.activations.subspace import fixed_rows, orthonormal_basis
from skerry.pipeline.model import Decoder, window_loss
from skerry.pipeline.shards import initial_shard, load_shard
from skerry.pipeline.stream import FIXED_STD, Stream
from skerry.protocol.layout import layout_of
from skerry.protocol.manifest import ModelSection, SubspaceSection

SEED = 11


def with_subspace(section: ModelSection, mode: str, dim: int = 8) -> ModelSection:
    subspace = SubspaceSection(dim=dim, mode=mode)
    return section.model_copy(update={"subspace": subspace})


def built(section: ModelSection) -> Decoder:
    model = Decoder(section, SEED)
    for spec in layout_of(section):
        load_shard(model, spec, 8 * initial_shard(SEED, spec, section.layers))
    return model


def states(model: Decoder, tokens_BT: torch.Tensor) -> list[torch.Tensor]:
    """The residual stream behind the embedding and behind each block, [B, T, D]."""
    found = [model.embed(tokens_BT, model.stream)]
    for block in model.block:
        found.append(block(found[-1], model.stream))
    return found


@pytest.fixture
def tokens(section) -> torch.Tensor:
    random = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (2, section.context), generator=random)


def fixed_part(section: ModelSection, tokens_BT: torch.Tensor) -> torch.Tensor:
    rows = fixed_rows(SEED, tokens_BT.flatten(), section.d_model) * FIXED_STD
    return rows.view(*tokens_BT.shape, -1)


def outside(rows: torch.Tensor, basis: torch.Tensor) -> float:
    """Largest entry of what rows [.., D] have outside of the span of basis [D, R]."""
    return float((rows - rows @ basis @ basis.T).detach().abs().max())


def test_reparametrised_parts_write_within_the_subspace(section, tokens):
    model = built(with_subspace(section, "reparam"))
    fixed = fixed_part(section, tokens)
    basis = orthonormal_basis(SEED, section.d_model, 8)
    for x in states(model, tokens):
        assert float((x - fixed).detach().abs().max()) > 0.1, "there is something to lose"
        assert outside(x - fixed, basis) < 1e-5


def test_any_change_of_the_parameters_keeps_it_so(section, tokens):
    model = built(with_subspace(section, "reparam"))
    random = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=random).sign()
    fixed = fixed_part(section, tokens)
    basis = orthonormal_basis(SEED, section.d_model, 8)
    assert all(outside(x - fixed, basis) < 1e-4 for x in states(model, tokens))


def test_free_parts_do_not(section, tokens):
    model = built(with_subspace(section, "wire"))
    fixed = fixed_part(section, tokens)
    basis = orthonormal_basis(SEED, section.d_model, 8)
    assert all(outside(x - fixed, basis) > 0.05 for x in states(model, tokens))


@pytest.mark.parametrize("mode", ["wire", "reparam"])
def test_dense_tensors_make_a_plain_model_of_the_same_predictions(section, tokens, mode):
    constrained = with_subspace(section, mode)
    model, plain = built(constrained), Decoder(section)
    pairs = zip(layout_of(constrained), layout_of(section), strict=True)
    for spec, plain_spec in pairs:
        dense = [tensor.flatten() for tensor in model.dense_tensors(spec)]
        load_shard(plain, plain_spec, torch.cat(dense))
    torch.testing.assert_close(plain(tokens), model(tokens), rtol=1e-4, atol=1e-4)


def test_dense_tensors_without_a_subspace_are_the_parameters(section, model):
    for spec in layout_of(section):
        pairs = zip(model.dense_tensors(spec), model.shard_tensors(spec), strict=True)
        assert all(torch.equal(dense, parameter) for dense, parameter in pairs)


def test_shards_shrink_with_the_subspace(section):
    shapes = {
        f"{spec.name}.{tensor.name}": tensor.shape
        for spec in layout_of(with_subspace(section, "reparam"))
        for tensor in spec.tensors
    }
    assert shapes["embed.tokens"] == (256, 8)
    assert shapes["block.1.o"] == (8, 32)
    assert shapes["block.1.down"] == (8, 48)
    assert shapes["block.1.q"] == (32, 32)
    assert layout_of(with_subspace(section, "wire")) == layout_of(section)


def test_every_parameter_learns(section, tokens):
    model = built(with_subspace(section, "reparam"))
    window_loss(model, tokens).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_tables_are_no_part_of_the_state(section):
    constrained = with_subspace(section, "reparam")
    names = {f"{spec.name}.{t.name}" for spec in layout_of(constrained) for t in spec.tensors}
    assert set(built(constrained).state_dict()) == names


def test_a_subspace_needs_the_runs_seed(section):
    with pytest.raises(ValueError, match="seed"):
        Stream(with_subspace(section, "wire"), None)
    assert Stream(section, None).basis_DR is None
