"""The one LightningModule. It knows no technique by name: a transform reshapes, an objective trains."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import MeanMetric

from modelpress.compiling import Call, compiled
from modelpress.evaluation import ask
from modelpress.models.base import Model
from modelpress.objectives.base import Objective
from modelpress.optimizer import OptimizerConfig, follow, make
from modelpress.pruning.masks import hold
from modelpress.transforms.base import Transform

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRScheduler
    from torch.optim import Optimizer

    from modelpress.teacher import Teacher

EVALUATION: frozenset[str] = frozenset()
log = logging.getLogger(__name__)


class Technique(LightningModule):
    """One stage in training: ``model`` reshaped by ``transform``, minimising ``objective``.

    Step k draws its randomness (dropout) from ``(seed, k)`` alone, so a resumed run repeats an uninterrupted one.
    The teacher is no submodule: it never lands in a checkpoint and never leaves evaluation mode.
    ``metric`` names the share of right answers: accuracy of a classifier, recall of a dual encoder, which chooses among
    the texts of a split and is asked with ``prompts(split)`` of the data module first.
    ``compile_forward``: training steps call the network and its teacher compiled (:mod:`modelpress.compiling`).
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        transform: Transform,
        optimizer: OptimizerConfig,
        *,
        stage: str,
        seed: int,
        rank: int = 0,
        steps: int = 1,
        teacher: Teacher | None = None,
        metric: str = "accuracy",
        compile_forward: bool = False,
    ) -> None:
        super().__init__()
        self.model: Model = model
        self.objective = objective
        self.transform = transform
        self.optimizer_config = optimizer
        self.stage, self.seed, self.rank, self.teacher = stage, seed, rank, teacher
        # counted by the caller: `Trainer.estimated_stepping_batches` opens the loader before its position is restored
        self.steps = steps
        self.reshaped_at = 0.0  # progress at the last `Transform.step`
        self.pressing: Any = None  # what the callbacks of the last test press; set by the pipeline
        self.metric, self.hits = metric, MeanMetric()
        self.compile_forward = compile_forward
        self.call: Call = model.__call__  # of a training step

    @property
    def progress(self) -> float:
        """Share of the stage's optimizer steps that are done, from 0 to 1."""
        return min(1.0, self.global_step / max(1, self.steps))

    @property
    def is_final(self) -> bool:
        """Whether the network has the structure that the stage ends with."""
        return self.reshaped_at >= self.transform.final_from

    def on_fit_start(self) -> None:
        if self.teacher is not None:
            self.teacher.to(self.device)
        if self.compile_forward:
            log.info("Compiling %s: the first batches wait for it, for up to a few minutes.", self.stage)
            self._compile()

    def _compile(self) -> None:
        """Anew after the network has changed its shape, so that old kernels do not count against new ones."""
        self.call = compiled(self.model)
        if self.teacher is not None and self.teacher.call is self.teacher.model:
            self.teacher.call = compiled(self.teacher.model)

    def on_train_batch_start(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        torch.manual_seed(step_seed(self.seed, self.trainer.fit_loop.total_batch_idx, self.rank))
        self.reshaped_at, before = self.progress, self.transform.metrics()
        self.transform.step(self.model, self.reshaped_at)
        if self.trainer.world_size > 1 and self.transform.metrics() != before:
            agree(self.transform, self.model)
        optimizer: Any = self.optimizers()
        if self._replaced({id(p) for group in optimizer.param_groups for p in group["params"]}):
            self._bind()
            if self.compile_forward:
                self._compile()
            follow(optimizer.optimizer, (self.model, self.objective))

    def _replaced(self, known: set[int]) -> bool:
        """Whether the transform has put other parameters in the place of ``known`` ones (by id)."""
        return not {id(p) for p in self.model.parameters() if p.requires_grad} <= known

    def _bind(self) -> None:
        """The objective fits itself to the network as it is now."""
        self.objective.bind(self.model, self.teacher.model if self.teacher is not None else None)
        self.objective.to(self.device)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """Total loss: weighted sum of the objective's named parts, each logged."""
        progress = self.progress
        needs = self.objective.needs(progress)
        taught = self.teacher(batch, needs) if self.teacher is not None else None
        self.model.capture(needs)
        losses = self.objective(self.call(batch), batch, taught, progress)
        if self.trainer.world_size > 1:
            losses = self._shares(losses, batch)
        weights = self.objective.weights(progress)
        total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
        self._log_losses({**losses, "loss": total}, len(batch["labels"]))
        return total

    def _shares(self, losses: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This process's part of the global batch's losses, such that the mean over processes is the whole.

        DDP averages gradients, but a mean over few items or tokens must not count as much as one over many.
        """
        own = torch.stack([self.objective.terms(name, batch) for name in losses]).double()
        every = own.clone()
        torch.distributed.all_reduce(every)
        factors = (self.trainer.world_size * own / every).float()
        return {name: factor * loss for factor, (name, loss) in zip(factors, losses.items(), strict=True)}

    def _log_losses(self, losses: Mapping[str, Tensor], size: int) -> None:
        if (self.global_step + 1) % self.trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        options: dict[str, Any] = {"batch_size": size, "sync_dist": True}
        self.log_dict({f"{self.stage}/train/{name}": loss.detach() for name, loss in losses.items()}, **options)
        self.log_dict({f"{self.stage}/transform/{name}": value for name, value in self.transform.metrics().items()})
        self.log("loss", losses["loss"].detach(), prog_bar=True, logger=False, **options)
        self.log(f"{self.stage}/lr", self.optimizers().param_groups[0]["lr"], batch_size=size)  # type: ignore[union-attr]

    def on_validation_start(self) -> None:
        self._ask("validation")

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        self._evaluate(batch, "validation")

    def on_test_start(self) -> None:
        self._ask("test")

    def test_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        self._evaluate(batch, "test")

    def _ask(self, split: str) -> None:
        trainer: Any = self.trainer
        self.model.capture(EVALUATION)
        ask(self.model, trainer.datamodule, split)

    def _evaluate(self, batch: Mapping[str, Tensor], split: str) -> None:
        logits = self.model(batch).logits
        assert logits is not None
        loss = nn.functional.cross_entropy(logits.float(), batch["labels"])
        self.hits((logits.argmax(1) == batch["labels"]).float())
        size = len(batch["labels"])
        self.log(f"{self.stage}/{split}/loss", loss, batch_size=size, sync_dist=True)
        self.log(f"{self.stage}/{split}/{self.metric}", self.hits, batch_size=size)
        self.log(self.metric, self.hits, prog_bar=True, logger=False, batch_size=size)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        # the fused step unscales fp16 gradients by itself, after they would have been clipped
        fused = str(self.trainer.precision) != "16-mixed"
        optimizer, schedule = make(self.optimizer_config, (self.model, self.objective), self.steps, fused=fused)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.transform.gradients(self.model)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Then put pruned weights back to zero: momentum and gradients revive them, in any stage that trains."""
        super().optimizer_step(*args, **kwargs)
        hold(self.model)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by norm here: Lightning refuses to clip for any fused optimizer, though only fp16 scales gradients."""
        if gradient_clip_val:
            nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Only what training needs: plain tensors and numbers, readable with ``weights_only=True``."""
        checkpoint.pop("hyper_parameters", None)
        if "optimizer_states" in checkpoint:  # to resume from, not only weights
            checkpoint["transform"] = dict(self.transform.state())
        if self.teacher is not None:
            self.teacher.commit()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Before the weights are loaded the network gets the structure that they are of."""
        before = {id(p) for p in self.model.parameters()}
        self.transform.restore(self.model, checkpoint.get("transform", {}))
        if self._replaced(before):
            self._bind()


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """64 bits from all numbers, mixed: PyTorch's generator on the CPU reads only the lower 32 bits of its seed."""
    numbers = (seed, step, rank) if rank else (seed, step)
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


@torch.no_grad()
def agree(transform: Transform, model: Model) -> None:
    """What rank 0 has chosen to prune, all ranks prune: scores on a GPU may differ in their last bits."""
    state = [dict(transform.state())]
    torch.distributed.broadcast_object_list(state, src=0)
    if torch.distributed.get_rank():
        transform.restore(model, state[0])
    for tensor in (*model.parameters(), *model.buffers()):
        torch.distributed.broadcast(tensor, src=0)
