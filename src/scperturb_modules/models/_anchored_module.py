"""Networks that add to the anchor: rows as they see them, the loss on anchor + gate x residual; torch only."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

import torch
from scvi.module.base import BaseModuleClass, LossOutput
from torch import Tensor, nn

from scperturb_modules.models._anchored_settings import AnchoredSettings
from scperturb_modules.nn import at_least_float32, squared_error

KINDS = ("single", "combination")


class Answer(NamedTuple):
    """What a network says of B rows: (M, B, G) residual, (M, B) inner gate.

    Where the network has them: attention of any form, and the (M, B, G) log variance of the residual's error.
    """

    residual: Tensor
    gate: Tensor
    attention: Tensor | None = None
    log_variance: Tensor | None = None


class Rows(NamedTuple):
    """B conditions of at most k genes each, as a network sees them.

    ``node`` (B, k) int64; ``present`` (B, k) 0 or 1; ``measured`` (m, B, k), whether a gene counts as measured, m = 1
    or M; ``measured_part`` and ``expected_part`` (B, k, G), what a gene brings to the anchor if it does and if it does
    not; ``context`` (B,) int64.
    """

    node: Tensor
    present: Tensor
    measured: Tensor
    measured_part: Tensor
    expected_part: Tensor
    context: Tensor

    def total(self, factor: Tensor) -> Tensor:
        """(m, B, G) sum over genes of ``factor`` (m, B, k) times the gene's part.

        One product per row, so that no array of members x rows x genes x outputs comes about.
        """
        both = torch.cat([factor * self.measured, factor * (self.present - self.measured)], dim=-1)
        parts = torch.cat([self.measured_part, self.expected_part], dim=1)
        return torch.matmul(both.transpose(0, 1), parts).transpose(0, 1)

    def responses(self, basis: Tensor) -> Tensor:
        """(m, B, k, K) the parts in a basis (G, K)."""
        measured, expected = torch.matmul(self.measured_part, basis), torch.matmul(self.expected_part, basis)
        return torch.where(self.measured[..., None] > 0, measured, expected)


class AnchoredModule(BaseModuleClass):
    """A network that answers rows, M members at once; a subclass has :meth:`respond`.

    The loss is the weighted squared error of ``anchor + gate * residual``, divided by the mean square of the training
    changes: predicting no change costs about 1.

    Parameters
    ----------
    n_members
        M. All parameters have a leading axis of members, except those of submodules named in ``SHARED``.
    scale
        Mean square of the training changes: the unit of the loss.
    settings
        Of the model.
    """

    PER_MEMBER_BUFFERS: ClassVar[frozenset[str]] = frozenset()
    """Buffers with an axis of members."""
    SHARED: ClassVar[frozenset[str]] = frozenset()
    """Submodules that all members share."""

    settings: Any

    def __init__(self, n_members: int, scale: float, settings: AnchoredSettings) -> None:
        super().__init__()
        self.n_members, self.scale, self.settings = n_members, scale, settings

    @property
    def rows_at_once(self) -> int:
        """Rows that go through the network together where there is no gradient."""
        return 32

    @abstractmethod
    def respond(self, rows: Rows) -> Answer:
        """Response of B conditions, without the anchor."""

    def forget(self) -> None:
        """Forget what is kept between calls in evaluation: weights may have changed."""

    def forward(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Any], LossOutput]:
        """Outputs and loss of a batch of training conditions."""
        rows, anchor = self.read(tensors, p_mask=self.settings.p_mask if self.training else 0.0)
        answer = self.respond(rows)
        step = answer.gate[..., None] * answer.residual
        difference = tensors["target"] - anchor
        output = (
            self._training_loss(tensors, difference, step, answer.log_variance)
            if self.training
            else moments(tensors, difference, step, self.scale)
        )
        return {}, {"residual": step, "anchor": anchor}, output

    def read(
        self, tensors: Mapping[str, Tensor], *, p_mask: float = 0.0, masked: Tensor | None = None
    ) -> tuple[Rows, Tensor]:
        """Rows of a batch and their anchors (m, B, G).

        ``p_mask``: share of measured parts of combinations that are shown as not measured; ``masked`` (B, k): which.
        """
        present, measured = tensors["present"], tensors["measured"][None]
        if p_mask:
            hidden = torch.rand(self.n_members, *present.shape, device=present.device) < p_mask
            measured = measured * ~(hidden & (present.sum(dim=1) > 1)[None, :, None])
        if masked is not None:
            measured = measured * ~masked
        rows = Rows(
            tensors["node"],
            present,
            measured.to(present.dtype) * present,
            tensors["measured_part"],
            tensors["expected_part"],
            tensors["context"],
        )
        return rows, rows.total(present[None]) + tensors["offset"]

    def _training_loss(
        self, tensors: Mapping[str, Tensor], difference: Tensor, step: Tensor, log_variance: Tensor | None
    ) -> LossOutput:
        error = squared_error(difference - step, tensors["gene_weight"]) / self.scale
        loss = mean_over_rows(tensors, error)
        return LossOutput(loss=loss, n_obs_minibatch=len(difference), extra_metrics={})

    def validation_loss(self, means: Mapping[str, float]) -> float:
        """Held-out squared error against that of the anchor, with the best gate for singles and for combinations.

        0 is as good as the anchor, below 0 is better.
        """
        total = 0.0
        for kind in KINDS:
            product, square = means[f"product_{kind}"], means[f"square_{kind}"]
            factor = min(max(product / square, 0.0), 1.0) if square > 0 else 0.0
            factor = factor if self.settings.gate else 1.0
            total += factor**2 * square - 2 * factor * product
        return total

    def subset(self, members: slice) -> Self:
        """A copy with some of the members only, in evaluation mode."""
        twin = copy.deepcopy(self)
        n_members = len(range(*members.indices(self.n_members)))
        for path, module in twin.named_modules():
            if path.split(".")[0] in self.SHARED:
                continue
            if hasattr(module, "n_members"):
                module.n_members = n_members
            # whatever has an axis of members has it first
            for name, value in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(value.detach()[members].clone(), requires_grad=False))
            for name in self.PER_MEMBER_BUFFERS & dict(module.named_buffers(recurse=False)).keys():
                module.register_buffer(name, getattr(module, name)[members].clone())
        twin.eval()
        return twin

    def train(self, mode: bool = True) -> Self:
        """Forget what was kept: weights may change."""
        self.forget()
        return super().train(mode)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Forget what was kept: weights change."""
        self.forget()
        return super().load_state_dict(*args, **kwargs)


def mean_over_rows(tensors: Mapping[str, Tensor], error: Tensor) -> Tensor:
    """Mean over members of the mean of (M, B) errors over the rows that the member is trained on, by their weight."""
    weight = (tensors["trains"] * (tensors["row_weight"] * tensors["weight"])[:, None]).T
    return ((error * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-6)).mean()


def moments(tensors: Mapping[str, Tensor], difference: Tensor, step: Tensor, scale: float) -> LossOutput:
    """What is needed to judge the held-out rows under any gate, as weighted means over rows and members."""
    weight = tensors["held_out"] * (tensors["row_weight"] * tensors["weight"])[:, None]
    total = weight.sum()
    difference, step = at_least_float32(difference), at_least_float32(step)
    product = (difference * step).mean(dim=-1) / scale
    square = step.square().mean(dim=-1) / scale
    metrics = {"loss_weight": total}
    for kind, chosen in zip(KINDS, (tensors["is_combination"] == 0, tensors["is_combination"] > 0), strict=True):
        share = (weight * chosen[:, None]).T / total.clamp(min=1e-6)
        metrics |= {f"product_{kind}": (product * share).sum(), f"square_{kind}": (square * share).sum()}
    loss = metrics["square_single"] + metrics["square_combination"]
    loss = loss - 2 * (metrics["product_single"] + metrics["product_combination"])
    return LossOutput(loss=loss, n_obs_minibatch=len(difference), extra_metrics=metrics)
