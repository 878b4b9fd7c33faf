"""Simulated screens, and slow, plain scores of a genetic interaction as a reference for what was planted in them."""

from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules import datasets


@pytest.fixture(scope="module")
def default():
    """The default screen; tests must not change it."""
    return datasets.simulate(seed=0)


@pytest.fixture(scope="module")
def tiny():
    """The smallest screen; tests must not change it."""
    return datasets.simulate("tiny", seed=0)


@pytest.fixture
def gi_class_of():
    """Classifier of a pair by the scores and the order of rules of Norman et al. (2019)."""
    return classify


# thresholds for noise-free effects: an additive pair has the magnitude sqrt(2), so synergy lies above 1.5
SYNERGY_ABOVE = 1.5


def theil_sen(a, b, y, *, n_subsets=8_000):
    """Spatial median of the coefficients of y = c1 a + c2 b over pairs of genes; no intercept."""
    first, second = np.triu_indices(len(a), k=1)
    if len(first) > n_subsets:
        drawn = np.random.default_rng(0).choice(len(first), n_subsets, replace=False)
        first, second = first[drawn], second[drawn]
    determinant = a[first] * b[second] - a[second] * b[first]
    regular = np.abs(determinant) > 1e-14 * (np.abs(a[first] * b[second]) + np.abs(a[second] * b[first]))
    first, second, determinant = first[regular], second[regular], determinant[regular]
    c1 = (y[first] * b[second] - y[second] * b[first]) / determinant
    c2 = (a[first] * y[second] - a[second] * y[first]) / determinant
    return spatial_median(np.column_stack([c1, c2]))


def spatial_median(points):
    """Weiszfeld iteration from the medians of the coordinates."""
    centre = np.median(points, axis=0)
    for _ in range(100):
        weight = 1 / np.maximum(np.linalg.norm(points - centre, axis=1), 1e-12)
        moved = (weight[:, None] * points).sum(axis=0) / weight.sum()
        if np.linalg.norm(moved - centre) < 1e-6:
            break
        centre = moved
    return centre


def centred_distances(values):
    """(m, m) doubly centred Euclidean distances between the rows of (m,) or (m, k)."""
    values = values.reshape(len(values), -1)
    distance = np.sqrt(((values[:, None] - values[None]) ** 2).sum(axis=-1))
    return distance - distance.mean(axis=0) - distance.mean(axis=1)[:, None] + distance.mean()


def distance_correlation(first, second):
    """From two results of :func:`centred_distances`."""
    return np.sqrt((first * second).mean() / np.sqrt((first**2).mean() * (second**2).mean()))


def classify(a, b, y):
    """Class of a pair from the effects of its singles and of the double over the same genes (noise-free)."""
    c1, c2 = theil_sen(a, b, y)
    magnitude = np.hypot(c1, c2)
    of_a, of_b, of_y = centred_distances(a), centred_distances(b), centred_distances(y)
    contribution = sorted([distance_correlation(of_a, of_y), distance_correlation(of_b, of_y)])
    fit = distance_correlation(centred_distances(c1 * a + c2 * b), of_y)
    similarity = distance_correlation(centred_distances(np.column_stack([a, b])), of_y)
    if fit < 0.73 and magnitude < 1.3:
        return "neomorphic"
    if contribution[0] / contribution[1] < 0.34:
        return "epistasis"
    if similarity > 0.84 and distance_correlation(of_a, of_b) > 0.69:
        return "redundancy"
    if magnitude > SYNERGY_ABOVE:
        return "synergy"
    return "suppression" if magnitude < 0.9 else "additive"
