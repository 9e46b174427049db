from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from modelpress.errors import ModelPressError
from modelpress.models.base import load, save
from modelpress.models.clip_network import check_widths, open_clip_network, split
from modelpress.models.dual import DualEncoder
from tests import tinyclip


@pytest.mark.parametrize("quick", [False, True])
def test_embeddings_are_those_of_open_clip(tmp_path: Path, quick: bool) -> None:
    """QuickGELU or GELU, causal texts, separate projections: the numbers of open_clip's own network."""
    config = tinyclip.config(quick_gelu=quick)
    torch.manual_seed(3)
    theirs = open_clip_network(config).eval()
    state = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    batch = tinyclip.batch()
    with torch.no_grad():
        image = theirs.encode_image(batch["pixel_values"], normalize=True)
        text = theirs.encode_text(batch["input_ids"], normalize=True)
        logits = theirs.get_logits(batch["pixel_values"], batch["input_ids"])[0]
    again = open_clip_network(config)
    again.load_state_dict(state)
    ours = DualEncoder(split(again), ["a"], tinyclip.preprocessor(tmp_path, config), config=config, weights="random")
    with torch.no_grad():
        output = ours(batch)
    torch.testing.assert_close(output.embeddings["image"], image, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.embeddings["text"], text, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.logits, logits, atol=1e-4, rtol=0)
    kinds = {type(layer) for layer in ours.modules()}
    assert nn.MultiheadAttention not in kinds
    assert ("QuickGELU" in {kind.__name__ for kind in kinds}) == quick


def test_every_matrix_but_positions_is_a_layer(tmp_path: Path) -> None:
    model = tinyclip.dual(tmp_path)
    bare = {
        f"{name}.{part}"
        for name, module in model.named_modules()
        for part, tensor in module.named_parameters(recurse=False)
        if tensor.ndim > 1 and not isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding)
    }
    assert bare == {"image.trunk.positional_embedding", "text.positional_embedding"}


def test_padding_behind_the_end_changes_nothing(tmp_path: Path) -> None:
    model, batch = tinyclip.dual(tmp_path), tinyclip.batch(rows=2, length=8)
    longer = F.pad(batch["input_ids"], (0, 4))
    with torch.no_grad():
        short, padded = (model({"input_ids": ids}).embeddings["text"] for ids in (batch["input_ids"], longer))
    torch.testing.assert_close(short, padded, atol=1e-6, rtol=0)


def test_output_depends_on_what_is_in_the_batch(tmp_path: Path) -> None:
    model, batch = tinyclip.dual(tmp_path), tinyclip.batch()
    with torch.no_grad():
        both, images, texts = (
            model({key: batch[key] for key in keys})
            for keys in (("pixel_values", "input_ids"), ("pixel_values",), ("input_ids",))
        )
    assert both.logits.shape == (4, 4)
    assert images.logits is None
    assert texts.logits is None
    assert set(images.embeddings) == {"image"}
    assert set(texts.embeddings) == {"text"}
    assert float(both.scale) == pytest.approx(1 / 0.07, rel=1e-5)
    norms = torch.cat([both.embeddings["image"], both.embeddings["text"]]).norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones(8), atol=1e-6, rtol=0)
    expected = both.scale * both.embeddings["image"] @ both.embeddings["text"].T
    torch.testing.assert_close(both.logits, expected)


def test_scale_is_bounded(tmp_path: Path) -> None:
    model = tinyclip.dual(tmp_path)
    nn.init.constant_(model.logit_scale, 7.0)
    assert math.exp(7) > 100
    assert float(model(tinyclip.batch()).scale.detach()) == pytest.approx(100, rel=1e-6)


def test_candidates_are_means_of_their_prompts(tmp_path: Path) -> None:
    model, batch = tinyclip.dual(tmp_path).train(), tinyclip.batch(rows=6)
    owners = torch.tensor([1, 0, 2, 1, 0, 1])
    prompts = [{"input_ids": batch["input_ids"][i : i + 4], "labels": owners[i : i + 4]} for i in (0, 4)]
    model.answer(prompts)
    assert model.training
    assert not model.candidates.requires_grad
    model.eval()
    with torch.no_grad():
        texts = model({"input_ids": batch["input_ids"]}).embeddings["text"]
        means = torch.stack([texts[owners == owner].mean(0) for owner in range(3)])
        torch.testing.assert_close(model.candidates, means / means.norm(dim=-1, keepdim=True), atol=1e-6, rtol=0)
        output = model({"pixel_values": batch["pixel_values"]})
    torch.testing.assert_close(output.logits, output.scale * output.embeddings["image"] @ model.candidates.T)
    assert "candidates" not in model.state_dict()


def test_a_candidate_without_a_prompt_is_named(tmp_path: Path) -> None:
    model, batch = tinyclip.dual(tmp_path), tinyclip.batch(rows=2)
    with pytest.raises(ModelPressError, match="Candidate 0 has no prompt"):
        model.answer([{"input_ids": batch["input_ids"], "labels": torch.tensor([1, 2])}])
    with pytest.raises(ModelPressError, match="no prompt was given"):
        model.answer([])


def test_images_of_another_size_are_resized(tmp_path: Path) -> None:
    model = tinyclip.dual(tmp_path)
    large = tinyclip.batch(size=48)["pixel_values"]
    with torch.no_grad():
        found = model({"pixel_values": large}).embeddings["image"]
        small = F.interpolate(large, (32, 32), mode="bicubic", antialias=True)
        torch.testing.assert_close(found, model({"pixel_values": small}).embeddings["image"])


def test_saved_and_loaded_it_answers_alike(tmp_path: Path) -> None:
    config = tinyclip.bert(tmp_path / "bert", init_logit_bias=-10.0)
    model, batch = tinyclip.dual(tmp_path / "tokenizer", config), tinyclip.batch()
    save(model, tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert isinstance(again, DualEncoder)
    with torch.no_grad():
        torch.testing.assert_close(again(batch).logits, model(batch).logits, atol=0, rtol=0)
    assert (again.labels, again.weights, again.size) == (model.labels, "random", (32, 32))
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert {"config.json", "model.safetensors", "modelpress.json", "preprocess.json", "tokenizer.json"} <= names


def test_nothing_but_embeddings_is_handed_out(tmp_path: Path) -> None:
    model = tinyclip.dual(tmp_path)
    model.capture(frozenset())
    with pytest.raises(ModelPressError, match="does not hand out attentions"):
        model.capture(frozenset({"attentions"}))


def test_embeddings_of_different_widths_are_refused() -> None:
    with pytest.raises(ModelPressError, match="width 16 and the text tower in 24"):
        check_widths(torch.zeros(1, 16), torch.zeros(1, 24))
