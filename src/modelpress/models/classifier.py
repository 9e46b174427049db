"""Any Hugging Face sequence classifier as a :class:`Model`."""

from __future__ import annotations

import inspect
import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from modelpress.errors import ModelPressError
from modelpress.models.attention import SCORES, collecting, training_kernel
from modelpress.models.base import Batch, Model, Output, Tower
from modelpress.models.source import TOKENIZER_FILES
from modelpress.models.tower import FIRST_TOKEN, ClassifierTower

if TYPE_CHECKING:
    from modelpress.pruning.shapes import Shape

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
CAPTURES = frozenset({"hidden_states", "attentions"})
Widening = dict[int, tuple[Tensor, Tensor]]


class TextClassifier(Model):
    """Logits of the first token's classification head; hidden states and attention scores on request.

    ``preprocessor`` is the folder of the tokenizer, which travels with the weights. ``inputs`` are the tensors it takes
    from a batch, in the order of the exported graph.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        labels: list[str],
        preprocessor: Path,
        *,
        inputs: tuple[str, ...] | None = None,
        trust_remote_code: bool = False,
        cls_only_last_layer: bool = True,
    ) -> None:
        super().__init__()
        self.network = network
        self.labels = list(labels)
        self.preprocessor = Path(preprocessor)
        self.inputs = inputs or _inputs(network)
        self.trust_remote_code = trust_remote_code
        self.cls_only_last_layer = cls_only_last_layer
        self._needs: frozenset[str] = frozenset()
        self._attention = network.config._attn_implementation
        self.shape: Shape | None = None  # of a network that units were removed from
        # hidden state -> weight and bias that predict what it was before this stage removed channels; never saved
        self.widening: Widening = {}
        self.train(network.training)

    @property
    def num_layers(self) -> int:
        return int(self.network.config.num_hidden_layers)

    @property
    def width(self) -> int:
        return int(self.network.config.hidden_size)

    @property
    def num_heads(self) -> int:
        """Raises where pruning left the layers with different numbers of heads."""
        if self.shape is None:
            return int(self.network.config.num_attention_heads)
        counts = sorted({layer.heads for layer in self.shape.layers})
        if len(counts) > 1:
            raise ModelPressError(
                f"The layers of this pruned network have from {counts[0]} to {counts[-1]} heads, so attention scores "
                "cannot be compared: set objective.weights.attention=0, or prune with allocation=uniform."
            )
        return counts[0]

    def forward(self, batch: Batch) -> Output:
        """``batch`` needs ``input_ids`` and ``attention_mask`` (B, S); keys it does not know are ignored."""
        given = {name: batch[name] for name in self.inputs if name in batch}
        kernel = training_kernel(batch["input_ids"]) if self.training else nullcontext()
        with collecting() as scores, kernel:
            result = self.network(**given, output_hidden_states="hidden_states" in self._needs)
        hidden = result.hidden_states if "hidden_states" in self._needs else None
        return Output(logits=result.logits, hidden_states=hidden, attentions=tuple(scores) or None)

    def capture(self, needs: frozenset[str]) -> None:
        """See :meth:`Model.capture`. Raises for attention scores of a network that computes attention its own way."""
        unknown = needs - CAPTURES
        if unknown:
            raise ModelPressError(f"Cannot capture {sorted(unknown)}; allowed: {sorted(CAPTURES)}.")
        if ("attentions" in needs) != ("attentions" in self._needs):
            self._choose_attention(SCORES if "attentions" in needs else self._attention)
        self._needs = frozenset(needs)

    def _choose_attention(self, implementation: str) -> None:
        if not self.network._can_set_attn_implementation():
            raise ModelPressError(
                f"A {self.network.config.model_type} network does not hand out its attention scores: set the "
                "objective's "
                "attention weight to 0."
            )
        self.network.set_attn_implementation(implementation)

    def example(self) -> dict[str, Tensor]:
        """Two sentences of 16 tokens, the second padded to it from 11."""
        config = self.network.config
        pad = config.pad_token_id or 0
        ids = torch.arange(32).reshape(2, 16) % (config.vocab_size - pad - 1) + pad + 1
        mask = torch.ones_like(ids)
        mask[1, 11:] = 0
        ids[1, 11:] = pad
        batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
        device = next(self.parameters()).device
        return {name: batch[name].to(device) for name in self.inputs}

    def towers(self) -> list[Tower]:
        """One graph, ``main``: the inputs in order -> ``logits`` (B, C); batch and sequence are dynamic."""
        axes = {name: {0: "batch", 1: "sequence"} for name in self.inputs}
        module = ClassifierTower(self.network, self.inputs, cls_only_last_layer=self.cls_only_last_layer)
        return [Tower("main", module, self.example(), ("logits",), axes)]

    def attention_layers(self) -> list[nn.Module]:
        """See :meth:`Model.attention_layers`; encoders whose graph is written plainly offer it."""
        found = [layer for layer in self.network.modules() if hasattr(layer, "attention_head_size")]
        if self.network.config.model_type not in FIRST_TOKEN or not found:
            raise ModelPressError(
                f"The products inside the attention of a {self.network.config.model_type} network cannot be quantized "
                f"({', '.join(FIRST_TOKEN)} can): set transform.attention=false."
            )
        self._attention = SCORES
        self._choose_attention(SCORES)
        return found

    def sensitive(self) -> tuple[str, ...]:
        """The last projection: a handful of rows that decide everything."""
        head = head_projection(self.network)
        return tuple(name for name, module in self.named_modules() if module is head)

    def save(self, folder: Path) -> None:
        """Write a folder that ``AutoModelForSequenceClassification`` and ``AutoTokenizer`` open too.

        The exception is a pruned network whose shape no config can say (``Shape.plain``): only :meth:`load` opens it.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        from modelpress.models.building import quiet

        with quiet():
            self.network.save_pretrained(folder)
            _copy_tokenizer(self.preprocessor, folder)
        record = {
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "labels": self.labels,
            "inputs": list(self.inputs),
            "trust_remote_code": self.trust_remote_code,
            "cls_only_last_layer": self.cls_only_last_layer,
            **({"shape": self.shape.record()} if self.shape else {}),
        }
        (folder / "modelpress.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> TextClassifier:
        """Open what :meth:`save` wrote, in evaluation mode."""
        from modelpress.models.building import quiet
        from modelpress.pruning.shapes import Shape, open_sized

        record: dict[str, Any] = json.loads((folder / "modelpress.json").read_text(encoding="utf-8"))
        trust = record["trust_remote_code"]
        auto: Any = AutoModelForSequenceClassification
        shape = Shape.of(record["shape"]) if "shape" in record else None
        with quiet():
            if shape is not None and not shape.plain:
                network = open_sized(folder, shape)
            else:
                options = {"dtype": torch.float32, "use_safetensors": True, "trust_remote_code": trust}
                network = auto.from_pretrained(folder, **options)
        model = cls(
            network.eval(),
            record["labels"],
            folder,
            inputs=tuple(record["inputs"]),
            trust_remote_code=trust,
            cls_only_last_layer=record["cls_only_last_layer"],
        )
        model.shape = shape
        return model


def head_projection(network: PreTrainedModel) -> nn.Linear:
    """The Linear layer whose rows are the labels. Raises if the network has none outside its encoder."""
    encoder = {id(module) for module in network.base_model.modules()}
    found = [
        module
        for module in network.modules()
        if isinstance(module, nn.Linear)
        and id(module) not in encoder
        and module.out_features == network.config.num_labels
    ]
    if not found:
        raise ModelPressError(
            f"{type(network).__name__} has no Linear layer that ends in {network.config.num_labels} labels."
        )
    return found[-1]


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer of a local folder. Raises :class:`ModelPressError` if there is none."""
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelPressError(f"{folder} has no tokenizer that transformers can open: {error}") from error


def _inputs(network: PreTrainedModel) -> tuple[str, ...]:
    """What the network reads; token types only where it tells two kinds apart."""
    read = set(inspect.signature(network.forward).parameters)
    if getattr(network.config, "type_vocab_size", 0) < 2:
        read.discard("token_type_ids")
    return tuple(name for name in INPUTS if name in read)


def _copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the tokenizer's files; ``tokenizer.json``, which needs no transformers to be read, is made if absent."""
    if source.resolve() == folder.resolve():
        return
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if not (folder / "tokenizer.json").is_file():
        open_tokenizer(source).save_pretrained(folder)
    if not (folder / "tokenizer.json").is_file():
        raise ModelPressError(
            f"The tokenizer in {source} has no fast version (tokenizer.json), which deployment needs."
        )
