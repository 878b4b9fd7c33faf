"""The data stream of BioDSNN: regenerated control cells, and changes that depend on their state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from scvi.module.base import BaseModuleClass, LossOutput
from torch import Tensor, nn

from scperturb_modules.models.biodsnn._settings import BioDsnnSettings
from scperturb_modules.nn import ControlVae, MemberLinear, active_dimensions, energy_distance, variance_error

LEAST_VARIANCE = 1e-2
"""Differences of variances below this do not matter (log1p CP10k, squared)."""

WARM_UP = 0.2
"""Share of the steps over which the weight of the KL term rises from 0."""


@dataclass(frozen=True)
class StreamShape:
    """What the data stream is built from, of the training control cells.

    Parameters
    ----------
    mean, sd
        (G,) of each gene.
    components
        (G, q) principal components, the state of a cell where there is no autoencoder.
    """

    mean: Tensor
    sd: Tensor
    components: Tensor


class DataStream(nn.Module):
    """State of control cells, and how the change of a condition varies with it.

    The change of a cell c of condition k is ``change_k + T_k s_c / sqrt(R)`` with
    ``T_k = mean_m (tanh(Z_k B) - tanh(Z_0 B))``, ``s_c = A (state_c - mean state of the training controls)`` and R the
    rank. Since s is centred, the mean over all training controls is the change of the condition exactly.

    Parameters
    ----------
    n_members, shape, settings
        Members that predict; what is known of control cells; all settings.
    """

    components: Tensor
    centre: Tensor
    mean: Tensor
    n_seen: Tensor

    def __init__(self, n_members: int, shape: StreamShape, settings: BioDsnnSettings) -> None:
        super().__init__()
        rank = settings.modulation_rank
        self.settings, self.n_steps = settings, 1
        self.vae = None
        if settings.use_vae:
            self.vae = ControlVae(
                len(shape.mean), hidden=settings.vae_hidden, n_latent=settings.n_latent, mean=shape.mean, sd=shape.sd
            )
        self.register_buffer("mean", shape.mean)
        self.register_buffer("components", shape.components)
        self.register_buffer("centre", torch.zeros(settings.n_latent))
        self.register_buffer("n_seen", torch.zeros((), dtype=torch.int64))
        self.of_state = nn.Linear(settings.n_latent, rank, bias=False) if rank else None
        self.of_genes = MemberLinear(n_members, settings.d, rank, bias=False) if rank else None

    def state(self, cells: Tensor) -> Tensor:
        """(..., G) cells to (..., q) their states, without a random draw."""
        if self.vae is None:
            return (cells - self.mean) @ self.components
        return self.vae.encode(cells)[0]

    def regenerated(self, cells: Tensor) -> Tensor:
        """(..., G) control cells as the autoencoder gives them back, zeros still 0; without one, as they are."""
        return cells if self.vae is None else self.vae.regenerate(cells, self.vae.sample(*self.vae.encode(cells)))

    def sensitivity(self, z: Tensor, z_0: Tensor) -> Tensor:
        """(K, G, R) T of K conditions from their encoded genes (M, K, G, d), and those of the unperturbed cell."""
        assert self.of_genes is not None
        return (torch.tanh(self.of_genes(z)) - torch.tanh(self.of_genes(z_0))).mean(dim=0)

    def deviation(self, sensitivity: Tensor, state: Tensor, centre: Tensor) -> Tensor:
        """(K, C, G) what each of C cells of K conditions adds to the change, from T and states (K, C, q)."""
        assert self.of_state is not None
        s = self.of_state(state - centre)
        return torch.einsum("kcr,kgr->kcg", s, sensitivity) / s.shape[-1] ** 0.5

    def of_controls(self, cells: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of control cells (..., G), and its terms."""
        assert self.vae is not None
        terms = self.vae.loss(cells)
        share = min(float(self.n_seen) / max(WARM_UP * self.n_steps, 1.0), 1.0)
        self.n_seen += 1
        loss = self.settings.w_reconstruction * terms["reconstruction"] + self.settings.w_kl * share * terms["kl"]
        with torch.no_grad():
            active = float(active_dimensions(self.state(cells)))
        return loss, {**terms, "active_dimensions": torch.tensor(active)}

    def of_cells(self, sensitivity: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Terms of the cell part: spread of predicted cells by gene, and where they lie among the states.

        Predicted cells are the control cells themselves, moved by the measured change of their condition and by what
        their state adds: what a regenerated cell lacks of the spread of a real one is not made good here.
        """
        controls, true = batch["control_X"], batch["X"]
        with frozen(self.vae):
            states = self.state(controls).detach()
            centre = states.mean(dim=(0, 1))
            predicted = controls + batch["target"][:, None] + self.deviation(sensitivity, states, centre)
            energy = energy_distance(self.state(predicted), self.state(true).detach())
        return {"spread": variance_error(predicted, true, eps=LEAST_VARIANCE).mean(), "energy": energy.mean()}


class StreamModule(BaseModuleClass):
    """Trains a data stream on cells, with the encoded genes of each condition from a knowledge stream that stays put.

    Parameters
    ----------
    stream
        What is trained.
    encode
        From a batch to ``Z`` (M, K, G, d) and ``Z_0`` (M, 1, G, d) of the members that predict, without gradients.
    """

    def __init__(self, stream: DataStream, encode: Any) -> None:
        super().__init__()
        self.stream = stream
        self._encode = encode

    def forward(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Any], LossOutput]:
        """Outputs and loss of a batch with cells and their controls."""
        settings = self.stream.settings
        losses: list[Tensor] = []
        metrics: dict[str, Tensor] = {}
        if self.stream.vae is not None:
            loss, metrics = self.stream.of_controls(tensors["control_X"])
            losses.append(loss)
        if self.stream.of_genes is not None:
            terms = self.stream.of_cells(self.stream.sensitivity(*self._encode(tensors)), tensors)
            losses.append(settings.w_cell * (terms["spread"] + terms["energy"]))
            metrics = metrics | terms
        total = torch.stack(losses).sum()
        return {}, {}, LossOutput(loss=total, n_obs_minibatch=len(tensors["target"]), extra_metrics=metrics)


@contextmanager
def frozen(module: nn.Module | None) -> Iterator[None]:
    """Gradients pass through the module, and none reaches its parameters."""
    parameters = [] if module is None else [one for one in module.parameters() if one.requires_grad]
    for one in parameters:
        one.requires_grad_(False)
    try:
        yield
    finally:
        for one in parameters:
            one.requires_grad_(True)
