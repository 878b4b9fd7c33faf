from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from scperturb_modules.models.app._attention import GeneAttention, total_variation

M, B, N, D = 2, 5, 11, 4
SCORES = ["additive", "bilinear", "additive+bilinear"]


def attention_of(score="additive", *, heads=1, uses_context=True, outside=(), size=0.7, width=D):
    mask = torch.zeros(N, dtype=torch.bool)
    mask[list(outside)] = True
    module = GeneAttention(M, width, heads=heads, score=score, uses_context=uses_context, outside=mask)
    if size:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.normal_(std=size)
    return module


def attend(module, context, h):
    return module(context, h, module.keys(h))


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("uses_context", [True, False])
def test_weights_are_shares_and_0_outside_the_pool(score, heads, uses_context):
    module = attention_of(score, heads=heads, uses_context=uses_context, outside=(0, 7))
    states, alpha = attend(module, torch.randn(M, B, D), torch.randn(M, N, D))
    assert states.shape == (M, B, heads * D) and alpha.shape == (M, B, N)
    assert torch.all(alpha >= 0) and torch.all(alpha[..., [0, 7]] == 0)
    torch.testing.assert_close(alpha.sum(dim=-1), torch.ones(M, B), rtol=0, atol=1e-6)


@pytest.mark.parametrize("score", SCORES)
def test_scores_of_ten_thousand_do_not_overflow(score):
    module = attention_of(score, outside=(3,))
    with torch.no_grad():
        if module.is_additive:
            module.v *= 1e4
        if module.is_bilinear:
            module.bilinear.weight *= 1e4
    context, h = torch.randn(M, B, D), torch.randn(M, N, D, requires_grad=True)
    assert module.scores(context, h, module.keys(h)).abs().max() > 1e4
    states, alpha = attend(module, context, h)
    states.sum().backward()
    assert torch.isfinite(alpha).all() and torch.isfinite(h.grad).all()
    torch.testing.assert_close(alpha.sum(dim=-1), torch.ones(M, B), rtol=0, atol=1e-6)
    assert torch.all(alpha[..., 3] == 0)


def test_the_softmax_is_made_in_float32_under_half_precision():
    module = attention_of("bilinear").bfloat16()
    states, alpha = attend(module, torch.randn(M, B, D).bfloat16(), torch.randn(M, N, D).bfloat16())
    assert alpha.dtype == torch.float32 and states.dtype == torch.bfloat16
    torch.testing.assert_close(alpha.sum(dim=-1), torch.ones(M, B), rtol=0, atol=1e-6)


@pytest.mark.parametrize("score", SCORES)
def test_a_gene_outside_the_pool_does_not_reach_the_state(score):
    module = attention_of(score, outside=(2,))
    context, h = torch.randn(M, B, D), torch.randn(M, N, D)
    other = h.clone()
    other[:, 2] = 50.0
    for one, two in zip(attend(module, context, h), attend(module, context, other), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("score", SCORES)
def test_static_weights_do_not_see_the_context(score):
    module = attention_of(score, uses_context=False)
    h = torch.randn(M, N, D)
    _, alpha = attend(module, torch.randn(M, B, D), h)
    assert torch.all(alpha == alpha[:, :1])
    assert not torch.allclose(alpha, torch.full_like(alpha, 1 / N))
    assert not any("context" in name or "bilinear" in name for name, _ in module.named_parameters())


def slow_total_variation(alpha):
    pairs = list(itertools.combinations(range(len(alpha)), 2))
    return sum(sum(abs(a - b) for a, b in zip(alpha[i], alpha[j], strict=True)) / 2 for i, j in pairs) / len(pairs)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_total_variation_is_the_mean_over_pairs(n):
    rng = np.random.default_rng(n)
    alpha = rng.dirichlet(np.full(N, 0.3), size=n)
    alpha[-1] = alpha[0]  # ties
    assert total_variation(torch.tensor(alpha)) == pytest.approx(slow_total_variation(alpha), rel=1e-12, abs=1e-15)


def test_total_variation_of_opposite_and_of_single_perturbations():
    assert total_variation(torch.eye(3)) == 1.0
    assert total_variation(torch.ones(1, N) / N) == 0.0
    assert total_variation(torch.empty(0, N)) == 0.0
    assert total_variation(torch.full((4, N), 1 / N)) == 0.0


def mean_variation(module, context, h):
    with torch.no_grad():
        return np.mean([total_variation(alpha) for alpha in attend(module, context, h)[1]])


def small_values():
    """Contexts and embeddings of norm 1, as first weights make them."""
    width, n = 32, N
    context = torch.nn.functional.normalize(torch.randn(M, B, width), dim=-1)
    return width, context, torch.nn.functional.normalize(torch.randn(M, n, width), dim=-1)


@pytest.mark.parametrize("score", ["additive", "additive+bilinear", "bilinear"])
def test_attention_hardly_depends_on_a_small_context_until_it_is_spread(score):
    width, context, h = small_values()
    module = attention_of(score, size=0, width=width)
    with torch.no_grad():
        for name in ("of_context", "bilinear"):
            if hasattr(module, name):
                getattr(module, name).weight *= 1e-3
    assert mean_variation(module, context, h) < 1e-3
    module.spread(context, h)
    assert mean_variation(module, context, h) > 0.02


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("heads", [1, 2])
def test_what_enters_the_scores_is_spread_to_one(score, heads):
    width, context, h = small_values()
    module = attention_of(score, size=0, heads=heads, width=width)
    module.spread(context, h)
    if module.is_additive:
        for layer, values in ((module.of_context, context), (module.of_gene, h)):
            deviation = torch.matmul(values, layer.weight).std(dim=(1, 2))
            torch.testing.assert_close(deviation, torch.ones(M), rtol=1e-4, atol=0)
    if module.is_bilinear:
        # the bilinear term by itself, whatever the additive one says
        torch.testing.assert_close(module.scores(context, h, None).std(dim=(1, 2, 3)), torch.ones(M), rtol=1e-4, atol=0)


def test_spreading_nothing_stays_finite():
    module = attention_of("additive+bilinear", size=0)
    module.spread(torch.zeros(M, B, D), torch.zeros(M, N, D))
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())


def test_keys_do_not_depend_on_the_context_and_are_missing_where_nothing_needs_them():
    assert attention_of("bilinear").keys(torch.randn(M, N, D)) is None
    assert attention_of("bilinear", uses_context=False).keys(torch.randn(M, N, D)).shape == (M, N, D)


def test_the_tool_spreads_its_attention_over_real_contexts(make):
    """Over what the network itself makes of conditions, with the first weights."""
    for score in SCORES:
        module, batch, _ = make(random=False, score=score, d=16, n_rows=12, sizes={"n_nodes": 60})
        module.spread_attention(batch)
        alpha = module.respond(module.read(batch)[0]).attention
        assert np.mean([total_variation(one.detach()) for one in alpha]) > 0.02


def test_spreading_keeps_the_mode_and_forgets_kept_embeddings(make):
    module, batch, _ = make(random=False, score="additive")
    for mode in (True, False):
        module.train(mode)
        with torch.no_grad():
            before = module.respond(module.read(batch)[0]).attention
            module.spread_attention(batch)
            after = module.respond(module.read(batch)[0]).attention
        assert module.training == mode
        if not mode:
            assert torch.equal(after, module.respond(module.read(batch)[0]).attention.detach())
        assert before.shape == after.shape
    plain, batch, _ = make(attention="context")
    state = {name: value.clone() for name, value in plain.state_dict().items()}
    plain.spread_attention(batch)
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())
