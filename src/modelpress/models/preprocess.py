"""How images and texts become the tensors of a dual encoder: one folder with a tokenizer and ``preprocess.json``.

Torch-free. The folder is named by its content, so that making it again is nothing.

``preprocess.json``: ``size`` [H, W], ``mean``, ``std``, ``interpolation`` and ``resize_mode`` as open_clip names them,
``context_length`` in tokens, and ``pad``: whether every text is filled up to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelpress.errors import ModelPressError, one_of
from modelpress.models import clip_tokenizer, source

FILE = "preprocess.json"
OPENAI = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
DEFAULTS = {**OPENAI, "interpolation": "bicubic", "resize_mode": "shortest"}
INTERPOLATIONS = ("bicubic", "bilinear")
RESIZE_MODES = ("shortest", "longest", "squash")
CONTEXT = 77  # tokens: open_clip's default
HIDDEN_END = ("argmax", "eos", "first")  # with causal attention these never look at what follows the end of a text


def settings(config: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What ``preprocess.json`` holds for a network of open_clip's ``config``; nulls in ``chosen`` are its defaults.

    Raises:
        ModelPressError: a value is not allowed.
    """
    given = {key: value for key, value in chosen.items() if value is not None}
    for key in given:
        one_of("model.preprocess", key, DEFAULTS)
    made = {"size": image_size(config), **DEFAULTS, **given}
    for key, allowed in (("interpolation", INTERPOLATIONS), ("resize_mode", RESIZE_MODES)):
        one_of(f"model.preprocess.{key}", made[key], allowed)
    for key in ("mean", "std"):
        made[key] = [float(value) for value in made[key]]
        if len(made[key]) != 3 or (key == "std" and min(made[key]) <= 0):
            raise ModelPressError(f"model.preprocess.{key} is {made[key]}; allowed: three numbers, one per colour.")
    text = config["text_cfg"]
    return made | {"context_length": int(text.get("context_length", CONTEXT)), "pad": is_padded(text)}


def image_size(config: Mapping[str, Any]) -> list[int]:
    """[H, W] of the images that the image tower takes."""
    size = config["vision_cfg"].get("image_size", 224)
    return [int(size), int(size)] if isinstance(size, int) else [int(side) for side in size]


def is_padded(text: Mapping[str, Any]) -> bool:
    """Whether a text tower has to see the padding: without it the embedding would be another one."""
    if text.get("hf_model_name"):
        return False  # it masks what is padded
    causal = not text.get("no_causal_mask", False)
    return bool(text.get("embed_cls")) or not causal or text.get("pool_type", "argmax") not in HIDDEN_END


def assemble(config: Mapping[str, Any], chosen: Mapping[str, Any], tokenizer: str | None, cache: Path) -> Path:
    """The folder for a network of ``config``, in ``cache``. ``tokenizer`` is a source; ``None``: open_clip's own."""
    record = settings(config, chosen)
    text = config["text_cfg"]
    key = json.dumps([record, text.get("tokenizer_kwargs"), _origin(tokenizer)], sort_keys=True)
    folder = cache / hashlib.sha256(key.encode()).hexdigest()[:16]
    if not (folder / FILE).is_file():
        _write(folder, record, tokenizer, text)
    return folder


def _origin(named: str | None) -> str:
    if named is None:
        return clip_tokenizer.fingerprint()
    if source.is_hub_id(named):
        return named
    return tokenizer_fingerprint(source.tokenizer_folder(named))


def _write(folder: Path, record: Mapping[str, Any], named: str | None, text: Mapping[str, Any]) -> None:
    """Whole or not at all: two processes may come here at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        if named is None:
            clip_tokenizer.write(making, text.get("tokenizer_kwargs") or {})
        else:
            copy_tokenizer(source.tokenizer_folder(named), making)
            clip_tokenizer.clean(making, text.get("tokenizer_kwargs") or {})
        (making / FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        making.chmod(0o755)
        os.replace(making, folder)
    except OSError:
        if not (folder / FILE).is_file():  # else another process was faster
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)


def tokenizer_fingerprint(folder: Path) -> str:
    """sha256 over the names and bytes of a tokenizer's files."""
    lines = [
        f"{name} {source.file_sha256(folder / name)}" for name in source.TOKENIZER_FILES if (folder / name).is_file()
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def write_whole(file: Path, text: str) -> None:
    """Write a file that another process may be writing too: it appears whole."""
    making = file.with_name(f".{file.name}.{os.getpid()}")
    making.write_text(text, encoding="utf-8")
    os.replace(making, file)


def copy_tokenizer(origin: Path, folder: Path) -> None:
    """Copy a tokenizer's files. Raises :class:`ModelPressError` where there is no ``tokenizer.json``."""
    if not (origin / "tokenizer.json").is_file():
        raise ModelPressError(
            f"{origin} has no tokenizer.json, which deployment needs. Write one with transformers: "
            "AutoTokenizer.from_pretrained(<name>).save_pretrained(<folder>), and set model.tokenizer=<folder>."
        )
    for name in source.TOKENIZER_FILES:
        if (origin / name).is_file():
            shutil.copyfile(origin / name, folder / name)


def copy_preprocessor(origin: Path, folder: Path) -> None:
    """Copy tokenizer and ``preprocess.json`` to another folder."""
    if origin.resolve() != folder.resolve():
        copy_tokenizer(origin, folder)
        shutil.copyfile(origin / FILE, folder / FILE)
