from __future__ import annotations

import pytest
import torch

from scperturb_modules.nn import LinearHead, LowRankHead, MlpHead

M, B, W, G, K = 2, 4, 5, 6, 3


def heads():
    basis = torch.randn(M, G, K)
    return {
        "linear": LinearHead(M, W, G, zero=True),
        "mlp": MlpHead(M, W, G, zero=True),
        "lowrank": LowRankHead(M, W, basis),
        "lowrank trained": LowRankHead(M, W, basis, train_basis=True),
    }


@pytest.mark.parametrize("name", ["linear", "mlp", "lowrank", "lowrank trained"])
def test_heads_start_at_no_response_and_learn(name):
    head = heads()[name]
    state = torch.randn(M, B, W)
    out = head(state)
    assert out.shape == (M, B, G) and torch.all(out == 0)
    (out - 1).square().sum().backward()
    assert any(parameter.grad.abs().sum() > 0 for parameter in head.parameters())


def test_heads_are_the_maps_that_they_say(float64):
    state = torch.randn(M, B, W)
    for head in heads().values():
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.normal_()
        head.eval()
        out = head(state)
        for m in range(M):
            for b in range(B):
                torch.testing.assert_close(out[m, b], slow(head, m, state[m, b]), rtol=0, atol=1e-12)


def slow(head, m, z):
    if isinstance(head, LowRankHead):
        coordinates = z @ head.coordinates.weight[m] + head.coordinates.bias[m]
        return sum(coordinates[k] * head.basis[m, :, k] for k in range(K))
    if isinstance(head, MlpHead):
        z = torch.clamp(z @ head.hidden.weight[m] + head.hidden.bias[m], min=0)
    return z @ head.out.weight[m] + head.out.bias[m]


def test_only_a_trained_basis_is_a_parameter():
    basis = torch.randn(M, G, K)
    fixed, trained = LowRankHead(M, W, basis), LowRankHead(M, W, basis, train_basis=True)
    assert "basis" in dict(fixed.named_buffers()) and "basis" in dict(trained.named_parameters())
    with torch.no_grad():
        trained.basis += 1
    assert torch.equal(fixed.basis, basis)


def test_dropout_of_the_decoder_is_for_training():
    head = MlpHead(M, W, G, dropout=0.5)
    state = torch.randn(M, B, W)
    assert not torch.equal(head(state), head(state))
    head.eval()
    assert torch.equal(head(state), head(state))
