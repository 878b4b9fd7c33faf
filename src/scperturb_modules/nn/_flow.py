"""Flow matching: a velocity field that carries cells of one distribution to another, and how to follow it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, silu

Solver = Literal["euler", "midpoint", "heun", "rk4"]

SOLVERS: tuple[Solver, ...] = get_args(Solver)
"""Of order 1, 2, 2 and 4, with as many evaluations per step."""

Field = Callable[[Tensor, Tensor], Tensor]
"""Velocity (B, ..., q) at times (B,), one per row, and states (B, ..., q)."""

FASTEST = 30.0
"""Angular frequency of the fastest feature of time; the slowest has 1. At 1000, eight steps err 20 times as much."""


def integrate(velocity: Field, x: Tensor, *, n_steps: int, solver: Solver = "rk4", path: bool = False) -> Tensor:
    """Follow a velocity field from time 0 to 1 in steps of equal length.

    Parameters
    ----------
    velocity
        Of times (B,), all the same, and states (B, ..., q); returns (B, ..., q).
    x
        (B, ..., q) states at time 0.
    n_steps
        T.
    solver
        One of :data:`SOLVERS`.
    path
        Whether to return the states at all times ``0, 1/T, ..., 1``.

    Returns
    -------
    Tensor
        (B, ..., q) states at time 1; with ``path`` (T + 1, B, ..., q).

    Raises
    ------
    ValueError
        No step, or an unknown solver.

    Notes
    -----
    Steps do not adapt, so that the result for a cell does not depend on which others are there.

    Examples
    --------
    >>> integrate(lambda t, x: -x, torch.ones(1, 1), n_steps=8)
    tensor([[0.3679]])
    """
    if n_steps < 1:
        raise ValueError(f"n_steps={n_steps}: at least one step is needed.")
    if solver not in SOLVERS:
        raise ValueError(f"solver={solver!r} is none of {', '.join(map(repr, SOLVERS))}.")
    h, states = 1 / n_steps, [x]
    for k in range(n_steps):

        def at(share: float, x: Tensor, k: int = k) -> Tensor:
            return velocity(torch.full(x.shape[:1], (k + share) * h, dtype=x.dtype, device=x.device), x)

        x = x + h * _slope(at, x, h, solver)
        if path:
            states.append(x)
    return torch.stack(states) if path else x


def _slope(at: Callable[[float, Tensor], Tensor], x: Tensor, h: float, solver: Solver) -> Tensor:
    """Mean velocity of a step from x; ``at`` is of the share of the step that is done, and the state."""
    first = at(0, x)
    if solver == "euler":
        return first
    if solver == "heun":
        return (first + at(1, x + h * first)) / 2
    second = at(0.5, x + h / 2 * first)
    if solver == "midpoint":
        return second
    third = at(0.5, x + h / 2 * second)
    return (first + 2 * (second + third) + at(1, x + h * third)) / 6


def flow_pair(x0: Tensor, x1: Tensor, t: Tensor, sigma: float, noise: Tensor) -> tuple[Tensor, Tensor]:
    """A state on the straight path between two cells, with noise, and the velocity to be learned there.

    Parameters
    ----------
    x0, x1
        (..., q) cells at time 0 and 1.
    t
        Times in [0, 1], by the first axes of the cells: (B,) or (B, n) for cells (B, n, q).
    sigma
        Standard deviation around the path, at any time.
    noise
        (..., q) standard normal.

    Returns
    -------
    tuple
        ``(1 - t) x0 + t x1 + sigma noise`` and ``x1 - x0``, (..., q) each.

    Notes
    -----
    Independent and transport-coupled conditional flow matching, Tong et al. 2024, equations 14 and 15.

    Examples
    --------
    >>> flow_pair(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([0.25]), 0.1, torch.zeros(1, 2))
    (tensor([[0.2500, 0.2500]]), tensor([[1., 1.]]))
    """
    t = t.reshape(t.shape + (1,) * (x0.dim() - t.dim()))
    return (1 - t) * x0 + t * x1 + sigma * noise, x1 - x0


def guided(velocity: Callable[[Tensor, Tensor, Tensor], Tensor], c: Tensor, null: Tensor | None, scale: float) -> Field:
    """The field under a condition, made more (scale above 1) or less its own: ``v(null) + scale (v(c) - v(null))``.

    Parameters
    ----------
    velocity
        Of times, states and conditions, as :class:`Velocity`.
    c
        (B, d) conditions.
    null
        (d,) the vector that stood for any condition in training; None: there was none.
    scale
        1: ``v(c)``, one evaluation; else two.

    Returns
    -------
    Callable
        Of times and states, for :func:`integrate`.

    Raises
    ------
    ValueError
        A scale other than 1 without ``null``.

    Notes
    -----
    Classifier-free guidance, Ho and Salimans 2022.

    Examples
    --------
    >>> field = guided(lambda t, x, c: x + c, torch.tensor([[1.0]]), torch.tensor([0.5]), 3.0)
    >>> field(torch.zeros(1), torch.zeros(1, 1))
    tensor([[2.]])
    """
    if scale == 1:
        return lambda t, x: velocity(t, x, c)
    if null is None:
        raise ValueError(f"Guidance of {scale} needs a model that was also trained without conditions; use 1.")
    anything = null.expand_as(c)

    def field(t: Tensor, x: Tensor) -> Tensor:
        usual = velocity(t, x, anything)
        return usual + scale * (velocity(t, x, c) - usual)

    return field


class Velocity(nn.Module):
    """Network of the velocity of cells at a time, under a condition; it starts at 0 everywhere.

    Parameters
    ----------
    n_latent, n_condition
        q and d.
    width
        Of the hidden layers.
    n_blocks
        Residual blocks ``x + Linear(SiLU(Linear(FiLM(LN(x)))))``; scale and shift are of time and condition.
    n_time
        Number of features of time, sines and cosines.

    Notes
    -----
    FiLM: Perez et al. 2018. It is computed once per row where a row has one time.

    Examples
    --------
    >>> velocity = Velocity(2, 3, width=8)
    >>> velocity(torch.rand(4), torch.ones(4, 5, 2), torch.ones(4, 3)).shape
    torch.Size([4, 5, 2])
    """

    frequency: Tensor

    def __init__(self, n_latent: int, n_condition: int, width: int, n_blocks: int = 3, n_time: int = 64) -> None:
        super().__init__()
        frequency = torch.logspace(0, math.log10(FASTEST), n_time // 2)
        self.register_buffer("frequency", frequency, persistent=False)
        self.time = nn.Linear(2 * len(frequency), width)
        self.condition = nn.Linear(n_condition, width, bias=False)
        self.film = nn.Linear(width, n_blocks * 2 * width)
        self.state = nn.Linear(n_latent, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) for _ in range(n_blocks)
        )
        self.out = nn.Linear(width, n_latent)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, t: Tensor, x: Tensor, c: Tensor) -> Tensor:
        """Times (B,) or (B, n), cells (B, n, q) and conditions (B, d) to velocities (B, n, q)."""
        angle = t.reshape(len(t), -1, 1) * self.frequency
        time = self.time(torch.cat([angle.sin(), angle.cos()], dim=-1))
        films = self.film(silu(time + self.condition(c)[:, None])).chunk(2 * len(self.blocks), dim=-1)
        h = self.state(x)
        for block, scale, shift in zip(self.blocks, films[::2], films[1::2], strict=True):
            h = h + block(layer_norm(h, h.shape[-1:]) * (1 + scale) + shift)
        return self.out(layer_norm(h, h.shape[-1:]))
