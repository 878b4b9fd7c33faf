"""The loss of BioDSNN: squared error, autofocus and direction of the change of each condition."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from scperturb_modules.models.biodsnn._settings import BioDsnnSettings
from scperturb_modules.nn import at_least_float32, autofocus, beta_nll, direction_loss, squared_error


def terms_of_rows(
    settings: BioDsnnSettings,
    scale: float,
    tensors: Mapping[str, Tensor],
    error: Tensor,
    of_cells: Tensor | None,
    log_variance: Tensor | None,
) -> dict[str, Tensor]:
    """Weighted terms (M, B) of the loss of B conditions, in squared units of the change.

    Parameters
    ----------
    settings
        Weights and forms of the terms.
    scale
        Mean square of the training changes.
    tensors
        Batch with ``target``, ``se``, ``found`` and ``gene_weight`` (B, G).
    error
        (M, B, G) measured minus predicted change.
    of_cells
        (M, B, C, G) errors of single cells, for a loss of cells; None: of the mean.
    log_variance
        (M, B, G) of the error, where it is predicted: its likelihood takes the place of the squared error.
    """
    errors = error if of_cells is None else of_cells
    found, weight = (_beside(errors, tensors[name]) for name in ("found", "gene_weight"))
    terms = {}
    if settings.w_mse and log_variance is None:
        terms["mse"] = settings.w_mse * squared_error(errors, weight)
    if settings.w_autofocus:
        terms["autofocus"] = settings.w_autofocus * autofocus(errors, gamma=settings.focus, present=found)
    if of_cells is not None:
        terms = {name: values.mean(dim=-1) for name, values in terms.items()}
    if log_variance is not None:
        terms["likelihood"] = _likelihood(scale, tensors, error, log_variance)
    if settings.w_direction:
        # of means: in single cells the sign of a weakly expressed gene is nearly always down
        change = at_least_float32(tensors["target"] - error)
        form = settings.direction
        terms["direction"] = settings.w_direction * direction_loss(change, tensors["target"], tensors["se"], form=form)
    return terms


def _beside(errors: Tensor, of_gene: Tensor) -> Tensor:
    """(B, G) beside (M, B, G), or with an axis for cells beside (M, B, C, G)."""
    return of_gene[:, None] if errors.ndim == 4 else of_gene


def _likelihood(scale: float, tensors: Mapping[str, Tensor], error: Tensor, log_variance: Tensor) -> Tensor:
    """In units of the scale, and then in those of the other terms."""
    se2 = tensors["se"].square() / scale
    return scale * beta_nll(error / scale**0.5, log_variance - math.log(scale), se2)
