"""A whole offline world in miniature: a checkpoint, a csv of sentences and the overrides that use them."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelpress.pressing import Pressing

WORDS = {"pos": ("fine", "warm", "bright", "funny"), "neg": ("dull", "cold", "flat", "tired")}
FILLER = ("a", "film", "with", "its", "story", "and", "cast", "this", "plot", "of")
LABELS = ("neg", "pos")


def write_reviews(path: Path, rows: int = 600) -> Path:
    """Sentences whose label hangs on one word; lengths from 4 to 15 words."""
    rng = random.Random(0)
    lines = ["text,label"]
    for number in range(rows):
        label = LABELS[number % 2]
        words = [rng.choice(FILLER) for _ in range(rng.randint(3, 14))]
        words.insert(rng.randrange(len(words)), rng.choice(WORDS[label]))
        lines.append(f"{' '.join(words)},{label}")
    path.write_text("\n".join(lines) + "\n")
    return path


def write_checkpoint(folder: Path, *, layers: int = 3, width: int = 32, heads: int = 4, neurons: int = 64) -> Path:
    """A BERT encoder without a head and its word tokenizer, as ``save_pretrained`` would leave them."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = [*FILLER, *WORDS["neg"], *WORDS["pos"]]
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=neurons,
        max_position_embeddings=160,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def overrides(root: Path, *extra: str) -> list[str]:
    """Distil the 3-layer checkpoint into 2 layers on the csv, with the shortest benchmark that is one."""
    return [
        "technique=distill",
        "model=tinybert",
        "model@teacher=hf",
        f"teacher.path={root / 'checkpoint'}",
        "model.architecture.num_hidden_layers=2",
        "model.architecture.hidden_size=16",
        "model.architecture.num_attention_heads=4",
        "model.architecture.intermediate_size=32",
        "dataset=csv",
        f"dataset.path={root / 'reviews.csv'}",
        "dataset.max_length=32",
        f"store={root / 'store'}",
        "benchmark=quick",
        "benchmark.shapes=[1x16,data]",
        "benchmark.rounds=2",
        "benchmark.requests=16",
        "benchmark.max_foreign_share=1.0",
        "engine=[onnxruntime,openvino]",
        "engine.openvino.precisions=[fp32]",
        "finetune.optimizer.lr=3e-3",
        "finetune.trainer.max_epochs=4",
        "technique.distill.optimizer.lr=3e-3",
        "technique.distill.trainer.max_epochs=2",
        *extra,
    ]


def make(root: Path) -> Path:
    """Write checkpoint and csv under ``root`` and return it."""
    write_checkpoint(root / "checkpoint")
    write_reviews(root / "reviews.csv")
    return root


def fast(root: Path, *extra: str) -> list[str]:
    """One engine, one shape, two epochs in all: for tests of what happens around a run."""
    kept = [line for line in overrides(root) if not line.startswith("engine")]
    return [
        *kept,
        "engine=[onnxruntime]",
        "benchmark.shapes=[data]",
        "benchmark.throughput_s=0.05",
        "benchmark.warm_min_ms=50",
        "finetune.trainer.max_epochs=1",
        "technique.distill.trainer.max_epochs=1",
        "control=false",
        *extra,
    ]


def pressing(root: Path, name: str, *extra: str) -> Pressing:
    """The end of the run ``fast(root, *extra)`` in the folder ``root/name``: trained, not yet pressed."""
    from modelpress.config import compose
    from modelpress.graph import graph
    from modelpress.job import Job
    from modelpress.loggers import Tracking
    from modelpress.pipeline import train_all
    from modelpress.pressing import Pressing

    folder = root / name
    folder.mkdir(exist_ok=True)
    job = Job.of(compose(fast(root, *extra)), folder, f"test {name}")
    network = graph(job)
    with Tracking(job) as tracking:
        return Pressing(job, network, train_all(job, network, tracking))


@cache
def finished() -> Path:
    """A world whose run ``fast(world)`` is in its store and in ``world/first``; made once per process. Change nothing.

    It lies in the folder of the store that ``tests/conftest.py`` names, and goes with it.
    """
    import os

    from modelpress.config import compose
    from modelpress.job import Job
    from modelpress.pipeline import execute

    root = Path(os.environ["MODELPRESS_STORE"]).parent / f"finished-{os.getpid()}"
    (root / "first").mkdir(parents=True)
    make(root)
    assert execute(Job.of(compose(fast(root)), root / "first", "test first")) is not None
    return root
