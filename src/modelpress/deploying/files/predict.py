#!/usr/bin/env python3
"""Classify texts with the engine in this folder. Needs numpy, tokenizers and one runtime (see requirements.txt).

    python predict.py "a charming film"
    python predict.py "a charming film" "a dull one" --json
    python predict.py --file sentences.txt --batch 8      # one text per line; a tab separates the texts of a pair
    cat sentences.txt | python predict.py --engine onnxruntime

From Python: ``Predictor().predict(["a charming film", ("first text", "second text")])``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from runtimes import DeployError, choose, open_engine, threads_of

Text = str | tuple[str, str]  # a single text, or a pair
HERE = Path(__file__).resolve().parent


class Preprocessor:
    """Texts to model inputs: token ids cut at ``max_length`` and padded to the longest text of the batch."""

    def __init__(self, tokenizer: Path, inputs: Sequence[str], max_length: int, pad_id: int) -> None:
        from tokenizers import Tokenizer

        self.inputs = tuple(inputs)
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.tokenizer.enable_truncation(max_length, strategy="longest_first")
        self.tokenizer.enable_padding(pad_id=pad_id, pad_token=self.tokenizer.id_to_token(pad_id))

    def __call__(self, texts: Sequence[Text]) -> dict[str, Any]:
        """Model inputs by name, int64, each (n texts, longest text in tokens)."""
        encodings = self.tokenizer.encode_batch(list(texts))
        made = {
            "input_ids": [encoding.ids for encoding in encodings],
            "attention_mask": [encoding.attention_mask for encoding in encodings],
            "token_type_ids": [encoding.type_ids for encoding in encodings],
        }
        return {name: np.asarray(made[name], dtype=np.int64) for name in self.inputs}


class Predictor:
    """The deployed model: ``predict`` texts. ``engine`` is ``None`` for the best one, else a runtime or engine name."""

    def __init__(self, folder: Path | str = HERE, engine: str | None = None, threads: int | None = None) -> None:
        self.folder = Path(folder)
        self.settings: dict[str, Any] = json.loads((self.folder / "deploy.json").read_text(encoding="utf-8"))
        self.labels: list[str] = json.loads((self.folder / "labels.json").read_text(encoding="utf-8"))
        self.engine = choose(self.settings["engines"], engine)
        self.threads = threads or threads_of(self.engine)
        chosen = self.settings["preprocessing"]
        self.preprocess = Preprocessor(self.folder / "tokenizer.json", **chosen)
        self._run: Any = None

    def run(self, inputs: dict[str, Any]) -> Any:
        """Logits (n, labels) of prepared inputs. Opens the engine on first use."""
        if self._run is None:
            self._run = open_engine(self.folder, self.engine, self.engine["files"]["main"], self.threads)
        return self._run(inputs)

    def postprocess(self, logits: Any) -> list[dict[str, Any]]:
        """Label and probabilities of every row of logits (softmax in float64)."""
        powers = np.exp(np.asarray(logits, np.float64) - np.max(logits, axis=-1, keepdims=True))
        rows = powers / powers.sum(axis=-1, keepdims=True)
        return [
            {
                "label": self.labels[int(row.argmax())],
                "probability": float(row.max()),
                "probabilities": dict(zip(self.labels, map(float, row), strict=True)),
            }
            for row in rows
        ]

    def predict(self, texts: Iterable[Text], batch: int = 1) -> list[dict[str, Any]]:
        """One ``{"text", "label", "probability", "probabilities"}`` per text, in order."""
        return list(self.stream(texts, batch))

    def stream(self, texts: Iterable[Text], batch: int = 1) -> Iterator[dict[str, Any]]:
        """Like :meth:`predict`, each batch as soon as it is read."""
        source = iter(texts)
        while part := list(islice(source, batch)):
            for text, answer in zip(part, self.postprocess(self.run(self.preprocess(part))), strict=True):
                yield {"text": text, **answer}


def lines(source: TextIO) -> Iterator[Text]:
    """One text per line, blank lines left out; a tab separates the two texts of a pair."""
    for line in source:
        if line.strip():
            first, tab, second = line.rstrip("\r\n").partition("\t")
            yield (first, second) if tab else first


def arguments(command: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", help="texts to classify; without any, lines are read")
    parser.add_argument("--pair", metavar="TEXT", help="the second text, for a model of text pairs")
    parser.add_argument("--file", type=Path, help="read lines from this file (default: standard input)")
    parser.add_argument("--batch", type=int, default=1, help="texts per inference (default 1)")
    parser.add_argument("--engine", help="a runtime or an engine of deploy.json (default: the best)")
    parser.add_argument("--threads", type=int, help="default: as measured, at most the cores of this machine")
    parser.add_argument("--json", action="store_true", help="one JSON object per line, with all probabilities")
    given = parser.parse_args(command)
    if given.texts and given.file:
        parser.error("give texts or --file, not both")
    if given.pair is not None and len(given.texts) != 1:
        parser.error("--pair needs exactly one text before it")
    if given.batch < 1:
        parser.error(f"--batch is {given.batch}; it must be 1 or more")
    return given


def answers(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Predictions for whatever the command line names."""
    predictor = Predictor(engine=given.engine, threads=given.threads)
    if given.texts:
        pair = given.pair is not None
        yield from predictor.stream([(given.texts[0], given.pair)] if pair else given.texts, given.batch)
    elif given.file:
        with given.file.open(encoding="utf-8") as file:
            yield from predictor.stream(lines(file), given.batch)
    else:
        yield from predictor.stream(lines(sys.stdin), given.batch)


def main(command: Sequence[str] | None = None) -> int:
    """Print one line per text; errors go to standard error and return 1."""
    given = arguments(command)
    try:
        for answer in answers(given):
            text = answer["text"] if isinstance(answer["text"], str) else "\t".join(answer["text"])
            plain = f"{answer['label']}\t{answer['probability']:.4f}\t{text}"
            print(json.dumps(answer, ensure_ascii=False) if given.json else plain, flush=True)
    except (DeployError, OSError, UnicodeDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
