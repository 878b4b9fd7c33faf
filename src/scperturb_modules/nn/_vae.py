"""A variational autoencoder of control cells that regenerates their non-zero values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from scperturb_modules.nn._loss_terms import kl_divergence
from scperturb_modules.nn._losses import at_least_float32

LOWEST_SD = 0.1
"""Genes that vary less are not blown up to unit variance."""

LOWEST_START = 0.1
"""Nearer to 0 the output hardly has a gradient."""

FREE_BITS = 0.1
"""Of each latent dimension (nats): it keeps all of them in use in long trainings, at no cost in held-out cells."""

ACTIVE_VARIANCE = 1e-2
"""A latent dimension whose means vary less between cells tells nothing of them."""

_LOG_VARIANCE = 10.0


class ControlVae(nn.Module):
    """Encoder and decoder of single cells, trained on controls; the non-zero values of a cell are regenerated.

    Encoder G -> hidden -> (mean, log variance), decoder the same way back, with layer norm and rectifiers; the output
    is not negative.

    Parameters
    ----------
    n_genes
        G.
    hidden
        Widths of the hidden layers of the encoder; the decoder has them in reverse.
    n_latent
        q.
    mean, sd
        (G,) of the training controls (log1p CP10k), or one number for all genes: what the encoder sees is standardised
        by them, the sd taken as 0.1 at least, and the decoder starts from about the mean. They are part of the state
        dict.

    Notes
    -----
    Data stream of Tan, Xie et al. 2024 (BioDSNN). Cells have any leading axes; in evaluation mode the latent state is
    the mean, without a random draw.

    Examples
    --------
    >>> vae = ControlVae(3, hidden=(4,), n_latent=2).eval()
    >>> cells = torch.tensor([[1.0, 0.0, 2.0]])
    >>> mean, log_variance = vae.encode(cells)
    >>> vae.regenerate(cells, vae.sample(mean, log_variance)).gt(0)
    tensor([[ True, False,  True]])
    """

    mean: Tensor
    sd: Tensor

    def __init__(
        self,
        n_genes: int,
        *,
        hidden: Sequence[int] = (256, 32),
        n_latent: int = 16,
        mean: Tensor | float = 0.0,
        sd: Tensor | float = 1.0,
    ) -> None:
        super().__init__()
        dtype = torch.get_default_dtype()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=dtype).expand(n_genes).clone())
        self.register_buffer("sd", torch.as_tensor(sd, dtype=dtype).clamp(min=LOWEST_SD).expand(n_genes).clone())
        self.encoder = _perceptron([n_genes, *hidden, 2 * n_latent])
        self.decoder = _perceptron([n_latent, *reversed(hidden), n_genes])
        _start_from(self.decoder[-1], self.mean)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(..., G) cells to (..., q) mean and log variance of their latent state."""
        mean, log_variance = self.encoder((x - self.mean) / self.sd).chunk(2, dim=-1)
        return mean, log_variance.clamp(-_LOG_VARIANCE, _LOG_VARIANCE)

    def sample(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """(..., q) latent state: a draw in training, the mean in evaluation."""
        if not self.training:
            return mean
        return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)

    def decode(self, z: Tensor) -> Tensor:
        """(..., q) latent states to (..., G) expression of every gene, above 0."""
        return softplus(self.decoder(z))

    def regenerate(self, x: Tensor, z: Tensor) -> Tensor:
        """(..., G): what z decodes to where x is above 0, and exactly 0 elsewhere."""
        return torch.where(x > 0, self.decode(z), torch.zeros_like(x))

    def loss(self, x: Tensor, *, free_bits: float = FREE_BITS) -> dict[str, Tensor]:
        """Scalars of (..., G) cells: ``reconstruction``, the mean squared error of values above 0, and ``kl`` per cell.

        Parameters
        ----------
        x
            Cells.
        free_bits
            See :func:`~scperturb_modules.nn._loss_terms.kl_divergence`.
        """
        mean, log_variance = self.encode(x)
        found = x > 0
        error = at_least_float32(self.decode(self.sample(mean, log_variance)) - x)
        return {
            "reconstruction": (error.square() * found).sum() / found.sum().clamp(min=1),
            "kl": kl_divergence(mean, log_variance, free_bits=free_bits).mean(),
        }


def active_dimensions(means: Tensor) -> int:
    """Number of latent dimensions whose means (..., q) vary between cells, by more than 0.01 (Burda et al. 2016)."""
    return int((means.flatten(end_dim=-2).var(dim=0) > ACTIVE_VARIANCE).sum())


def _perceptron(widths: Sequence[int]) -> nn.Sequential:
    *inner, n_out = widths
    layers: list[nn.Module] = []
    for n_in, width in zip(inner, inner[1:], strict=False):
        layers += [nn.Linear(n_in, width), nn.LayerNorm(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(inner[-1], n_out))


def _start_from(layer: nn.Module, mean: Tensor) -> None:
    """Set the bias of the decoder's last layer, or a hundred steps would go into finding the level of each gene."""
    assert isinstance(layer, nn.Linear)
    level = mean.clamp(min=LOWEST_START)
    with torch.no_grad():
        layer.bias.copy_(level + torch.log(-torch.expm1(-level)))  # the inverse of softplus
