"""Batch normalisation that keeps the statistics it was pretrained with."""

from __future__ import annotations

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.nn.modules.batchnorm import _BatchNorm


class FrozenBatchNorm(Callback):
    """Normalise with the running mean and variance in training too, and leave them as they are.

    Scale and shift are trained. Meant for pretrained networks of convolutions on few images, or on images whose
    statistics are far from those of the pretraining.
    """

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Into evaluation mode, each epoch anew."""
        for module in pl_module.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
