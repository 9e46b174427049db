from __future__ import annotations

import pytest
import torch
from torch import nn

from modelpress.models.separate import MASKED, SeparateAttention, separate


def pair(**options) -> tuple[nn.MultiheadAttention, SeparateAttention]:
    torch.manual_seed(0)
    packed = nn.MultiheadAttention(32, 4, batch_first=True, **options).eval()
    for parameter in packed.parameters():
        nn.init.normal_(parameter, std=0.2)
    return packed, SeparateAttention.of(packed)


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 24, "vdim": 40}])
def test_equals_multihead_attention(options) -> None:
    packed, apart = pair(**options)
    query = torch.randn(2, 5, 32)
    keys, values = (torch.randn(2, 7, options.get(name, 32)) for name in ("kdim", "vdim"))
    wanted = packed(query, keys, values, need_weights=False)[0]
    torch.testing.assert_close(apart(query, keys, values, need_weights=False)[0], wanted, atol=1e-5, rtol=0)


def test_takes_causal_masks_and_those_of_every_head() -> None:
    packed, apart = pair()
    x = torch.randn(2, 6, 32)
    causal = torch.full((6, 6), float("-inf")).triu(1)
    wanted = packed(x, x, x, need_weights=False, attn_mask=causal)[0]
    longer = torch.full((9, 9), MASKED).triu(1)
    torch.testing.assert_close(apart(x, x, x, attn_mask=longer)[0], wanted, atol=1e-5, rtol=0)
    each = torch.randn(8, 6, 6)
    wanted = packed(x, x, x, need_weights=False, attn_mask=each)[0]
    torch.testing.assert_close(apart(x, x, x, attn_mask=each)[0], wanted, atol=1e-5, rtol=0)


def test_the_pooling_of_a_resnet_is_taken_apart_too() -> None:
    from open_clip.modified_resnet import ModifiedResNet

    torch.manual_seed(0)
    network = ModifiedResNet([1, 1, 1, 1], output_dim=16, heads=4, image_size=64, width=8).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        wanted = network(images)
        names = [name for name, layer in separate(network).named_modules() if isinstance(layer, SeparateAttention)]
        torch.testing.assert_close(network(images), wanted, atol=1e-5, rtol=1e-5)
    assert names == ["attnpool.attn"]
