"""The autoencoder whose tokens are gene programs: cells to a latent state and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from scvi.module.base import BaseModuleClass, LossOutput
from torch import Tensor, nn

from scperturb_modules.models.scbig._tokens import TokenDecoder, TokenEncoder, starting_at_zero
from scperturb_modules.nn import at_least_float32

LOWEST_SD = 0.1
"""Genes that vary less are not blown up to unit variance."""

LOWEST_LATENT_SD = 1e-3
"""A latent dimension that varies less is not blown up to unit variance."""

PROGRAM_WEIGHT = 0.03
"""Of the error of program means, beside that of genes."""

HIDDEN = 256
"""Width of the hidden layers where there are no program tokens."""


class ProgramAutoencoder(nn.Module):
    """Encoder and decoder of single cells in which genes talk to each other by way of their programs.

    Encoder: token of program k ``h_k = W_k x_k + b_k`` from its own genes, layer norm, induced set attention between
    the K tokens, attention pooling by one learned query, linear map to the latent state z. Decoder: K learned tokens,
    each scaled and shifted by what z says (FiLM), induced set attention, and for each gene a readout of its program's
    token. Both run beside a linear map, of genes to z and of z to genes, that starts from principal components; the
    other parts start from 0 there: before the first step it is PCA of q dimensions, and training has only the rest to
    find.

    Parameters
    ----------
    program
        (G,) int64, program of each gene, 0 to K - 1, none without a gene.
    mean, sd
        (G,) of training cells (log1p CP10k): the network sees ``(x - mean) / max(sd, 0.1)``, "scaled genes". They are
        part of the state dict.
    components
        (G, q) principal components of scaled genes, such that scores have about unit variance. Zeros where saved
        weights are put in later.
    width, n_layers, heads, n_inducing
        Width d of a token, induced blocks on either side, heads and inducing points of each.
    dropout
        Of attention and feed-forward networks, in training only.
    tokens
        False: the networks beside the linear maps are perceptrons G -> 256 -> q and q -> 256 -> G, without programs.

    Notes
    -----
    Gene-cluster-aware autoencoder of scBIG (arXiv 2602.04901), deterministic, with exactly one token per program and
    weights of their own for each gene.

    Examples
    --------
    >>> cells = torch.rand(6, 4)
    >>> network = ProgramAutoencoder(
    ...     torch.tensor([0, 1, 0, 1]), cells.mean(0), cells.std(0), torch.eye(4)[:, :2], width=8, heads=2
    ... ).eval()
    >>> network.standardise(network.encode(cells))
    >>> network.decode(network.encode(cells)).shape
    torch.Size([6, 4])
    """

    mean: Tensor
    sd: Tensor
    latent_mean: Tensor
    latent_sd: Tensor
    program: Tensor
    program_size: Tensor

    def __init__(
        self,
        program: Tensor,
        mean: Tensor,
        sd: Tensor,
        components: Tensor,
        *,
        width: int = 32,
        n_layers: int = 1,
        heads: int = 2,
        n_inducing: int = 8,
        dropout: float = 0.0,
        tokens: bool = True,
    ) -> None:
        super().__init__()
        dtype = torch.get_default_dtype()
        components = components.to(dtype)
        n_genes, n_latent = components.shape
        self.register_buffer("mean", mean.to(dtype))
        self.register_buffer("sd", sd.to(dtype).clamp(min=LOWEST_SD))
        self.register_buffer("latent_mean", torch.zeros(n_latent))
        self.register_buffer("latent_sd", torch.ones(n_latent))
        self.register_buffer("program", program)
        self.register_buffer("program_size", program.bincount().to(dtype))
        self.to_latent = nn.Parameter(components.clone())
        self.to_genes = nn.Parameter(torch.linalg.pinv(components))
        self.encoder: nn.Module
        self.decoder: nn.Module
        if tokens:
            blocks = {"width": width, "n_layers": n_layers, "heads": heads, "n_inducing": n_inducing}
            self.encoder = TokenEncoder(program, n_latent, dropout=dropout, **blocks)
            self.decoder = TokenDecoder(program, n_latent, dropout=dropout, **blocks)
        else:
            self.encoder, self.decoder = _perceptron(n_genes, n_latent), _perceptron(n_latent, n_genes)

    def encode(self, x: Tensor) -> Tensor:
        """(..., G) cells, log1p CP10k, to (..., q) their standardised latent states."""
        return (self._raw(self._scaled(x)) - self.latent_mean) / self.latent_sd

    def decode(self, z: Tensor) -> Tensor:
        """(..., q) standardised latent states to (..., G) expression, log1p CP10k; it may be below 0."""
        return self._genes(z * self.latent_sd + self.latent_mean) * self.sd + self.mean

    def program_means(self, x: Tensor) -> Tensor:
        """(..., G) values of genes to (..., K) their means over the genes of each program."""
        total = x.new_zeros(*x.shape[:-1], len(self.program_size))
        return total.index_add(-1, self.program, x) / self.program_size.to(x.dtype)

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar loss of (..., G) cells, and its terms.

        ``reconstruction``: mean squared error of scaled genes; ``programs``: that of their means over each program
        times the size of the program, which counts 0.03 times. A mean of n genes varies by 1 / n where they are
        unrelated: without the size a program would count the less the larger it is.
        """
        scaled = self._scaled(x)
        error = at_least_float32(self._genes(self._raw(scaled)) - scaled)
        of_programs = self.program_means(error).square() * self.program_size.to(error.dtype)
        terms = {"reconstruction": error.square().mean(), "programs": of_programs.mean()}
        return terms["reconstruction"] + PROGRAM_WEIGHT * terms["programs"], terms

    @torch.no_grad()
    def standardise(self, latents: Tensor) -> None:
        """From now on these (N, q) latent states, as :meth:`encode` gave them, have mean 0 and variance 1.

        Dimensions that hardly vary (standard deviation below 0.001) are only centred. Statistics are in float64.
        """
        raw = latents.double() * self.latent_sd.double() + self.latent_mean.double()
        self.latent_mean.copy_(raw.mean(dim=0))
        self.latent_sd.copy_(raw.std(dim=0, correction=0).clamp(min=LOWEST_LATENT_SD))

    def _scaled(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.sd

    def _raw(self, scaled: Tensor) -> Tensor:
        return scaled @ self.to_latent + self.encoder(scaled)

    def _genes(self, raw: Tensor) -> Tensor:
        return raw @ self.to_genes + self.decoder(raw)


class PretrainModule(BaseModuleClass):
    """Trains an autoencoder on the cells of conditions and on their controls.

    Parameters
    ----------
    network
        What is trained.
    """

    def __init__(self, network: ProgramAutoencoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Any], LossOutput]:
        """Loss of a batch with ``X`` and ``control_X`` (C, n, G), every cell alike, and its terms."""
        cells = torch.cat([tensors[name].flatten(end_dim=-2) for name in ("X", "control_X")])
        loss, terms = self.network.loss(cells)
        return {}, {}, LossOutput(loss=loss, n_obs_minibatch=len(cells), extra_metrics=terms)


def _perceptron(n_in: int, n_out: int) -> nn.Sequential:
    hidden = nn.Sequential(nn.Linear(n_in, HIDDEN), nn.LayerNorm(HIDDEN), nn.GELU())
    return nn.Sequential(*hidden, starting_at_zero(nn.Linear(HIDDEN, n_out)))
