"""Training of the flow: matched controls to perturbed cells, and alignment of what is generated with what is real."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from scvi.module.base import BaseModuleClass, LossOutput
from torch import Tensor

from scperturb_modules.models._anchored_module import Rows
from scperturb_modules.models.scbig._alignment import correlation_loss, distribution_loss
from scperturb_modules.models.scbig._generator import CellGenerator
from scperturb_modules.nn import couple, flow_pair

Read = Callable[..., tuple[Rows, Tensor]]


class FlowModule(BaseModuleClass):
    """Trains the flow of a generator whose autoencoder stays put.

    Parameters
    ----------
    generator
        What is trained, but for its autoencoder.
    read
        From a batch to rows; takes which genes are ``masked``.
    change, shift
        (P, G) mean change from which the cells of each training condition start, and (P, q) the same in the latent.
    covariance
        (P, K, K) of program activities among the cells of each training condition.

    Notes
    -----
    A batch has ``X`` and ``control_X`` (C, n, q + K): latent states and program activities of cells, in one array.
    """

    def __init__(self, generator: CellGenerator, read: Read, change: Tensor, shift: Tensor, covariance: Tensor) -> None:
        super().__init__()
        self.generator, self._read = generator, read
        self.settings = generator.settings
        self._change, self._shift, self._covariance = change, shift, covariance
        self._step = 0
        generator.autoencoder.requires_grad_(False)

    def forward(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Any], LossOutput]:
        """Losses of a batch."""
        split = [self.generator.n_latent, self.generator.projection.shape[1]]
        controls, control_activity = tensors["control_X"].split(split, dim=-1)
        cells, activity = tensors["X"].split(split, dim=-1)
        group, weight = tensors["group"].to(self._shift.device), tensors["weight"]
        start = controls + self._shift[group][:, None]
        condition = self.generator.condition(self._rows(tensors))
        error = self._matching(start, cells, self._with_gaps(condition))
        # controls stay where they are under the empty set
        rest = self._matching(controls[:1], controls[:1], self.generator.conditions.control[None])
        loss = (error * weight).sum() / weight.sum().clamp(min=1e-6) + rest.mean() / len(start)
        metrics = {"matching": loss.detach()}
        if self._aligns():
            moved = control_activity + (self._change[group] @ self.generator.projection)[:, None]
            generated = moved + self._deviation(start, condition)
            of_alignment, said = self._alignment(generated, activity, self._covariance[group])
            loss, metrics = loss + of_alignment, metrics | said
        self._step += 1
        return {}, {}, LossOutput(loss=loss, n_obs_minibatch=len(start), extra_metrics=metrics)

    def _rows(self, tensors: Mapping[str, Tensor]) -> Rows:
        """Rows in which some measured genes are hidden, so that unmeasured ones are nothing new."""
        hidden = torch.rand_like(tensors["present"]) < self.settings.p_mask
        return self._read(tensors, masked=hidden)[0]

    def _with_gaps(self, condition: Tensor) -> Tensor:
        """Some entries are 0, and some conditions unknown."""
        settings, null = self.settings, self.generator.unknown(condition)
        condition = torch.nn.functional.dropout(condition, settings.condition_dropout, self.training)
        if null is None or not self.training:
            return condition
        unknown = torch.rand(len(condition), 1, device=condition.device) < settings.p_unconditional
        return torch.where(unknown, null, condition)

    def _matching(self, start: Tensor, cells: Tensor, condition: Tensor) -> Tensor:
        """(C,) mean squared error of the velocity between coupled cells; of the displacement where there is no flow."""
        end = torch.take_along_dim(cells, self._partner(start, cells)[..., None], dim=1)
        if not self.settings.use_flow:
            displacement = self.generator.velocity(start.new_zeros(len(start)), start, condition)
            return (start + displacement - end).square().mean(dim=(1, 2))
        t = torch.rand(start.shape[:2], dtype=start.dtype, device=start.device)
        state, wanted = flow_pair(start, end, t, self.settings.sigma, torch.randn_like(start))
        return (self.generator.velocity(t, state, condition) - wanted).square().mean(dim=(1, 2))

    def _partner(self, start: Tensor, cells: Tensor) -> Tensor:
        if self.settings.coupling == "ot":
            return couple(start, cells, eps=self.settings.ot_eps)
        return torch.rand(start.shape[:2], device=start.device).argsort(dim=1)

    def _aligns(self) -> bool:
        weights = self.settings.w_correlation + self.settings.w_distribution
        return weights > 0 and self._step % self.settings.align_every == 0

    def _deviation(self, start: Tensor, condition: Tensor) -> Tensor:
        """(C, n, K) what the flow adds to program activities; centred where it is not to move the mean."""
        end = self.generator.transport(start, condition, differentiable=True)
        found = self.generator.deviation(start, end) @ self.generator.projection
        return found - found.mean(dim=1, keepdim=True) if self.settings.mean_of == "programs" else found

    def _alignment(self, generated: Tensor, real: Tensor, covariance: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        settings = self.settings
        loss = generated.new_zeros(())
        said: dict[str, Tensor] = {}
        terms = ("correlation", settings.w_correlation, correlation_loss, covariance), (
            "distribution", settings.w_distribution, distribution_loss, real
        )  # fmt: skip
        for name, weight, of, wanted in terms:
            if weight:
                value, diagnostics = of(generated, wanted)
                loss = loss + weight * value
                said |= {name: value.detach()} | {f"{name}_{part}": one for part, one in diagnostics.items()}
        return loss, said
