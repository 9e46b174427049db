"""The BERT-base shape at 1x128: our INT8 file against NNCF's of the same network, ONNX Runtime FP32 and OpenVINO bf16.

    make peers && make bench PART=quantization_shapes

Weights are random (latency does not depend on them), so there is no accuracy here; fine-tuning it would take hours.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from bench.contest import Contest, hold, markdown
from bench.peers.launch import rivals
from bench.peers.record import Inputs
from bench.pressed import FOLDER, arms
from bench.quantization import SHAPE, floats, quantized, settings_of
from modelpress.config import build, compose
from modelpress.data.base import Dataset
from modelpress.models.recipe import Recipe

RIVALS = ("nncf", "nncf_performance")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
# what is compared, with which row, how many times faster at least
WANTED = (("onnxruntime/fp32", 5.0), ("openvino/bf16", 1.25), ("nncf", 1 / 1.05))


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser("bench.quantization_shapes", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", default="publish", help="a name in conf/benchmark")
    parser.add_argument(
        "--samples", type=int, default=32, help="calibration sentences; latency does not depend on them"
    )
    parser.add_argument("--layers", type=int, default=12, help="fewer for a quick look")
    args = parser.parse_args(list(arguments))
    contest = compare(bert(args.layers), args.preset, args.samples)
    print(markdown(contest, SHAPE))
    for base, wanted in WANTED:
        ratio = contest.ratio(base, "ptq/openvino", SHAPE)
        if ratio is not None:
            speed = f"{ratio.value:.2f}x [{ratio.ci_low:.2f}, {ratio.ci_high:.2f}]"
            print(f"ours in OpenVINO against {contest.contenders[base].title}: {speed} (wanted >= {wanted:.2f})")


def bert(layers: int) -> Path:
    """A saved classifier of BERT-base's widths with random weights, MiniLM's tokenizer and the dataset's labels."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    cfg = compose(["technique=finetune", "model=minilm"])
    dataset: Dataset = build(cfg.dataset)
    recipe: Recipe = build(cfg.model)
    source, folder = recipe.preprocessor(), FOLDER / f"bert_{layers}"
    assert source is not None
    torch.manual_seed(0)
    names = dict(enumerate(dataset.labels))
    config = BertConfig(num_hidden_layers=layers, id2label=names, label2id={name: i for i, name in names.items()})
    BertForSequenceClassification(config).save_pretrained(folder)
    for name in TOKENIZER:
        if (source / name).is_file():
            shutil.copy2(source / name, folder / name)
    return folder.absolute()


def compare(checkpoint: Path, preset: str, samples: int) -> Contest:
    """One session of the float network, our PTQ file and NNCF's."""
    folder = FOLDER / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{checkpoint.name}"
    model = ["model=hf", f"model.name={checkpoint.name}", f"model.path={checkpoint}", "model.trained=true"]
    made = arms("technique=ptq", *model, f"technique.ptq.transform.samples={samples}", f"benchmark={preset}")
    parent = made.parent
    calibration = made.calibration(folder / "requests", samples)
    given = Inputs(parent.onnx["main"], calibration, parent.entry.folder / "model", samples)
    contenders = floats(parent) | quantized("ptq", made.candidate)
    contenders |= rivals(given, settings_of(contenders), FOLDER / "peers", RIVALS)
    workloads = made.workloads(folder / "requests", SHAPE)
    anchors = {"anchor": "onnxruntime/fp32", "lossless": "openvino/bf16"}
    return hold(contenders, workloads, None, made.settings, made.job.hardware, folder, **anchors)


if __name__ == "__main__":
    main(sys.argv[1:])
