"""APP: attention over all genes from the context of a perturbation, on top of what singles and neighbours say."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import (
    HIGHER_ORDER,
    PAIR_0OF2,
    PAIR_1OF2,
    PAIR_2OF2,
    SINGLE_UNSEEN,
    Row,
    genes_of,
    regimes_of,
    row_name,
)
from scperturb_modules._errors import ScreenWarning
from scperturb_modules.baselines import Anchor, as_tables
from scperturb_modules.baselines._training import control_label
from scperturb_modules.dataloaders import ConditionDataModule, PseudobulkDataset
from scperturb_modules.models._base import NetworkAnswer, PerturbationModel
from scperturb_modules.models._gate import CLOSED, TOO_FEW, Gate, LeftOut, fit_gates, gates_from_plain, gates_to_plain
from scperturb_modules.models.app._attention import total_variation
from scperturb_modules.models.app._folds import Members, deal_members
from scperturb_modules.models.app._inputs import Nodes, make_shape
from scperturb_modules.models.app._module import AppModule, AppShape
from scperturb_modules.models.app._rows import Arrays, PartTable, row_arrays
from scperturb_modules.models.app._settings import AppSettings, settings_of
from scperturb_modules.nn import effect_weights

if TYPE_CHECKING:
    from anndata import AnnData

CHUNK = 32
"""Rows that go through the network together in prediction. Always as many, padded, so that a row's numbers do not depend
on what else was asked."""

_PAIR_BY_MEASURED = (PAIR_0OF2, PAIR_1OF2, PAIR_2OF2)


class APP(PerturbationModel):
    """Predict changes of expression from gene networks, attention over all genes, and measured singles."""

    key: ClassVar[str] = "app"
    options: ClassVar[tuple[str, ...]] = ("preset", "seed", *(field.name for field in fields(AppSettings)))

    def __init__(
        self, adata: AnnData, *, priors: Any = None, preset: str = "tool", seed: int = 0, **settings: Any
    ) -> None:
        self.preset, self.settings = preset, settings_of(preset, settings)
        super().__init__(adata, priors=priors, seed=seed)
        vars(self).update(asdict(self.settings))
        self.gates: dict[str, Gate] = {}
        self.attention_tv: float | None = None
        self._control = control_label(self.training)
        self._parts = PartTable(self._anchor_of_choice(), self.settings.anchor)
        tables = as_tables(priors)
        self.nodes = Nodes.of(self.data, self.networks, tables)
        self._node_of = self.nodes.number
        self._members = self._deal()
        self._arrays = self._training_arrays()
        shape = make_shape(
            self.training, self.data, self.nodes, self.networks, tables, self._arrays, self._members, self.settings
        )
        self.module = self._seeded_module(shape)
        if preset != "paper":
            self.module.spread_attention(self._batch(self._arrays, np.arange(len(self.data.rows))))
        self._finish()

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
            np.array([of_row.get(row_name(*row)) == keys.VAL for row in self.data.rows], dtype=bool),
            n_members=self.settings.n_members,
            n_folds=self.settings.n_folds,
            seed=self.seed,
        )

    def _training_arrays(self) -> Arrays:
        """Everything that is known of the training rows, by the keys of a batch."""
        arrays = self._arrays_of(self.data.rows, training=True)
        names = [row_name(*row) for row in self.data.rows]
        n_cells = self.training.obs.loc[names, keys.N_CELLS].to_numpy(dtype=np.float64)
        row_weight, gene_weight = effect_weights(self.data.delta, self.data.se2, n_cells, gamma=self.settings.gamma)
        return arrays | {
            "target": self.data.delta.astype(np.float32),
            "row_weight": row_weight,
            "gene_weight": gene_weight,
            "is_combination": (self.data.order > 1).astype(np.float32),
            "trains": self._members.trains.astype(np.float32),
            "held_out": self._judged().astype(np.float32),
        }

    def _judged(self) -> NDArray[np.bool_]:
        """(P, M) which left-out rows tell the epoch: singles of unseen genes, and combinations of measured genes."""
        hides = np.array([bool(genes) for genes in self._members.hidden_genes])
        is_fold = np.arange(len(hides)) >= self._members.n_members
        single = (self.data.order == 1)[:, None]
        right_kind = np.where(single, hides, is_fold & ~hides)
        validation = self._members.held_out[:, : self._members.n_members].any(axis=1)[:, None]
        return self._members.held_out & (right_kind | validation)

    def _arrays_of(self, rows: Sequence[Row], *, training: bool = False) -> Arrays:
        order = max((len(genes_of(condition, control=self._control)) for condition, _ in rows), default=1)
        return row_arrays(
            rows, self._parts, self._node_of, order=max(order, 2), control=self._control, training=training
        )

    def _seeded_module(self, shape: AppShape) -> AppModule:
        """The module; its first weights depend on the seed alone, and the caller's random state stays as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return AppModule(shape, self.settings)

    # -- training ----------------------------------------------------------------------------------------------------

    def _datamodule(self, *, batch_size: int, num_workers: int) -> ConditionDataModule:
        trained = np.flatnonzero(self._members.trains.any(axis=1))
        judged = np.flatnonzero(self._arrays["held_out"].any(axis=1))
        validation = PseudobulkDataset(self._taken(judged)) if len(judged) else None
        return ConditionDataModule(
            PseudobulkDataset(self._taken(trained)),
            validation,
            batch_size=batch_size,
            seed=self.seed,
            num_workers=num_workers,
        )

    def _taken(self, rows: NDArray[np.intp]) -> Arrays:
        return {name: values[rows] for name, values in self._arrays.items()}

    def _after_training(self) -> None:
        self.module.eval()
        self.gates = fit_gates(self._left_out()) if self.settings.gate else {}
        self._predictor = None
        self._attend_to_training()

    def _left_out(self) -> LeftOut:
        """Predict every left-out row by the members that did not see it, under every regime that it can stand for."""
        found: dict[str, list[Any]] = {"row": [], "regime": [], "product": [], "square": [], "anchor_square": []}
        for hidden, chosen in self._ways_to_leave_out():
            rows = np.flatnonzero(chosen.any(axis=1))
            masked = np.zeros((len(rows), self._arrays["present"].shape[1]), dtype=bool)
            for i, row in enumerate(rows):
                masked[i, : len(self.data.genes[row])] = [gene in hidden for gene in self.data.genes[row]]
            for start in range(0, len(rows), CHUNK):
                piece = slice(start, start + CHUNK)
                batch = self._batch(self._arrays, rows[piece])
                self._judge(batch, rows[piece], masked[piece], chosen[rows[piece]], found)
        return LeftOut(
            np.array(found["row"], np.intp),
            found["regime"],
            *(np.array(found[name], np.float64) for name in ("product", "square", "anchor_square")),
        )

    def _ways_to_leave_out(self) -> list[tuple[frozenset[str], NDArray[np.bool_]]]:
        """Genes that count as not measured, and (P, M) which rows to judge by which members."""
        members = self._members
        validation = members.held_out[:, : members.n_members].any(axis=1)
        ways = []
        for hidden in dict.fromkeys(members.hidden_genes):
            same = np.array([one == hidden for one in members.hidden_genes])
            if not hidden:
                # pairs of measured genes; what the user calls validation is judged by all members
                combinations = members.held_out & same & (self.data.order > 1)[:, None]
                ways.append((hidden, combinations | (members.held_out & same & validation[:, None])))
            else:
                ways.append((hidden, members.held_out & same & ~validation[:, None]))
        return ways

    def _judge(
        self,
        batch: dict[str, torch.Tensor],
        rows: NDArray[np.intp],
        masked: NDArray[np.bool_],
        by: NDArray[np.bool_],
        found: dict[str, list[Any]],
    ) -> None:
        with torch.no_grad():
            seen, anchor = self.module.read(batch, masked=torch.tensor(masked, device=self.module.device))
            answer = self.module.respond(seen)
            step = (answer.gate[..., None] * answer.residual).double()
        weight = torch.tensor(by.T / np.maximum(by.sum(axis=1), 1), device=step.device)
        step = (step * weight[..., None]).sum(dim=0)
        difference = (batch["target"] - anchor[0]).double()
        measured = (seen.measured[0] * seen.present).sum(dim=1).tolist()
        for i, row in enumerate(rows):
            found["row"].append(row)
            found["regime"].append(_regime(len(self.data.genes[row]), int(measured[i])))
            found["product"].append(float(difference[i] @ step[i]))
            found["square"].append(float(step[i] @ step[i]))
            found["anchor_square"].append(float(difference[i] @ difference[i]))

    def _attend_to_training(self) -> None:
        """How much attention depends on the perturbation; warn where it hardly does."""
        if self.module.attention is None:
            return
        _, attention = self._run(self._arrays, len(self.data.rows))
        self.attention_tv = total_variation(attention.mean(dim=0))
        if self.attention_tv < keys.LOW_ATTENTION_TV and self.settings.attention == "all":
            warnings.warn(
                f"APP: attention hardly depends on the perturbation (TV = {self.attention_tv:.3f}); do not read it as an "
                "explanation.",
                ScreenWarning,
                stacklevel=2,
            )

    # -- prediction --------------------------------------------------------------------------------------------------

    def _batch(self, arrays: Arrays, rows: NDArray[np.intp]) -> dict[str, torch.Tensor]:
        return {name: torch.as_tensor(values[rows], device=self.module.device) for name, values in arrays.items()}

    def _run(self, arrays: Arrays, n: int) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
        """Residuals (M, P, G), inner gates (M, P) and attention (M, P, N) of the members that saw everything."""
        module = self._members_only()
        residual, gate, attention = [], [], []
        for start in range(0, n, CHUNK):
            rows = np.arange(start, min(start + CHUNK, n))
            padded = np.concatenate([rows, np.zeros(CHUNK - len(rows), np.intp)])
            with torch.no_grad():
                seen, _ = module.read(self._batch(arrays, padded))
                answer = module.respond(seen)
            residual.append(answer.residual[:, : len(rows)])
            gate.append(answer.gate[:, : len(rows)])
            if answer.attention is not None:
                attention.append(answer.attention[:, : len(rows)])
        joined = torch.cat(attention, dim=1) if attention else torch.empty(0)
        return (torch.cat(residual, dim=1), torch.cat(gate, dim=1)), joined

    def _members_only(self) -> AppModule:
        """The module without the fold members, which predict nothing but what they left out."""
        if self._predictor is None:
            self._predictor = self.module.subset(slice(0, self._members.n_members))
        return self._predictor

    def _network_answer(self, rows: Sequence[Row]) -> NetworkAnswer:
        arrays = self._arrays_of(rows)
        (residual, inner), attention = self._run(arrays, len(rows))
        regimes = regimes_of(rows, self.data.index, control=self._control)
        gates = np.array([self._gate_of(regime).factor for regime in regimes])
        mean = (inner[..., None] * residual).double().mean(dim=0).cpu().numpy()
        status = [self._status(row, regime) for row, regime in zip(rows, regimes, strict=True)]
        return NetworkAnswer(
            residual=mean,
            gate=gates,
            status=tuple(status),
            tables={} if self.module.attention is None else self._attention_record(attention, rows),
            obsm={},
        )

    def _gate_of(self, regime: str) -> Gate:
        if not self.settings.gate:
            return Gate(1.0, 1.0, 0, float("nan"), float("nan"))
        return self.gates.get(regime, CLOSED)

    def _status(self, row: Row, regime: str) -> str:
        said = []
        for gene in genes_of(row[0], control=self._control):
            number = self._node_of[gene]
            if not self.nodes.connected[number] and self.networks:
                said.append("isolated" if self.nodes.measured[number] or not self.nodes.described[number] else "prior_only")
        if self.settings.gate and not self._gate_of(regime).fitted:
            said.append(TOO_FEW)
        return ";".join(dict.fromkeys(said))

    def _attention_record(self, attention: torch.Tensor, rows: Sequence[Row]) -> dict[str, Any]:
        return {
            keys.ATTENTION: attention.mean(dim=0).cpu().numpy(),
            keys.ATTENTION_SD: attention.std(dim=0, correction=0).cpu().numpy(),
            keys.ATTENTION_TV: float(self.attention_tv or 0.0),
        }

    # -- saving ------------------------------------------------------------------------------------------------------

    def _fitted(self) -> dict[str, Any]:
        return {"gates": gates_to_plain(self.gates), "attention_tv": self.attention_tv}

    def _restore(self, fitted: Mapping[str, Any]) -> None:
        self.gates = gates_from_plain(fitted["gates"])
        self.attention_tv = fitted["attention_tv"]
        self._predictor = None


def _regime(n_genes: int, n_measured: int) -> str:
    if n_genes == 1:
        return SINGLE_UNSEEN
    return HIGHER_ORDER if n_genes > 2 else _PAIR_BY_MEASURED[n_measured]
