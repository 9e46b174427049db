"""Image classifiers of timm: the recipe and the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from modelpress.errors import ModelPressError
from modelpress.export.onnx import export
from modelpress.models.base import load, save
from modelpress.models.image import ImageModel
from modelpress.models.image_classifier import ImageClassifier

LABELS = ["cat", "dog", "owl"]


@pytest.fixture
def recipe(tmp_path: Path) -> ImageModel:
    return ImageModel("tiny", "test_resnet", str(tmp_path / "cache"), image_size=32)


def build(recipe: ImageModel, labels: list[str] = LABELS, seed: int = 0) -> ImageClassifier:
    made = recipe.build(labels=labels, preprocessor=recipe.preprocessor(), teacher=None, seed=seed)
    assert isinstance(made, ImageClassifier)
    return made


def logits(model: ImageClassifier, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found = model({"pixel_values": pixels}).logits
    assert found is not None
    return found


def test_preprocessing_is_timms_unless_the_yaml_says_otherwise(recipe: ImageModel) -> None:
    import timm

    theirs = timm.models.get_pretrained_cfg("test_resnet")
    ours = recipe.settings()
    assert (ours["mean"], ours["crop_pct"], ours["size"]) == (list(theirs.mean), theirs.crop_pct, [32, 32])
    chosen = replace(recipe, preprocess={"mean": [0.1, 0.1, 0.1], "crop_pct": 1.0, "std": None}).settings()
    assert (chosen["mean"], chosen["std"], chosen["crop_pct"]) == ([0.1, 0.1, 0.1], list(theirs.std), 1.0)
    assert recipe.fingerprint() == replace(recipe, name="other").fingerprint()
    assert recipe.fingerprint() != replace(recipe, image_size=64).fingerprint()


def test_the_head_has_the_labels_of_the_dataset_and_the_rest_its_weights(recipe: ImageModel, tmp_path: Path) -> None:
    import timm

    torch.manual_seed(3)
    theirs = timm.create_model("test_resnet", pretrained=False)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    loaded = replace(recipe, path=str(tmp_path / "weights.pth"))
    model = build(loaded)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.network.forward_features(pixels), theirs.eval().forward_features(pixels))
    assert logits(model, pixels).shape == (2, 3)
    assert model.sensitive() == ("network.fc",)
    assert not loaded.is_trained(LABELS)


def test_saved_and_opened_again(recipe: ImageModel, tmp_path: Path) -> None:
    model, pixels = build(recipe, seed=1), torch.randn(2, 3, 32, 32)
    save(model, tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert isinstance(again, ImageClassifier)
    torch.testing.assert_close(logits(again, pixels), logits(model, pixels), atol=0, rtol=0)
    opened = replace(recipe, architecture=None, image_size=None, path=str(tmp_path / "saved"))
    assert opened.is_trained(LABELS)
    torch.testing.assert_close(logits(build(opened), pixels), logits(model, pixels), atol=0, rtol=0)
    assert not opened.is_trained(["a", "b"])
    other = build(opened, ["a", "b"])
    assert torch.equal(other.network.state_dict()["conv1.0.weight"], model.network.state_dict()["conv1.0.weight"]) or (
        other.network.state_dict().keys() == model.network.state_dict().keys()
    )


def test_the_graph_answers_alike_at_any_batch(recipe: ImageModel, tmp_path: Path) -> None:
    import onnxruntime

    model = build(recipe)
    session = onnxruntime.InferenceSession(str(export(model, tmp_path)["main"]), providers=["CPUExecutionProvider"])
    for rows in (1, 3):
        pixels = torch.randn(rows, 3, 32, 32)
        found = session.run(None, {"pixel_values": pixels.numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(found), logits(model, pixels), atol=1e-4, rtol=1e-4)


def test_unknown_names_and_options(recipe: ImageModel) -> None:
    with pytest.raises(ModelPressError, match=r"'resnet_18', which timm does not know. Nearest: .*resnet18"):
        replace(recipe, architecture="resnet_18").preprocessor()
    with pytest.raises(ModelPressError, match="choose one source"):
        replace(recipe, path="x", pretrained=True)
    with pytest.raises(ModelPressError, match="needs model.architecture"):
        replace(recipe, architecture=None)
    with pytest.raises(ModelPressError, match="missing; expected"):
        replace(recipe, path="no_such_file.pth").fingerprint()
    with pytest.raises(ModelPressError, match="does not hand out hidden_states"):
        build(recipe).capture(frozenset({"hidden_states"}))
