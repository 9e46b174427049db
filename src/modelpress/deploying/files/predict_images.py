#!/usr/bin/env python3
"""Say what is in images with the engine in this folder. Needs numpy, Pillow and one runtime (see requirements.txt).

    python predict.py photo.jpg
    python predict.py *.jpg --top 3 --json
    python predict.py photo.jpg --labels "a dog,a cat"    # a dual encoder (CLIP): any texts; needs tokenizers
    python predict.py photo.jpg --engine onnxruntime

From Python: ``Predictor().predict(["photo.jpg"])``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pictures import Wanted, pixel_values
from runtimes import DeployError, choose, open_engine, threads_of

HERE = Path(__file__).resolve().parent
STORED = "labels.npz"  # embeddings of the labels, beside the engine that made them


class Predictor:
    """The deployed model: ``predict`` images. ``engine`` is ``None`` for the best one, else a runtime or engine name.

    ``labels`` (only of a dual encoder): texts to choose from, instead of those in ``labels.json``.
    """

    def __init__(
        self,
        folder: Path | str = HERE,
        engine: str | None = None,
        threads: int | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.settings: dict[str, Any] = json.loads((self.folder / "deploy.json").read_text(encoding="utf-8"))
        self.engine = choose(self.settings["engines"], engine)
        self.threads = threads or threads_of(self.engine)
        self.preprocessing: dict[str, Any] = self.settings["preprocessing"]
        self.wanted = Wanted.of(self.preprocessing)
        if labels and "text" not in self.engine["files"]:
            raise DeployError("this model knows only its own labels (labels.json); --labels is for dual encoders")
        self.given = list(labels) if labels else None
        own: list[str] = json.loads((self.folder / "labels.json").read_text(encoding="utf-8"))
        self.labels = self.given or own
        self._runs: dict[str, Any] = {}
        self._texts: Any = None

    def run(self, pixels: Any) -> Any:
        """Logits (n, labels) of images (n, 3, H, W)."""
        if "text" not in self.engine["files"]:
            return self._run("main", {"pixel_values": pixels})
        images = self._run("image", {"pixel_values": pixels})
        return float(self.preprocessing["scale"]) * images @ self.texts().T

    def texts(self) -> Any:
        """Embeddings of the labels (labels, E): read from the disk, or made once by the text engine."""
        if self._texts is None:
            stored = self.folder / Path(self.engine["files"]["text"]).parent / STORED
            if self.given is None and stored.is_file():
                self._texts = np.load(stored, allow_pickle=False)[self.engine["name"]]
            else:
                self._texts = self.embed(self.labels)
        return self._texts

    def embed(self, names: Sequence[str]) -> Any:
        """(n, E) of length 1: of each name the mean direction over all templates (none if the labels are given)."""
        templates = ["{}"] if self.given is not None else self.preprocessing["templates"]
        found = [self._mean([template.replace("{}", name) for template in templates]) for name in names]
        return np.concatenate(found)

    def _mean(self, texts: Sequence[str]) -> Any:
        total = self._run("text", self._tokens(texts)).sum(axis=0, keepdims=True)
        return total / np.linalg.norm(total)

    def _tokens(self, texts: Sequence[str]) -> dict[str, Any]:
        from tokenizers import Tokenizer

        chosen = self.preprocessing
        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.enable_truncation(chosen["context_length"])
        length = chosen["context_length"] if chosen["pad"] else None
        tokenizer.enable_padding(
            pad_id=chosen["pad_id"], pad_token=tokenizer.id_to_token(chosen["pad_id"]), length=length
        )
        encodings = tokenizer.encode_batch(list(texts))
        made = {"input_ids": [e.ids for e in encodings], "attention_mask": [e.attention_mask for e in encodings]}
        return {name: np.asarray(made[name], dtype=np.int64) for name in chosen["inputs"]}

    def _run(self, tower: str, inputs: dict[str, Any]) -> Any:
        if tower not in self._runs:
            self._runs[tower] = open_engine(self.folder, self.engine, self.engine["files"][tower], self.threads)
        return self._runs[tower](inputs)

    def postprocess(self, logits: Any, top: int | None = None) -> list[dict[str, Any]]:
        """Label and probabilities of every row of logits (softmax in float64), the likeliest first."""
        powers = np.exp(np.asarray(logits, np.float64) - np.max(logits, axis=-1, keepdims=True))
        rows = powers / powers.sum(axis=-1, keepdims=True)
        return [self._answer(row, top) for row in rows]

    def _answer(self, row: Any, top: int | None) -> dict[str, Any]:
        order = np.argsort(-row, kind="stable")[:top]
        probabilities = {self.labels[int(i)]: float(row[i]) for i in order}
        best = int(order[0])
        return {"label": self.labels[best], "probability": float(row[best]), "probabilities": probabilities}

    def preprocess(self, images: Sequence[Path | str]) -> Any:
        """Image files (or images opened by Pillow) to ``pixel_values`` (n, 3, H, W), float32."""
        return np.stack([self._pixels(image) for image in images])

    def _pixels(self, image: Any) -> Any:
        try:
            return pixel_values(image, self.wanted)
        except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises on damaged files
            raise DeployError(f"{image} cannot be read as an image: {error}") from None

    def predict(self, images: Iterable[Path | str], batch: int = 1, top: int | None = None) -> list[dict[str, Any]]:
        """One ``{"image", "label", "probability", "probabilities"}`` per image, in order."""
        return list(self.stream(images, batch, top))

    def stream(self, images: Iterable[Path | str], batch: int = 1, top: int | None = None) -> Iterator[dict[str, Any]]:
        """Like :meth:`predict`, each batch as soon as it is read."""
        source = iter(images)
        while part := list(islice(source, batch)):
            answers = self.postprocess(self.run(self.preprocess(part)), top)
            for image, answer in zip(part, answers, strict=True):
                yield {"image": str(image), **answer}

    def remember(self) -> None:
        """Keep the embeddings of the labels on the disk, for :meth:`texts`."""
        if "text" in self.engine["files"]:
            target = self.folder / Path(self.engine["files"]["text"]).parent / STORED
            known = dict(np.load(target, allow_pickle=False)) if target.is_file() else {}
            np.savez(target, **{**known, self.engine["name"]: self.embed(self.labels)})


def arguments(command: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, help="image files")
    parser.add_argument("--labels", help="texts to choose from, separated by commas (dual encoders only)")
    parser.add_argument("--top", type=int, help="only this many labels of each image with --json")
    parser.add_argument("--batch", type=int, default=1, help="images per inference (default 1)")
    parser.add_argument("--engine", help="a runtime or an engine of deploy.json (default: the best)")
    parser.add_argument("--threads", type=int, help="default: as measured, at most the cores of this machine")
    parser.add_argument("--json", action="store_true", help="one JSON object per line, with probabilities")
    given = parser.parse_args(command)
    for option in ("batch", "top"):
        if (value := getattr(given, option)) is not None and value < 1:
            parser.error(f"--{option} is {value}; it must be 1 or more")
    return given


def split(labels: str | None) -> list[str] | None:
    """``a dog, a cat`` as a list."""
    return [name.strip() for name in labels.split(",") if name.strip()] if labels else None


def main(command: Sequence[str] | None = None) -> int:
    """Print one line per image; errors go to standard error and return 1."""
    given = arguments(command)
    try:
        predictor = Predictor(engine=given.engine, threads=given.threads, labels=split(given.labels))
        for answer in predictor.stream(given.images, given.batch, given.top):
            plain = f"{answer['label']}\t{answer['probability']:.4f}\t{answer['image']}"
            print(json.dumps(answer, ensure_ascii=False) if given.json else plain, flush=True)
    except (DeployError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
