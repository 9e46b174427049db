from __future__ import annotations

import pytest

from modelpress.errors import ModelPressError
from modelpress.models import open_clip_names


def test_names_and_tags_are_those_of_open_clip() -> None:
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained

    assert set(open_clip_names.architectures()) == set(open_clip.list_models())
    assert open_clip_names.architecture("ViT-B/32") == open_clip.get_model_config("ViT-B-32")
    assert {(name, tag) for name, tags in open_clip_names.tags().items() for tag in tags} == set(list_pretrained())
    assert open_clip_names.tag("ViT-B/16-SigLIP", "WebLI") == get_pretrained_cfg("ViT-B-16-SigLIP", "webli")


def test_unknown_names_show_the_nearest() -> None:
    with pytest.raises(ModelPressError, match=r"'vit-b32', which open_clip does not know. Nearest: ViT-B-32, .*in all"):
        open_clip_names.architecture("vit-b32")
    with pytest.raises(ModelPressError, match=r"no tag of ViT-B-32. Nearest: laion2b_e16, .*model.path"):
        open_clip_names.tag("ViT-B-32", "laion2b-e15")
    with pytest.raises(ModelPressError, match="There is none for it"):
        open_clip_names.tag("ViT-B-32-plus-256", "x")
