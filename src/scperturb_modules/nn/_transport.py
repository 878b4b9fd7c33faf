"""Distances between sets of cells, and which cell of one set goes with which of the other."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scperturb_modules.nn._losses import at_least_float32

STRETCH = 20
"""Iterations of Sinkhorn between two looks at whether they are done, and whether numbers are still in range."""

MISPLACED = 0.01
"""Largest share of mass that partners are drawn with in the wrong place: their mean is off by as much."""


def energy_distance(x: Tensor, y: Tensor, *, unbiased: bool = False) -> Tensor:
    """Energy distance between two sets of cells: ``2 E|x - y| - E|x - x'| - E|y - y'|``, Euclidean.

    Parameters
    ----------
    x
        (..., M, q) cells.
    y
        (..., L, q) other cells.
    unbiased
        Whether a cell is left out of its own mean distances (U-statistic). Few cells of one population are then at
        distance 0 on average, some draws below it; else (V-statistic) it is never negative and 0 for equal sets, but
        grows as cells become fewer. A set of one cell has no spread, and ``E|x - x'|`` is 0.

    Returns
    -------
    Tensor
        (...,), differentiable; cells that coincide have a gradient of 0 with respect to each other.

    Notes
    -----
    Szekely and Rizzo 2013, equation 4; the U-statistic as in Gretton et al. 2012, equation 3.

    Examples
    --------
    >>> x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [1.0]])
    >>> float(energy_distance(x, y)), float(energy_distance(x, y, unbiased=True))
    (1.0, 0.0)
    """
    x, y = at_least_float32(x), at_least_float32(y)
    across = _distances(x, y).mean(dim=(-2, -1))
    return 2 * across - _mean_within(x, unbiased) - _mean_within(y, unbiased)


def log_sinkhorn(
    cost: Tensor,
    eps: float,
    *,
    row_mass: Tensor | None = None,
    column_mass: Tensor | None = None,
    rho: float | None = None,
    n_iter: int = 50,
    tol: float | None = None,
) -> Tensor:
    """Logarithm of the entropic transport plan: P that minimises ``<P, C> + eps KL(P | a b^T)``, with row sums a.

    Parameters
    ----------
    cost
        (..., n, m) C, of any scale.
    eps
        Above 0, in the units of the cost.
    row_mass, column_mass
        (..., n) a and (..., m) b, above 0, of the same sum; default uniform, of sum 1.
    rho
        Above 0, in the units of the cost: column sums may leave b at the price of ``rho KL(P^T 1 | b)``. None: they
        are b.
    n_iter
        Most iterations.
    tol
        Stop when the sum over columns of how much mass the next iteration would move is below it, in every problem;
        without rho this is the L1 distance of the column sums from b. Looked at every 20 iterations. None: never.

    Returns
    -------
    Tensor
        (..., n, m); row sums of its exponential are a up to rounding. Differentiable, through all iterations.

    Notes
    -----
    Cuturi 2013; with rho Chizat et al. 2018. Iterations run on the plan at the latest potentials, which is scaled by
    two matrix-vector products each (Schmitzer 2019, absorption); where the scalings leave the safe range of the dtype,
    they are done again by logarithms of sums of exponentials. Both give the same numbers.

    Examples
    --------
    >>> log_sinkhorn(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 0.1).exp().round(decimals=3)
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]])
    """
    cost = at_least_float32(cost)
    score = (cost.amin(dim=-1, keepdim=True) - cost) / eps  # a shift of a row changes nothing, and is exact in float32
    log_a, log_b = _log_mass(row_mass, score[..., 0]), _log_mass(column_mass, score[..., 0, :])
    power = 1.0 if rho is None else rho / (rho + eps)
    g = log_b
    for start in range(0, n_iter, STRETCH):
        n = min(STRETCH, n_iter - start)
        after, moved = _by_products(score, log_a, log_b, g, power, n)
        if not (after - g).abs().max() < math.log(torch.finfo(g.dtype).max) / 4:  # nor where it is not a number
            after, moved = _by_logarithms(score, log_a, log_b, g, power, n)
        g = after
        if tol is not None and moved.max() < tol:
            break
    return _log_plan(score, log_a, g)


def couple(
    x0: Tensor, x1: Tensor, *, eps: float = 0.05, n_iter: int = 500, generator: torch.Generator | None = None
) -> Tensor:
    """For each cell of one set a cell of the other, drawn by the entropic transport plan between them.

    Parameters
    ----------
    x0, x1
        (..., n, q) and (..., m, q) cells; the cost is their squared Euclidean distance divided by its mean.
    eps
        Entropy, in units of the mean cost: 0.05 leaves about ten likely partners among 64 cells in 50 dimensions, 1
        nearly all.
    n_iter
        Most iterations of :func:`log_sinkhorn`, which ends when 1 % of the mass would still move: after 20 for most
        cells, some hundreds for clusters of which the sets have different shares.
    generator
        Random numbers; of the device of the cells.

    Returns
    -------
    Tensor
        (..., n) int64 row of x1.

    Notes
    -----
    Minibatch coupling of Tong et al. 2024. No gradient.

    Examples
    --------
    >>> couple(torch.tensor([[0.0], [5.0], [9.0]]), torch.tensor([[9.1], [0.1], [5.1]]), eps=0.001)
    tensor([1, 2, 0])
    """
    with torch.no_grad():
        cost = _distances(at_least_float32(x0), at_least_float32(x1)).square()
        cost = cost / cost.mean(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(cost.dtype).tiny)
        plan = log_sinkhorn(cost, eps, n_iter=n_iter, tol=MISPLACED).softmax(dim=-1)
        return torch.multinomial(plan.flatten(end_dim=-2), 1, generator=generator).reshape(plan.shape[:-1])


def _by_products(score: Tensor, log_a: Tensor, log_b: Tensor, g: Tensor, power: float, n: int) -> tuple[Tensor, Tensor]:
    """Column potentials (..., m) n iterations after g, and (...,) the mass that the last of them moved."""
    plan, a = _log_plan(score, log_a, g).exp(), log_a.exp()[..., None, :]
    weight = torch.exp(log_b - (1 - power) * g)[..., None, :]
    v = torch.ones_like(weight)
    for _ in range(n):
        before, sums = v, (a / (v @ plan.mT)) @ plan  # vectors on the left: ten times as fast in a batch
        v = weight * sums**-power
    return g + v[..., 0, :].log(), (sums * (v - before)).abs().sum(dim=(-2, -1))


def _by_logarithms(
    score: Tensor, log_a: Tensor, log_b: Tensor, g: Tensor, power: float, n: int
) -> tuple[Tensor, Tensor]:
    """The same by logarithms of sums of exponentials: slower, and safe for any potentials."""
    for _ in range(n):
        f = log_a - (score + g[..., None, :]).logsumexp(dim=-1)
        before, sums = g, (score + f[..., None]).logsumexp(dim=-2)
        g = log_b - power * sums
    return g, ((g + sums).exp() - (before + sums).exp()).abs().sum(dim=-1)


def _log_plan(score: Tensor, log_a: Tensor, g: Tensor) -> Tensor:
    return log_a[..., None] + (score + g[..., None, :]).log_softmax(dim=-1)


def _log_mass(mass: Tensor | None, like: Tensor) -> Tensor:
    if mass is None:
        return torch.full_like(like, -math.log(like.shape[-1]))
    return mass.to(like).log().expand_as(like)


def _mean_within(x: Tensor, unbiased: bool) -> Tensor:
    n = x.shape[-2]
    return _distances(x, x).sum(dim=(-2, -1)) / (max(n * (n - 1), 1) if unbiased else n**2)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    # not by a matrix product, which is off by 1e-3 for cells that are equal
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
