"""Models whose network adds to the anchor: members, folds, gates and answers, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import MEASURED, Row, genes_of, regimes_of
from scperturb_modules.baselines import Anchor
from scperturb_modules.baselines._intervals import Intervals, LeftOut
from scperturb_modules.baselines._prediction import Response
from scperturb_modules.baselines._training import control_label, named_rows
from scperturb_modules.dataloaders import ConditionDataModule, PseudobulkDataset
from scperturb_modules.dataloaders._dataset import StepDataset
from scperturb_modules.models._anchored_module import AnchoredModule, Answer
from scperturb_modules.models._anchored_settings import AnchoredSettings
from scperturb_modules.models._base import NetworkAnswer, PerturbationModel
from scperturb_modules.models._folds import Members, deal_members
from scperturb_modules.models._gate import CLOSED, OPEN, TOO_FEW, Gate, fit_gates, gates_from_plain, gates_to_plain
from scperturb_modules.models._left_out import (
    Judged,
    left_out_rows,
    products_over_genes,
    regime_unmeasured,
    rows_for_the_epoch,
)
from scperturb_modules.models._nodes import Nodes
from scperturb_modules.models._rows import Arrays, PartTable, row_arrays
from scperturb_modules.nn import effect_weights

if TYPE_CHECKING:
    from anndata import AnnData


class AnchoredModel(PerturbationModel):
    """A model that adds a network's residual, times a gate for each regime, to the anchor.

    The subclass builds ``nodes`` (by default those of all priors), ``module`` (an :class:`AnchoredModule`, by
    :meth:`_seeded`) after ``super().__init__`` and then calls ``_finish()``. It may explain what it says of each row
    (:meth:`_explanation` and :meth:`_record`) and give more than pseudobulks to learn from (:meth:`_dataset`).

    Parameters
    ----------
    adata, priors, seed
        As in :class:`PerturbationModel`.
    preset
        Name of the preset.
    settings
        All settings; each becomes an attribute.

    Attributes
    ----------
    gates
        After training: regime to the fitted gate, with the number of left-out conditions, gain and standard error.
    nodes
        The genes that the network knows, and what is known of each.
    """

    module: AnchoredModule
    settings: Any

    def __init__(self, adata: AnnData, *, priors: Any, seed: int, preset: str, settings: AnchoredSettings) -> None:
        super().__init__(adata, priors=priors, seed=seed)
        self.preset, self.settings = preset, settings
        for name, value in asdict(settings).items():
            setattr(self, name, value)
        self.returns_measured = settings.anchor != "zero"
        self.gates: dict[str, Gate] = {}
        self._predictor: AnchoredModule | None = None
        self._control = control_label(self.training)
        self._parts = PartTable(self._anchor_of_choice(), settings.anchor)
        self.nodes = Nodes.of(self.data, self.networks, self.tables)
        self._node_of = self.nodes.number
        self._members = self._deal()
        self._arrays = self._training_arrays()

    # -- building ----------------------------------------------------------------------------------------------------

    def _anchor_of_choice(self) -> Anchor:
        return self.anchor_of if self.settings.anchor == "auto" else Anchor(self.data, None, seed=self.seed)

    def _deal(self) -> Members:
        """Members and folds; rows that the user's split calls ``val`` are left out by all."""
        parts = self.training.obs.get(keys.SPLIT)
        of_row = {} if parts is None else dict(zip(self.training.obs_names, parts.astype(str), strict=True))
        return deal_members(
            [condition for condition, _ in self.data.rows],
            self.data.genes,
            np.array([of_row.get(name) == keys.VAL for name in named_rows(self.data.rows)], dtype=bool),
            n_members=self.settings.n_members,
            n_folds=self.settings.n_folds,
            seed=self.seed,
        )

    def _training_arrays(self) -> Arrays:
        """Everything that is known of the training rows, by the keys of a batch."""
        arrays = self._arrays_of(self.data.rows, training=True)
        n_cells = self.training.obs.loc[named_rows(self.data.rows), keys.N_CELLS].to_numpy(dtype=np.float64)
        row_weight, gene_weight = effect_weights(self.data.delta, self.data.se2, n_cells, gamma=self.settings.gamma)
        return arrays | {
            "target": self.data.delta.astype(np.float32),
            "row_weight": row_weight,
            "gene_weight": gene_weight,
            "is_combination": (self.data.order > 1).astype(np.float32),
            "trains": self._members.trains.astype(np.float32),
            "held_out": rows_for_the_epoch(self.data, self._members).astype(np.float32),
        }

    def _arrays_of(self, rows: Sequence[Row], *, training: bool = False) -> Arrays:
        order = max((len(genes_of(condition, control=self._control)) for condition, _ in rows), default=1)
        return row_arrays(
            rows, self._parts, self._node_of, order=max(order, 2), control=self._control, training=training
        )

    def _seeded(self, build: Callable[[], AnchoredModule]) -> Any:
        """The module; its first weights depend on the seed alone, and the caller's random state stays as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return build()

    # -- training ----------------------------------------------------------------------------------------------------

    def train(self, max_epochs: int = 100, **kwargs: Any) -> None:
        """Train; arguments are those of :meth:`PerturbationModel.train`.

        Gradients are clipped at a norm of 1 for each member on average: ``gradient_clip=`` is of all together.
        """
        kwargs.setdefault("gradient_clip", self.module.n_members**-0.5)
        super().train(max_epochs, **kwargs)

    def _datamodule(self, *, batch_size: int, num_workers: int) -> ConditionDataModule:
        trained = np.flatnonzero(self._members.trains.any(axis=1))
        judged = np.flatnonzero(self._arrays["held_out"].any(axis=1))
        return ConditionDataModule(
            self._dataset(trained),
            self._pseudobulks(judged) if len(judged) else None,
            batch_size=batch_size,
            seed=self.seed,
            num_workers=num_workers,
        )

    def _dataset(self, rows: NDArray[np.intp]) -> StepDataset:
        """What is learned of training rows."""
        return self._pseudobulks(rows)

    def _pseudobulks(self, rows: NDArray[np.intp]) -> PseudobulkDataset:
        # of the data, not of the arrays: the last bits of anchors may differ between machines
        fingerprint = str(self.training.uns[keys.ROOT][keys.PSEUDOBULK]["fingerprint"])
        return PseudobulkDataset({name: values[rows] for name, values in self._arrays.items()}, fingerprint=fingerprint)

    def _after_training(self) -> None:
        self.module.eval()
        self._predictor = None
        judged = list(left_out_rows(self.module, self._arrays, self.data, self._members))
        self.gates = fit_gates(products_over_genes(judged)) if self.settings.gate else {}
        self._after_left_out(judged)

    def _after_left_out(self, judged: Sequence[Judged]) -> None:
        """Learn from the left-out rows, each predicted by the members that did not see it, how far off one may be."""
        left_out = (self._as_predicted(one) for one in judged)
        self.intervals = Intervals.fit(self.training, named_rows(self.data.rows), left_out) if judged else None

    def _as_predicted(self, one: Judged) -> LeftOut:
        error = one.difference - self._gate_of(one.regime).factor * one.residual
        return LeftOut(one.row, one.regime, self.data.delta[one.row] - error, error)

    # -- prediction --------------------------------------------------------------------------------------------------

    def _batch(self, arrays: Arrays, rows: NDArray[np.intp]) -> dict[str, torch.Tensor]:
        device = self.module.device  # looked up once: scvi-tools walks over all parameters for it
        return {name: torch.as_tensor(values[rows], device=device) for name, values in arrays.items()}

    def _run(self, batches: Iterable[dict[str, torch.Tensor]]) -> tuple[NDArray[np.float64], list[Any]]:
        """Mean residual (P, G), and the explanation of each row.

        Of the members that saw everything, and of P batches of one row each: among others, a row's last bits depend on
        its place and on how many genes they have, even in batches of one size.
        """
        module = self._members_only()
        residual, explanations = [], []
        for batch in batches:
            with torch.no_grad():
                answer = module.respond(module.read(batch)[0])
            residual.append((answer.gate[..., None] * answer.residual).double().mean(dim=0).cpu().numpy())
            explanations.append(self._explanation(answer))
        return np.concatenate(residual), explanations

    def _members_only(self) -> Any:
        """The module without the fold members, which predict nothing but what they left out."""
        if self._predictor is None or self._predictor.device != self.module.device:
            self._predictor = self.module.subset(slice(0, self._members.n_members))
        return self._predictor

    def _explanation(self, answer: Answer) -> Any:
        """What to keep of the answer to one row, beside the residual."""
        return None

    def _record(self, explanations: Sequence[Any], regimes: Sequence[str]) -> Mapping[str, Any]:
        """``obsm``, ``layers`` and ``tables`` of the answer, from the explanations of all rows and their regimes."""
        return {}

    def _network_answer(self, rows: Sequence[Row]) -> NetworkAnswer:
        residual, explanations = self._run(self._batch(self._arrays_of([row]), np.arange(1)) for row in rows)
        regimes = [
            regime_unmeasured(self.data, self.data.index[row]) if regime == MEASURED else regime
            for row, regime in zip(rows, regimes_of(rows, self.data.index, control=self._control), strict=True)
        ]
        return NetworkAnswer(
            residual=residual,
            gate=np.array([self._gate_of(regime).factor for regime in regimes]),
            status=tuple(self._status(row, regime) for row, regime in zip(rows, regimes, strict=True)),
            **self._record(explanations, regimes),
        )

    def _gate_of(self, regime: str) -> Gate:
        return self.gates.get(regime, CLOSED) if self.settings.gate else OPEN

    def _status(self, row: Row, regime: str) -> str:
        said = []
        for gene in genes_of(row[0], control=self._control):
            number = self._node_of[gene]
            if not self.nodes.connected[number] and self.networks:
                said.append(
                    "isolated" if self.nodes.measured[number] or not self.nodes.described[number] else "prior_only"
                )
        if self.settings.gate and not self._gate_of(regime).fitted:
            said.append(TOO_FEW)
        return ";".join(dict.fromkeys(said))

    def _anchor_responses(self, rows: Sequence[Row]) -> list[Response]:
        if self.settings.anchor in ("auto", "mean"):
            return [self._parts.anchor.of(genes_of(one, control=self._control), context) for one, context in rows]
        return [self._plain_anchor(row) for row in rows]

    def _plain_anchor(self, row: Row) -> Response:
        """Sum of measured singles, and 0 for the others."""
        genes = genes_of(row[0], control=self._control)
        measured = [self._parts.measured(gene, row[1]) for gene in genes]
        known = [one for one in measured if one is not None]
        total = np.sum(known, axis=0) if known else np.zeros(len(self.data.var_names))
        total = self._parts.factor(genes, row[1]) * total + self._parts.offset(genes, row[1])
        return Response(total, "shrunken" if known else "zero")

    # -- saving ------------------------------------------------------------------------------------------------------

    def _facts(self) -> dict[str, str]:
        gates = [f"{regime} {gate.factor:.2f} (n = {gate.n})" for regime, gate in self.gates.items()]
        return {"gates": ", ".join(gates)}

    def _fitted(self) -> dict[str, Any]:
        intervals = None if self.intervals is None else self.intervals.to_plain()
        return {"gates": gates_to_plain(self.gates), "intervals": intervals}

    def _restore(self, fitted: Mapping[str, Any]) -> None:
        self.gates = gates_from_plain(fitted["gates"])
        stored = fitted.get("intervals")
        self.intervals = None if stored is None else Intervals.from_plain(stored)
        self._predictor = None
