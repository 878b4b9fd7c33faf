"""Cells whose genes are multiplied: the mean that is asked for, and zeros that stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from scperturb_modules.models._rescale import rescaled


@pytest.fixture(scope="module")
def slow(load_file):
    return load_file(Path(__file__).parent / "scbig" / "slow.py").rescaled


def draw(seed=0, *, n_cells=30, n_reference=200, n_genes=8):
    """Cells, their h, the reference, its h, and changes that can be reached; a third of all entries is 0."""
    rng = np.random.default_rng(seed)
    found = []
    for n in (n_cells, n_reference):
        values = rng.gamma(2, 0.7, (n, n_genes)) * (rng.random((n, n_genes)) > 0.35)
        found += [values, 0.5 * rng.normal(size=(n, n_genes))]
    mean = found[2].mean(axis=0)
    return [torch.tensor(one) for one in (*found, mean * rng.uniform(-0.8, 0.8, n_genes))]


def test_it_is_the_loop_over_genes(slow):
    arguments = draw()
    expected = slow(*(one.numpy() for one in arguments), brentq)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(rescaled(*arguments), expected, rtol=0, atol=1e-6)


def test_the_mean_of_the_reference_is_what_is_asked_for():
    _, _, reference, own, change = draw(1)
    change[0], change[1] = -reference[:, 0].mean() * 3, -reference[:, 1].mean()
    found = rescaled(reference.float(), own.float(), reference.float(), own.float(), change.float())
    wanted = (reference.mean(dim=0) + change).clamp(min=0)
    assert wanted[:2].abs().max() < 1e-12
    torch.testing.assert_close(found.double().mean(dim=0), wanted, rtol=0, atol=1.1e-4)
    assert found.min() >= 0


def test_zeros_stay_zeros_and_order_is_kept():
    cells, own, reference, of_reference, change = draw(2)
    found = rescaled(cells, torch.zeros_like(own), reference, torch.zeros_like(of_reference), change)
    assert torch.all(found[cells == 0] == 0) and torch.all(found[cells > 0] > 0)
    for gene in range(cells.shape[1]):
        ranks = [one[:, gene].argsort(stable=True) for one in (cells, found)]
        assert torch.equal(*ranks)


def test_no_change_is_no_change():
    cells, own, reference, of_reference, change = draw(3)
    nothing = torch.zeros_like(own), torch.zeros_like(of_reference)
    found = rescaled(cells, nothing[0], reference, nothing[1], torch.zeros_like(change))
    torch.testing.assert_close(found, cells, rtol=0, atol=1e-6)


def test_h_moves_cells_apart_but_not_the_mean():
    cells, own, reference, of_reference, change = draw(4)
    nothing = torch.zeros_like(of_reference)
    plain = rescaled(reference, nothing, reference, nothing, change)
    found = rescaled(reference, of_reference, reference, of_reference, change)
    torch.testing.assert_close(found.mean(dim=0), plain.mean(dim=0), rtol=0, atol=1e-6)
    assert (found - plain).abs().max() > 0.1
    stronger = rescaled(cells, own + 0.3, reference, of_reference, change)
    weaker = rescaled(cells, own, reference, of_reference, change)
    ratio = torch.expm1(stronger) / torch.expm1(weaker)
    torch.testing.assert_close(ratio[cells > 0], torch.full_like(ratio[cells > 0], float(np.exp(0.3))))


def test_the_same_h_of_all_cells_says_nothing():
    cells, own, reference, of_reference, change = draw(5)
    shifted = rescaled(cells, own + 1.5, reference, of_reference + 1.5, change)
    torch.testing.assert_close(shifted, rescaled(cells, own, reference, of_reference, change), rtol=0, atol=1e-6)


def test_a_gene_that_no_factor_brings_there_is_shifted():
    cells, own, reference, of_reference, change = draw(6)
    reference[:, 0], cells[:, 0], change[0] = 0, 0, 0.4
    reference[:, 1] = 1e-3
    cells[:, 1], change[1] = 1e-3, 3.0
    found = rescaled(cells, own, reference, of_reference, change)
    torch.testing.assert_close(found[:, 0], torch.full_like(found[:, 0], 0.4))
    mean = rescaled(reference, of_reference, reference, of_reference, change).mean(dim=0)
    assert mean[1].item() == pytest.approx(3.001, abs=1e-6)
    change[0] = -0.4
    assert torch.all(rescaled(cells, own, reference, of_reference, change)[:, 0] == 0)


def test_a_cell_does_not_depend_on_the_others():
    cells, own, *others = draw(7)
    together = rescaled(cells, own, *others)
    for i in (0, 11):
        assert torch.equal(rescaled(cells[i : i + 1], own[i : i + 1], *others)[0], together[i])
