"""Rotations towards directions that concern some of the genes."""

from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules.models.scbig.programs._rotation import simple_loadings, skew_rotation


def blocks(sizes, n_even, seed=0):
    """(G, r) loadings of blocks and of factors of all genes, turned at random."""
    rng = np.random.default_rng(seed)
    own = np.repeat(np.eye(len(sizes)), sizes, axis=0)
    even = rng.normal(0, 0.3, (len(own), n_even))
    turn = np.linalg.qr(rng.normal(size=(len(sizes) + n_even,) * 2))[0]
    return own, np.hstack([own, even]) @ turn


@pytest.mark.parametrize("sizes", [[50] * 8, [150, 120, 80, 50, 40, 30], [90] * 16])
def test_blocks_are_found_and_factors_of_all_genes_left_out(sizes):
    own, turned = blocks(sizes, 2)
    found = simple_loadings(turned)
    cosine = (found / np.linalg.norm(found, axis=0)).T @ (own / np.linalg.norm(own, axis=0))
    # blocks of all genes have one direction less, since their sum is the same for each gene
    assert len(sizes) - 1 <= found.shape[1] <= len(sizes)
    assert np.all(np.sort(cosine.max(axis=0))[1:] > 0.85)


def test_the_rotation_is_one_and_finds_the_best(seed=0):
    _, turned = blocks([40, 60, 30], 0, seed)
    centred = turned - turned.mean(axis=0)
    rotation = skew_rotation(centred)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-10)

    def score(some):
        return np.square(np.mean((centred @ some) ** 3, axis=0)).sum()

    rng = np.random.default_rng(1)
    others = [np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(200)]
    assert score(rotation) > max(map(score, others))


def test_even_directions_stay_where_there_are_no_others():
    even = np.random.default_rng(0).normal(size=(500, 2))
    assert simple_loadings(even).shape == (500, 2)
