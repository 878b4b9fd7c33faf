"""Training conditions as new ones: predicted by the members that left them out, for the epoch and for the gates."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from scperturb_modules._conditions import regime_by_seen
from scperturb_modules.baselines import TrainingData
from scperturb_modules.models._anchored_module import AnchoredModule
from scperturb_modules.models._folds import Members
from scperturb_modules.models._gate import LeftOut
from scperturb_modules.models._rows import Arrays

Mask = NDArray[np.bool_]


def rows_for_the_epoch(data: TrainingData, members: Members) -> Mask:
    """(P, M) which left-out rows tell the epoch: singles of unseen genes, and combinations of measured genes."""
    hides: Mask = np.array([bool(genes) for genes in members.hidden_genes], dtype=bool)
    is_fold = np.arange(len(hides)) >= members.n_members
    right_kind = np.where(data.order[:, None] == 1, hides, is_fold & ~hides)
    return members.held_out & (right_kind | members.left_out_by_all[:, None])


def regime_unmeasured(data: TrainingData, row: int, hidden: Collection[str] = ()) -> str:
    """Regime of a training condition had it not been measured, and its hidden genes neither."""
    genes, (_, context) = data.genes[row], data.rows[row]
    # not by the parts of the anchor, of which anchor="zero" has none
    n_seen = sum(gene not in hidden and data.single(gene, context) is not None for gene in genes)
    return regime_by_seen(len(genes), n_seen)


@dataclass(frozen=True)
class Judged:
    """One left-out row as a new one, predicted by the members that did not see it; of G genes each.

    ``difference`` is the measured change minus the anchor; ``residual`` and, where there is one, ``variance`` of its
    error are means over the members.
    """

    row: int
    regime: str
    difference: NDArray[np.float64]
    residual: NDArray[np.float64]
    variance: NDArray[np.float64] | None


def left_out_rows(module: AnchoredModule, arrays: Arrays, data: TrainingData, members: Members) -> Iterator[Judged]:
    """Predict every left-out row by the members that did not see it, under every regime that it can stand for."""
    for hidden, judges in _ways_to_leave_out(data, members):
        rows = np.flatnonzero(judges.any(axis=1))
        for start in range(0, len(rows), module.rows_at_once):
            piece = rows[start : start + module.rows_at_once]
            answers = _judge(module, arrays, piece, _masked(data, arrays, piece, hidden), judges[piece])
            for row, (difference, residual, variance) in zip(piece, answers, strict=True):
                yield Judged(int(row), regime_unmeasured(data, row, hidden), difference, residual, variance)


def products_over_genes(rows: Iterable[Judged]) -> LeftOut:
    """The left-out rows as inner products over genes, for the gates."""
    found = [
        (
            one.row,
            one.regime,
            one.difference @ one.residual,
            one.residual @ one.residual,
            one.difference @ one.difference,
        )
        for one in rows
    ]
    row, regime, product, square, anchor_square = zip(*found, strict=True) if found else ((),) * 5
    return LeftOut(
        np.array(row, np.intp), list(regime), *(np.array(one, np.float64) for one in (product, square, anchor_square))
    )


def _ways_to_leave_out(data: TrainingData, members: Members) -> list[tuple[frozenset[str], Mask]]:
    """Genes that count as not measured, and (P, M) which rows to judge by which members."""
    validation = members.left_out_by_all[:, None]
    ways = []
    for hidden in dict.fromkeys(members.hidden_genes):
        same: Mask = np.array([one == hidden for one in members.hidden_genes], dtype=bool)
        # without hidden genes: pairs of measured genes; what the user calls validation is judged by all members
        judged = ~validation if hidden else (data.order[:, None] > 1) | validation
        ways.append((hidden, members.held_out & same & judged))
    return ways


def _masked(data: TrainingData, arrays: Arrays, rows: NDArray[np.intp], hidden: Collection[str]) -> Mask:
    """(n, k) which genes of the rows are hidden."""
    masked = np.zeros((len(rows), arrays["present"].shape[1]), dtype=bool)
    for i, row in enumerate(rows):
        masked[i, : len(data.genes[row])] = [gene in hidden for gene in data.genes[row]]
    return masked


def _judge(
    module: AnchoredModule, arrays: Arrays, rows: NDArray[np.intp], masked: Mask, judges: Mask
) -> Iterator[tuple[NDArray, NDArray, NDArray | None]]:
    """Change minus anchor, residual and variance of each row; means over its judges (n, M)."""
    batch = {name: torch.as_tensor(values[rows], device=module.device) for name, values in arrays.items()}
    weight = torch.tensor(judges.T / np.maximum(judges.sum(axis=1), 1), device=module.device)[..., None]
    with torch.no_grad():
        seen, anchor = module.read(batch, masked=torch.tensor(masked, device=module.device))
        answer = module.respond(seen)
        residual = ((answer.gate[..., None] * answer.residual).double() * weight).sum(dim=0)
        variance = None
        if answer.log_variance is not None:
            variance = (answer.log_variance.double().exp() * weight).sum(dim=0).cpu().numpy()
        difference = (batch["target"] - anchor[0]).double()
    of_rows = [None] * len(rows) if variance is None else list(variance)
    return zip(difference.cpu().numpy(), residual.cpu().numpy(), of_rows, strict=True)
