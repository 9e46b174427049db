from __future__ import annotations

import torch

from modelpress.models.probe import BATCH, measure, sentences
from tests.models.conftest import tiny


def test_moments_equal_those_of_all_tokens_at_once() -> None:
    network = tiny().train()
    found = measure(network, [1, 3], frame=(2, 3))
    assert network.training
    ids = sentences(network, 0, (2, 3))
    network.eval()
    hidden = network.bert(ids, output_hidden_states=True).hidden_states
    inputs = hidden[3].detach().flatten(0, 1).double()
    torch.testing.assert_close(found["layers.1.input"].mean.double(), inputs.mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        found["layers.1.input"].covariance.double(), torch.cov(inputs.T, correction=0), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        found["layers.0.norm2"].mean.double(), hidden[2].detach().flatten(0, 1).double().mean(0), atol=1e-5, rtol=0
    )
    assert found["layers.0.down"].mean.shape == (48,)
    assert len(ids) > BATCH


def test_sentences_are_framed_unpadded_and_seeded() -> None:
    network = tiny("roberta")
    ids = sentences(network, 5, (0, 2))
    assert ids.shape == (240, 24)
    assert (ids != 1).all()
    assert ids.max() == 94
    assert (ids[:, 0] == 0).all()
    assert (ids[:, -1] == 2).all()
    assert torch.equal(ids, sentences(network, 5, (0, 2)))
    assert not torch.equal(ids, sentences(network, 6, (0, 2)))


def test_no_hook_stays_behind() -> None:
    network = tiny()
    measure(network, [0, 1, 2, 3])
    assert not any(module._forward_hooks for module in network.modules())
