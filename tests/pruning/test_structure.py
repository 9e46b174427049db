"""What is left is the old network without some units: compared with weights sliced by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from modelpress.errors import ModelPressError
from modelpress.models import layout
from modelpress.models.cut import channel_importance, narrow
from modelpress.models.probe import observe
from modelpress.pruning.importance import score
from modelpress.pruning.removal import Scores
from modelpress.pruning.select import candidates
from modelpress.pruning.structure import LayerShape, Shape, macs, parameters, shape_of, shrink
from tests.pruning.encoders import FAMILIES, UNEVEN, batches, encoder, outside_embeddings

FULL = Shape(24, (LayerShape(4, 6, 48),) * 4)


def scores_of(model: Any, seed: int = 1) -> Scores:
    numbers = torch.Generator().manual_seed(seed)
    shape = shape_of(model)
    return Scores(
        tuple(torch.rand(layer.heads, generator=numbers) for layer in shape.layers),
        tuple(torch.rand(layer.neurons, generator=numbers) for layer in shape.layers),
        torch.rand(shape.width, generator=numbers),
        torch.rand(shape.width, generator=numbers),
    )


def largest(values: Tensor, count: int) -> list[int]:
    return sorted(sorted(range(len(values)), key=lambda i: -float(values[i]))[:count])


@pytest.mark.parametrize("model_type", FAMILIES)
def test_what_stays_is_what_was_there(model_type: str) -> None:
    model = encoder(model_type)
    before, scores, kept_layers = layout.read(model.network), scores_of(model), [0, 2, 3]
    assert shape_of(model) == FULL
    shrink(model, UNEVEN, scores, kept_layers=kept_layers)
    assert shape_of(model) == model.shape == UNEVEN
    width, pool = largest(scores.width, 20), largest(scores.pool, 20)
    after = layout.read(model.network)
    for new, old in enumerate(kept_layers):
        heads = largest(scores.heads[old], UNEVEN.layers[new].heads)
        inner = [6 * head + i for head in heads for i in range(6)]
        neurons = largest(scores.neurons[old], UNEVEN.layers[new].neurons)
        at, was = f"layers.{new}.", f"layers.{old}."
        slices = {"q": (inner, width), "k": (inner, width), "v": (inner, width), "o": (width, inner)}
        slices |= {"up": (neurons, width), "down": (width, neurons)}
        for name, (rows, columns) in slices.items():
            assert torch.equal(after[f"{at}{name}.weight"], before[f"{was}{name}.weight"][rows][:, columns])
            assert torch.equal(after[f"{at}{name}.bias"], before[f"{was}{name}.bias"][rows])
        for name in ("norm1", "norm2"):
            assert torch.equal(after[f"{at}{name}.weight"], before[f"{was}{name}.weight"][width])
    assert torch.equal(after["pool.weight"], before["pool.weight"][pool][:, width])
    assert torch.equal(after["head.weight"], before["head.weight"][:, pool])
    for name in ("word", "position"):
        assert torch.equal(after[f"{name}.weight"], before[f"{name}.weight"][:, width])


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("shape", [FULL, UNEVEN, Shape(12, (LayerShape(2, 6, 16),) * 2)], ids=str)
def test_parameters_are_counted_exactly(model_type: str, shape: Shape) -> None:
    model = encoder(model_type)
    predicted = parameters(model, shape)
    assert predicted == outside_embeddings(shrink(model, shape))


def test_multiply_adds_are_counted_exactly() -> None:
    model = shrink(encoder(), UNEVEN).eval()
    model.network.set_attn_implementation("eager")
    ids = torch.full((1, 9), 7)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    counts = counter.get_flop_counts()
    key = next(name for name in counts if name.endswith("bert.encoder"))
    assert 2 * macs(UNEVEN, 9) == sum(counts[key].values())


def test_folding_is_that_of_a_student_cut_from_its_teacher() -> None:
    """:func:`cut.narrow`, which knows nothing of graphs, makes the same weights. It takes the channels last."""
    model, given = encoder(), batches()
    weights = layout.read(model.network)
    statistics = observe(model.network, range(4), [{k: v for k, v in b.items() if k != "labels"} for b in given])
    expected = narrow(weights, statistics, layers=4, heads=(4, 2), width=12, neurons=32)
    before = model(given[0]).logits
    shrink(model, Shape(24, (LayerShape(2, 6, 32),) * 4), score(model, given, "activation", fold=True))
    cut = layout.read(model.network)
    pool = statistics["head"].rms * cut["head.weight"].square().sum(0).sqrt()
    same = tuple(torch.ones(2) for _ in range(4)), tuple(torch.ones(32) for _ in range(4))
    scores = Scores(*same, channel_importance(cut, statistics, 4), pool, statistics)
    shrink(model, Shape(12, (LayerShape(2, 6, 32),) * 4), scores)
    found = layout.read(model.network)
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], msg=lambda text, name=name: f"{name}: {text}")
    after = model(given[0]).logits
    assert before is not None
    assert after is not None
    assert 0 < (after - before).square().mean() < before.var()


def test_states_of_before_are_predicted_from_what_is_kept() -> None:
    """Better than by zeros in the place of the channels that went; two prunings in a row are put together."""
    model, given = encoder(), batches()
    model.capture(frozenset({"hidden_states"}))
    before = model(given[0]).hidden_states
    assert before is not None
    for width, heads in ((18, 3), (12, 2)):
        shape = Shape(width, (LayerShape(heads, 6, 48),) * 4)
        shrink(model, shape, score(model, given, "activation", fold=True))
    after = model(given[0]).hidden_states
    assert after is not None
    assert model.widening.keys() == {0, 1, 2, 3, 4}
    for place, (weight, bias) in model.widening.items():
        assert weight.shape == (24, 12)
        error = (after[place] @ weight.T + bias - before[place]).square().mean()
        assert error < 0.9 * before[place].square().mean() / 2


def test_without_scores_the_first_units_stay_and_nothing_else_changes() -> None:
    model = encoder()
    model.network.requires_grad_(False)
    model.network.classifier.requires_grad_(True)
    model.train()
    model.network.bert.pooler.eval()
    word = model.network.bert.embeddings.word_embeddings.weight[:, :20].clone()
    shrink(model, UNEVEN)
    assert torch.equal(model.network.bert.embeddings.word_embeddings.weight, word)
    assert [n for n, p in model.network.named_parameters() if p.requires_grad] == [
        "classifier.weight",
        "classifier.bias",
    ]
    assert model.training
    assert not model.network.bert.pooler.training


def test_all_units_may_stay() -> None:
    model = encoder()
    before = model(model.example()).logits
    shrink(model, FULL, scores_of(model))
    assert torch.equal(before, model(model.example()).logits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "kept", "message"),
    [
        (Shape(24, (LayerShape(0, 6, 48),) * 4), None, "heads of layer 0 cannot become 0; allowed: 1 to 4"),
        (Shape(25, (LayerShape(4, 6, 48),) * 4), None, "width cannot become 25"),
        (Shape(24, (LayerShape(4, 6, 49),) * 4), None, "neurons of layer 0 cannot become 49"),
        (Shape(24, (LayerShape(4, 5, 48),) * 4), None, "Heads stay whole"),
        (Shape(24, ()), None, "Cannot keep the layers"),
        (Shape(24, (LayerShape(4, 6, 48),) * 2), [3, 1], "Cannot keep the layers"),
        (Shape(24, (LayerShape(4, 6, 48),) * 2), [1, 9], "Cannot keep the layers"),
    ],
)
def test_shapes_that_are_no_part(shape: Shape, kept: list[int] | None, message: str) -> None:
    model = encoder()
    with pytest.raises(ModelPressError, match=message):
        shrink(model, shape, kept_layers=kept)
    assert shape_of(model) == FULL


class Detached(nn.Module):
    """What no gradient passes."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy())


class Rolled(nn.Module):
    """Units change places: whoever removes one must not believe that its neighbour is the same."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., :24], torch.tanh(self.inner(x[..., 24:]))], -1)


def test_a_graph_that_cannot_be_followed_is_an_error_with_the_operation() -> None:
    model = encoder()
    model.network.bert.encoder.layer[1].intermediate.intermediate_act_fn = Detached()
    half = candidates(shape_of(model), remove=["neurons"], round_to=1, share=0.8)
    with pytest.raises(ModelPressError, match=r"cannot be traced at .*intermediate_act_fn \(Detached\)"):
        shrink(model, half)


def test_a_layer_in_between_that_keeps_its_size_is_an_error_with_its_name() -> None:
    model = encoder()
    model.network.bert.encoder.layer[2].intermediate.intermediate_act_fn = Rolled(nn.Linear(24, 24))
    with pytest.raises(ModelPressError, match=r"cannot be traced at .*intermediate_act_fn\.inner"):
        shrink(model, Shape(24, (LayerShape(4, 6, 40),) * 4))


def test_other_models_are_refused_by_name() -> None:
    from tests.toy import Toy

    with pytest.raises(ModelPressError, match=r"bert.*distilbert.*this is Toy.*\[channels\]"):
        shape_of(Toy())
