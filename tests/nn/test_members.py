from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scperturb_modules.nn import MemberLinear, MemberTable, root_mean_square_norm

M = 3


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("between", [(), (4,), (4, 2), (0,)])
def test_members_are_linear_maps_side_by_side(bias, between, float64):
    layer = MemberLinear(M, 5, 2, bias=bias)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    x = torch.randn(M, *between, 5)
    out = layer(x)
    assert out.shape == (M, *between, 2)
    for m in range(M):
        expected = x[m] @ layer.weight[m] + (layer.bias[m] if bias else 0)
        torch.testing.assert_close(out[m], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_blocks_are_the_map_of_what_stands_side_by_side(bias, float64):
    layer = MemberLinear(M, 6, 4, bias=bias)
    if bias:
        torch.nn.init.normal_(layer.bias)
    blocks = [torch.randn(M, 7, width) for width in (1, 3, 2)]
    torch.testing.assert_close(layer.of_blocks(blocks), layer(torch.cat(blocks, dim=-1)), rtol=0, atol=1e-12)


def test_first_weights_are_xavier_and_members_differ():
    layer = MemberLinear(M, 100, 300)
    bound = math.sqrt(6 / 400)
    assert layer.weight.abs().max() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not torch.equal(layer.weight[0], layer.weight[1])
    assert torch.all(layer.bias == 0)
    assert torch.all(MemberLinear(M, 4, 4, zero=True).weight == 0)


def test_a_table_has_entries_of_variance_one_over_width():
    table = MemberTable(M, 500, 64)()
    assert table.shape == (M, 500, 64)
    assert table.var().item() == pytest.approx(1 / 64, rel=0.03)
    assert not torch.equal(table[0], table[1])


def test_the_norm_divides_by_the_root_mean_square():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [-30.0, 40.0]], requires_grad=True)
    out = root_mean_square_norm(x)
    expected = np.array([[3, 4], [0, 0], [-3, 4]]) / math.sqrt(12.5)
    np.testing.assert_allclose(out.detach(), expected, rtol=1e-6)
    out.sum().backward()
    assert torch.isfinite(x.grad).all()
