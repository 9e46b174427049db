"""The recipe of a dual encoder, and the networks it makes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from modelpress.errors import ModelPressError
from modelpress.models.base import parameter_count, save
from modelpress.models.clip import ClipModel
from modelpress.models.clip_building import load_trunk
from modelpress.models.clip_network import open_clip_network
from modelpress.models.dual import DualEncoder
from tests import tinyclip


@pytest.fixture
def recipe(tmp_path: Path) -> ClipModel:
    tokenizer = tinyclip.write_tokenizer(tmp_path / "words")
    return ClipModel("tiny", tinyclip.CONFIG, str(tmp_path / "cache"), tokenizer=str(tokenizer))


def build(recipe: ClipModel, seed: int = 0) -> DualEncoder:
    made = recipe.build(labels=["a", "b"], preprocessor=recipe.preprocessor(), teacher=None, seed=seed)
    assert isinstance(made, DualEncoder)
    return made


def equal(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_building_follows_the_seed_and_leaves_pytorchs_alone(recipe: ClipModel) -> None:
    before = torch.random.get_rng_state()
    one, same, other = build(recipe), build(recipe), build(recipe, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert equal(one, same)
    assert not equal(one, other)
    assert (one.labels, one.weights, one.size) == (["a", "b"], "random", (32, 32))
    assert recipe.parameters() == parameter_count(one)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_checkpoint_of_open_clip_is_loaded(recipe: ClipModel, tmp_path: Path, suffix: str) -> None:
    """In the layout that open_clip itself writes, the text tower's weights not in a module of their own."""
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    torch.manual_seed(5)
    theirs = CLIP(**{**tinyclip.config(), "quick_gelu": True}).eval()
    file = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(theirs.state_dict(), file)
    loaded = replace(recipe, path=str(file), architecture={**tinyclip.CONFIG, "quick_gelu": True})
    model, batch = build(loaded), tinyclip.batch()
    with torch.no_grad():
        torch.testing.assert_close(
            model(batch).embeddings["text"], theirs.encode_text(batch["input_ids"], normalize=True), atol=1e-5, rtol=0
        )
    assert (loaded.init, loaded.is_trained(["x"]), recipe.is_trained(["x"])) == ("checkpoint", True, False)
    assert loaded.fingerprint() != recipe.fingerprint()
    assert model.weights == str(file)


def test_a_folder_of_open_clip_brings_its_architecture_and_preprocessing(recipe: ClipModel, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = tmp_path / "folder"
    folder.mkdir()
    config = {"model_cfg": tinyclip.CONFIG, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "resize_mode": "squash"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(open_clip_network(tinyclip.CONFIG).state_dict(), folder / "open_clip_model.safetensors")
    loaded = replace(recipe, architecture=None, path=str(folder))
    assert build(loaded).preprocess["mean"] == [0.5, 0.5, 0.5]
    assert build(loaded).preprocess["resize_mode"] == "squash"


def test_what_modelpress_saved_is_opened_again(recipe: ClipModel, tmp_path: Path) -> None:
    first = build(recipe, seed=7)
    save(first, tmp_path / "saved")
    again = replace(recipe, architecture=None, tokenizer=None, path=str(tmp_path / "saved"))
    assert again.preprocessor() == tmp_path / "saved"
    assert equal(build(again), first)
    assert len(again.fingerprint()) == 64


def test_a_tag_is_downloaded_and_brings_its_activation(
    recipe: ClipModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's answer is a local file here; everything else is the path of a real tag."""
    from safetensors.torch import save_file

    from modelpress.models import open_clip_names

    file = tmp_path / "hub.safetensors"
    save_file(open_clip_network(tinyclip.config(quick_gelu=True)).state_dict(), file)
    facts = {"file": str(file), "quick_gelu": True, "mean": (0.1, 0.2, 0.3), "interpolation": "bilinear"}
    monkeypatch.setattr(open_clip_names, "tags", lambda: {"ViT-B-32": {"mine": facts}})
    monkeypatch.setattr(open_clip_names, "architecture", lambda name: tinyclip.config())
    model = build(replace(recipe, architecture="ViT-B-32", pretrained="mine"))
    assert "QuickGELU" in {type(layer).__name__ for layer in model.modules()}
    assert (model.preprocess["mean"], model.preprocess["interpolation"]) == ([0.1, 0.2, 0.3], "bilinear")
    assert model.weights == "ViT-B-32 mine"
    facts["file"] = ""
    facts["hf_hub"] = "nobody/nothing/"
    monkeypatch.setattr(
        "open_clip.pretrained.download_pretrained", lambda cfg: (_ for _ in ()).throw(OSError("offline"))
    )
    with pytest.raises(ModelPressError, match=r"nobody/nothing.*offline.*model.path=<file>"):
        build(replace(recipe, architecture="ViT-B-32", pretrained="mine"))


def test_weights_that_do_not_fit_are_refused(recipe: ClipModel, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"visual.proj": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelPressError, match="cannot be loaded into this architecture"):
        build(replace(recipe, path=str(tmp_path / "other.safetensors")))
    torch.save({"state_dict": nn.Linear(1, 1)}, tmp_path / "code.pt")
    with pytest.raises(ModelPressError, match="saved again as safetensors"):
        build(replace(recipe, path=str(tmp_path / "code.pt")))
    with pytest.raises(ModelPressError, match="is no checkpoint"):
        build(replace(recipe, path=str(tmp_path / "nothing")))


def test_towers_of_other_widths_and_unknown_parts_are_refused(recipe: ClipModel) -> None:
    with pytest.raises(ModelPressError, match="width 16 and the text tower in 32"):
        build(replace(recipe, architecture=tinyclip.config(text={"proj_type": "none"})))
    with pytest.raises(ModelPressError, match=r"open_clip refuses.*widht"):
        build(replace(recipe, architecture=tinyclip.config({"widht": 3})))
    with pytest.raises(ModelPressError, match="open_clip refuses.*no_such_network"):
        build(replace(recipe, architecture=tinyclip.config({"timm_model_name": "no_such_network"})))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": None}, "needs model.architecture"),
        ({"architecture": {"embed_dim": 3}}, "lacks vision_cfg, text_cfg"),
        ({"path": "x", "pretrained": "y"}, "choose one source"),
        ({"pretrained": "y"}, "is a tag of an architecture"),
        ({"trained": "yes"}, "allowed: auto, true, false"),
        (
            {"training": {"distill": {"rate": 1}}},
            "A key of model.training.distill is 'rate'; allowed: 'lr', 'max_epochs'",
        ),
    ],
)
def test_options_that_contradict_each_other(recipe: ClipModel, options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        replace(recipe, **options)


def test_a_student_takes_vocabulary_and_colours_from_its_teacher(recipe: ClipModel) -> None:
    teacher = replace(recipe, preprocess={"mean": [0.3, 0.3, 0.3], "std": None})
    text = {"vocab_size": None, "eos_id": None, "pad_id": None, "pool_type": "eos"}
    student = replace(recipe, tokenizer=None, architecture=tinyclip.config({"image_size": 16}, text))
    resolved = student.resolve(teacher)
    model = build(resolved)
    assert model.preprocess["mean"] == [0.3, 0.3, 0.3]
    assert model.size == (16, 16)
    assert (model.text.vocab_size, model.text.eos_id, model.text.pad_id) == (99, 98, 0)
    assert student.resolve(None) == student
    assert (resolved.preprocessor() / "tokenizer.json").read_text() == (
        teacher.preprocessor() / "tokenizer.json"
    ).read_text()


def test_a_pretrained_text_tower_keeps_its_weights(recipe: ClipModel, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    config = tinyclip.bert(tmp_path / "bert")
    config["text_cfg"]["hf_model_pretrained"] = True
    model = build(replace(recipe, architecture=config))
    kept = load_file(tmp_path / "bert/model.safetensors")["embeddings.word_embeddings.weight"]
    assert torch.equal(model.text.transformer.embeddings.word_embeddings.weight, kept)
    assert model.weights == str(tmp_path / "bert")


def test_weights_of_an_image_tower_under_other_names(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(1)
    theirs = timm.create_model("test_resnet", pretrained=False)
    file = tmp_path / "trunk.pth"
    torch.save({f"other.{name}": tensor for name, tensor in theirs.state_dict().items()}, file)
    trunk = timm.create_model("test_resnet", pretrained=False, num_classes=0)
    load_trunk(trunk, file)
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in trunk.state_dict().items())
    with pytest.raises(ModelPressError, match="lacks"):
        load_trunk(timm.create_model("test_vit", pretrained=False, num_classes=0), file)


def test_a_recipe_needs_no_torch(recipe: ClipModel) -> None:
    code = (
        "import sys, json; from modelpress.models.clip import ClipModel; r = ClipModel(**json.loads(sys.argv[1]));"
        "r.fingerprint(), r.parameters(), r.preprocessor(); print('torch' in sys.modules)"
    )
    given = {"name": "v", "architecture": "ViT-B-32", "cache": recipe.cache}
    done = subprocess.run([sys.executable, "-c", code, json.dumps(given)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
