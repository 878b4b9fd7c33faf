"""Terms of the loss of a model of changes per condition and gene; each is reduced over the last axis alone.

Leading axes (ensemble members, conditions, cells) stay, and sums are made in float32 or better.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from scperturb_modules.nn._losses import at_least_float32

DirectionForm = Literal["logistic", "tanh", "sign"]

TEMPERATURE = 0.1
"""Changes smaller than this (log1p CP10k) count as near the boundary between up and down."""


def kl_divergence(mean: Tensor, log_variance: Tensor, *, free_bits: float = 0.0) -> Tensor:
    """Kullback-Leibler divergence of N(mean, exp(log_variance)) from N(0, 1), summed over latent dimensions.

    ``KL = sum_j max(1/2 (mu_j^2 + expm1(l_j) - l_j), free_bits)`` with ``l = log sigma^2``.

    Parameters
    ----------
    mean, log_variance
        (..., q); the log variance within about +-10, as an encoder clamps it.
    free_bits
        What a dimension may carry without a price (nats).

    Returns
    -------
    Tensor
        (...,), never negative.

    Notes
    -----
    Kingma and Welling 2014, appendix B; free bits: Kingma et al. 2016, appendix C.8, here per cell. Equation 4 of Tan,
    Xie et al. 2024 has the other sign.

    Examples
    --------
    >>> float(kl_divergence(torch.tensor([1.0, 0.0]), torch.zeros(2)))
    0.5
    """
    mean, log_variance = at_least_float32(mean), at_least_float32(log_variance)
    of_dimension = 0.5 * (mean.square() + torch.expm1(log_variance) - log_variance)
    return of_dimension.clamp(min=free_bits).sum(dim=-1)


def autofocus(error: Tensor, *, gamma: float = 2.0, present: Tensor | None = None) -> Tensor:
    """Mean over genes of ``|e|^(2 + gamma)``: genes with a large error count more.

    Parameters
    ----------
    error
        (..., G) prediction minus truth (log1p CP10k).
    gamma
        0 is the mean squared error; not negative.
    present
        Bool, broadcast to ``error``: genes found in any cell of the condition or its controls. The others are left out
        of the sum and of its count; None: all count. Without a gene the term is 0.

    Returns
    -------
    Tensor
        (...,).

    Notes
    -----
    Roohani et al. 2023 (GEARS), equation 8; equation 7 of Tan, Xie et al. 2024 without the absolute value, which
    matters wherever gamma is not even.

    Examples
    --------
    >>> float(autofocus(torch.tensor([2.0, 0.0])))
    8.0
    """
    of_gene = at_least_float32(error).abs().pow(2 + gamma)
    return of_gene.mean(dim=-1) if present is None else _weighted_mean(of_gene, present.to(of_gene.dtype))


def direction_loss(change: Tensor, truth: Tensor, scale: Tensor, *, form: DirectionForm = "logistic") -> Tensor:
    """How wrong the signs of a predicted change are; genes whose true sign is noise do not count.

    With ``tau = max(0.1, SE)``, the weighted mean over genes, by ``tanh((t / (2 SE))^2)``, of

    - ``"logistic"``: ``4 log2(1 + exp(-sign(t) a / tau))``: 4 at ``a = 0``, with a gradient that stays constant however
      wrong the sign is;
    - ``"tanh"``: ``(tanh(a / tau) - tanh(t / tau))^2``, whose gradient fades for wrong signs that are far off;
    - ``"sign"``: ``(sign(a) - sign(t))^2``, the published term, without a gradient.

    Parameters
    ----------
    change
        (..., G) predicted change a of a condition's mean.
    truth
        (..., G) measured change t.
    scale
        (..., G) its standard error SE; NaN or infinite where it is unknown: such genes have the weight 0.
    form
        See above.

    Returns
    -------
    Tensor
        (...,); 0 where all weights are 0.

    Notes
    -----
    ``"sign"`` is equation 9 of Tan, Xie et al. 2024, and the direction term of Roohani et al. 2023 (GEARS). The other
    two are differentiable and tend to it (``"tanh"``) or are nowhere below it (``"logistic"``).

    Examples
    --------
    >>> t, se = torch.tensor([1.0, -1.0]), torch.full((2,), 0.1)
    >>> float(direction_loss(torch.tensor([0.0, 0.0]), t, se)), float(direction_loss(t, -t, se, form="sign"))
    (4.0, 4.0)
    """
    change, truth, scale = (at_least_float32(x) for x in (change, truth, scale))
    scale = scale.nan_to_num(nan=math.inf, posinf=math.inf).clamp(min=torch.finfo(scale.dtype).tiny ** 0.25)
    weight = torch.tanh((truth / (2 * scale)).square())
    tau = scale.clamp(min=TEMPERATURE)
    if form == "logistic":
        of_gene = 4 / math.log(2) * softplus(-truth.sign() * change / tau)
    elif form == "tanh":
        of_gene = (torch.tanh(change / tau) - torch.tanh(truth / tau)).square()
    elif form == "sign":
        of_gene = (change.sign() - truth.sign()).square()
    else:
        raise ValueError(f"form={form!r} is unknown; use 'logistic', 'tanh' or 'sign'.")
    return _weighted_mean(of_gene, weight)


def beta_nll(error: Tensor, log_variance: Tensor, se2: Tensor, *, beta: float = 0.5) -> Tensor:
    """Gaussian negative log-likelihood of an error whose variance is predicted, without its constant.

    With ``t = exp(v) + SE^2``, the mean over genes of ``1/2 stopgrad(t)^beta (e^2 / t + log t)``. The noise of the
    truth is known, so v is left with the error of the model; ``log t`` keeps it from growing without bound.

    Parameters
    ----------
    error
        (..., G) prediction minus truth.
    log_variance
        (..., G) v, within about +-10.
    se2
        (..., G) squared standard error of the truth; genes where it is NaN or infinite are left out.
    beta
        0 is the likelihood itself, in which genes with a small variance have most of the gradient; with 1 all have
        that of the squared error.

    Returns
    -------
    Tensor
        (...,); 0 where no standard error is known.

    Notes
    -----
    Seitzer et al. 2022 (beta-NLL), equation 5, on the total variance.

    Examples
    --------
    >>> float(beta_nll(torch.tensor([1.0]), torch.zeros(1), torch.zeros(1)))
    0.5
    """
    error, log_variance, se2 = (at_least_float32(x) for x in (error, log_variance, se2))
    known = se2.isfinite()
    total = log_variance.exp() + se2.where(known, torch.zeros_like(se2))
    of_gene = 0.5 * total.detach().pow(beta) * (error.square() / total + total.log())
    return _weighted_mean(of_gene, known.to(of_gene.dtype))


def variance_error(predicted: Tensor, true: Tensor, *, eps: float) -> Tensor:
    """How far the variance of predicted cells is from that of true cells, gene by gene.

    The mean over genes of ``(log(s^2_predicted + eps) - log(s^2_true + eps))^2``, with variances over cells (ddof=1).

    Parameters
    ----------
    predicted, true
        (..., cells, G), at least two cells each; the numbers of cells may differ.
    eps
        Variance below which differences do not matter.

    Returns
    -------
    Tensor
        (...,).

    Examples
    --------
    >>> cells = torch.tensor([[0.0], [2.0]])
    >>> float(variance_error(cells, cells + 5, eps=0.01))
    0.0
    """
    of_predicted, of_true = (torch.log(at_least_float32(x).var(dim=-2) + eps) for x in (predicted, true))
    return (of_predicted - of_true).square().mean(dim=-1)


def _weighted_mean(of_gene: Tensor, weight: Tensor) -> Tensor:
    """Over the last axis; 0 where all weights are 0."""
    total = weight.expand_as(of_gene).sum(dim=-1)
    return (of_gene * weight).sum(dim=-1) / total.where(total > 0, torch.ones_like(total))
