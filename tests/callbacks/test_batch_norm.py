"""Frozen statistics of batch normalisation, in a whole fit with validations in between."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import tests.toy as toy
from modelpress.callbacks.batch_norm import FrozenBatchNorm


class Convolutions(LightningModule):
    """One convolution and its normalisation; remembers with which statistics every training batch was normalised."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2)
        )
        self.frozen: list[bool] = []

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        norm, seen = self.network[1], self.network[0](batch[0])
        by_running = F.batch_norm(seen, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        loss = F.cross_entropy(self.network(batch[0]), batch[1])
        self.frozen.append(bool(torch.allclose(norm(seen), by_running, atol=1e-5)))
        return loss

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.network(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("frozen", [True, False])
def test_statistics_stay_and_all_weights_learn(frozen: bool, tmp_path: Path) -> None:
    module = Convolutions().train()
    before = {name: tensor.clone() for name, tensor in module.network.state_dict().items()}
    data = TensorDataset(torch.randn(8, 3, 8, 8) * 3 + 1, torch.randint(2, (8,)))
    trainer = toy.trainer(tmp_path, *[FrozenBatchNorm()] * frozen, max_epochs=2, val_check_interval=0.5)
    with toy.known_warnings():
        trainer.fit(module, DataLoader(data, batch_size=2), DataLoader(data, batch_size=2))
    moved = {name for name, tensor in module.network.state_dict().items() if not torch.equal(tensor, before[name])}
    statistics = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert moved == set(before) - (statistics if frozen else set())
    assert module.frozen == [frozen] * 8
