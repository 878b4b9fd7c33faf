"""What SCBIG says of programs and cells beside its predictions, and where it stores that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import MEASURED, Row, parse_row_name, row_name
from scperturb_modules._errors import DataError
from scperturb_modules.dataloaders._rows import RowReader
from scperturb_modules.models._left_out import Judged
from scperturb_modules.models._setup import require_genes, screen_of
from scperturb_modules.models._training_cells import BLOCK, setup_of, some_of
from scperturb_modules.models.scbig._generating import GeneratingModel
from scperturb_modules.models.scbig._intervals import ProgramIntervals
from scperturb_modules.models.scbig._settings import COEXPRESSION
from scperturb_modules.models.scbig.programs._program_sources import ProgramSources
from scperturb_modules.models.scbig.programs._stability import stability
from scperturb_modules.pp import pseudobulk
from scperturb_modules.pp._screen import expression_of, resolve_screen

if TYPE_CHECKING:
    from anndata import AnnData

LEAST_CELLS = 20
"""Fewer cells than this do not show how programs are correlated."""

N_DRAWN = 500
"""Cells behind a picture of flow paths."""


class ExplainingModel(GeneratingModel):
    """A model that tells what it knows of programs and cells; :class:`SCBIG` has the rest."""

    program_intervals: ProgramIntervals

    def _after_left_out(self, judged: Sequence[Judged]) -> None:
        self.program_intervals = ProgramIntervals.none()
        if self.settings.mean_of == "programs":
            super()._after_left_out(judged)
            noise = np.square(self.programs.standard_error(np.sqrt(np.nan_to_num(self.data.se2, posinf=0.0))))
            left_out = (self._as_predicted(one) for one in judged)
            self.program_intervals = ProgramIntervals.fit(left_out, noise, self.programs.project)

    # -- programs ----------------------------------------------------------------------------------------------------

    def gene_programs(self, top: int | None = None, *, store: bool = True) -> pd.DataFrame:
        """The gene programs.

        Parameters
        ----------
        top
            So many genes of each program, those that follow it most; None: all genes.
        store
            Whether to write into the object that the model was built from: ``var["scbig_program"]`` and
            ``var["scbig_margin"]``, and ``"programs"`` and ``"program_relations"`` under
            ``uns["scperturb_modules"]["scbig"]``. Names that enrichment gave before are lost.

        Returns
        -------
        DataFrame
            A row for each gene: ``program`` (``"P1"`` is the largest), ``gene``, ``loading`` (correlation with the
            program's activity) and ``margin`` (how much nearer it is to its own program than to the next); by program,
            the highest loading first.

        Notes
        -----
        Programs are found when the model is built; no training is needed.
        """
        home = self._side.home
        if store and home is not None:
            var = self._expression_home(home).var
            names = var.index.astype(str)
            for key, values in ((keys.PROGRAM, self.programs.labels), (keys.PROGRAM_MARGIN, self.programs.margin)):
                var[key] = pd.Series(values, index=self.data.var_names).reindex(names).to_numpy()
            self._store(keys.PROGRAMS, self.programs.table())
            self._store(keys.PROGRAM_RELATIONS, self.programs.relations)
        return self.programs.genes_table(top)

    def program_stability(self, n_seeds: int = 3) -> dict[str, float]:
        """Whether the same programs are found again: with other seeds, and from other cells.

        Parameters
        ----------
        n_seeds
            Seeds that are tried, that of the model first.

        Returns
        -------
        dict
            Adjusted Rand indices, 1: the same, 0: by chance alone. ``"seeds"``, mean over pairs of seeds; ``"halves"``,
            between two halves of the training cells; ``"strong_halves"``, the same over the tenth of the genes that
            vary together most.

        Raises
        ------
        DataError
            There are no cells, or programs were not found from them.
        """
        screen = None if self._side.cells is None else screen_of(self._side.cells)
        wanted = tuple(one for one in self.settings.relations if screen is not None or one != COEXPRESSION)
        sources = ProgramSources.of(
            screen, self.data, networks=self.networks, tables=self.tables, wanted=wanted, seed=self.seed
        )
        n_programs, balance = len(self.programs.names), self.settings.balance
        return stability(sources, n_programs, balance=balance, seed=self.seed, n_seeds=n_seeds)

    def get_program_activity(self, adata: AnnData | None = None, *, store: bool = True) -> pd.DataFrame:
        """How active each program is in each cell.

        Parameters
        ----------
        adata
            Cells with the model's genes, log1p CP10k; None: those that the model was built from.
        store
            Whether to write ``obsm["scbig_programs"]`` of these cells.

        Returns
        -------
        DataFrame
            (cells, K) float32: mean over the program's genes of expression, in standard deviations of each gene (at
            least 0.1) from its mean in training controls. Data, not what the network makes of it.
        """
        view, home = self._cells_given(adata)
        found = np.concatenate([self.programs.activity(block) for block in self._blocks(view)])
        table = pd.DataFrame(found, index=view.obs_names, columns=list(self.programs.names))
        if store:
            home.obsm[keys.PROGRAM_ACTIVITY] = table
        return table

    def get_latent_representation(self, adata: AnnData | None = None, *, store: bool = True) -> NDArray[np.float32]:
        """(cells, n_latent) float32 latent states, written to ``obsm["X_scbig"]``; arguments as in the activity.

        Standardised over training cells; ``sc.pp.neighbors(adata, use_rep="X_scbig")`` takes it.
        """
        self._require_generator("get_latent_representation()")
        view, home = self._cells_given(adata)
        network, device = self._generator.autoencoder, self.module.device
        with torch.no_grad():
            blocks = [network.encode(torch.as_tensor(one, device=device)).cpu().numpy() for one in self._blocks(view)]
        found = np.concatenate(blocks).astype(np.float32)
        if store:
            home.obsm[keys.X_SCBIG] = found
        return found

    # -- conditions --------------------------------------------------------------------------------------------------

    def program_changes(self, conditions: Sequence[str] | None = None, *, store: bool = True) -> pd.DataFrame:
        """How each condition changes each program.

        Parameters
        ----------
        conditions
            As in :meth:`predict`.
        store
            Whether to write the table as ``uns["scperturb_modules"]["scbig"]["program_changes"]``.

        Returns
        -------
        DataFrame
            ``condition``, ``program``, ``change`` (predicted; in the units of :meth:`get_program_activity`), ``lower``
            and ``upper`` (90 %; of what would be measured, from conditions left out in training, and for a measured
            condition from the standard error of its mean; NaN where neither can be given, as for a gene that is known
            nowhere) and ``observed``, where the cells that the model was built from have the condition. Nothing is
            learned from observed test cells.
        """
        self._require_trained("program_changes()")
        prediction = self.predict(conditions, store=False)
        names = [str(name) for name in prediction.obs_names]
        change = self.programs.project(np.asarray(prediction.layers[keys.DELTA], dtype=np.float64))
        width = np.stack([self._half_width(*one) for one in zip(names, prediction.obs[keys.SEEN], change, strict=True)])
        table = pd.DataFrame(
            {
                "condition": np.repeat(names, change.shape[1]),
                "program": np.tile(list(self.programs.names), len(names)),
                "change": change.ravel(),
                "lower": (change - width).ravel(),
                "upper": (change + width).ravel(),
                "observed": self._observed_changes(names).ravel(),
            }
        )
        if store:
            self._store(keys.PROGRAM_CHANGES, table)
        return table

    def module_correlation(
        self, conditions: Sequence[str] | None = None, *, store: bool = True
    ) -> dict[str, NDArray[Any]]:
        """How programs are correlated between the cells of a condition: which of them a perturbation couples or parts.

        Parameters
        ----------
        conditions
            As in :meth:`predict`.
        store
            Whether to write the result as ``uns["scperturb_modules"]["scbig"]["program_correlation"]``.

        Returns
        -------
        dict
            ``conditions`` (P,), ``programs`` (K,), ``predicted``, ``observed`` and ``control`` (P, K, K) correlations
            of program activities between cells. Predicted: in 512 training controls of the context, moved as
            :meth:`predict_cells` moves cells, not cut at 0; control: before they are moved. Observed: NaN for fewer
            than 20 cells.
        """
        self._require_trained("module_correlation()")
        self._require_generator("module_correlation()")
        prediction = self.predict(conditions, store=False)
        names = [str(name) for name in prediction.obs_names]
        found = {
            "conditions": np.array(names, dtype=object),
            "programs": np.array(self.programs.names, dtype=object),
            "predicted": np.stack([
                _correlation(self.programs.activity(self._generated(parse_row_name(name), delta)))
                for name, delta in zip(names, prediction.layers[keys.DELTA], strict=True)
            ]),
            "observed": np.stack([self._observed_correlation(name) for name in names]),
            "control": np.stack([self._control_correlation(parse_row_name(name)[1]) for name in names]),
        }  # fmt: skip
        if store:
            self._store(keys.PROGRAM_CORRELATION, found)
        return found

    def flow_paths(self, condition: str, *, n_cells: int = 60, store: bool = True) -> dict[str, Any]:
        """The ways of control cells through the latent to where the flow of a condition takes them.

        Parameters
        ----------
        condition
            One name.
        n_cells
            Number of ways.
        store
            Whether to write them as ``uns["scperturb_modules"]["scbig"]["flow_paths"]``.

        Returns
        -------
        dict
            ``condition``; ``time`` (T,); ``position`` (n, T, 2) in the first two principal components of controls and
            perturbed cells; ``control`` (m, 2) and ``observed`` (l, 2), real cells there, l = 0 where there are none.

        Raises
        ------
        DataError
            A gene of the condition is known nowhere.
        """
        self._require_trained("flow_paths()")
        self._require_generator("flow_paths()")
        prediction = self.predict([condition], store=False)
        row = parse_row_name(str(prediction.obs_names[0]))
        if self._unknown_rows([row])[0]:
            raise DataError(f"{condition!r} has a gene that is known nowhere, and so no flow. Name another condition.")
        with torch.no_grad():
            rows, change = self._seen(row, prediction.layers[keys.DELTA][0])
            network = self._generator.autoencoder
            controls = network.encode(self._generator.reference[rows.context])
            start = controls + self._generator.shift(change, rows.context)[:, None]
            path = self._generator.transport(start, self._generator.condition(rows), path=True)[:, 0]
            states = torch.cat([controls, path]).cpu().numpy()
            observed = self._observed_cells(row_name(*row))
            real = network.encode(torch.as_tensor(observed, device=self.module.device)).cpu().numpy()
        plane = _plane(np.concatenate([states[0], states[-1]]))
        found = {
            "condition": str(prediction.obs_names[0]),
            "time": np.linspace(0, 1, len(states) - 1),
            "position": np.swapaxes(plane(states[1:, :n_cells]), 0, 1),
            "control": plane(states[0]),
            "observed": plane(real),
        }
        if store:
            self._store(keys.FLOW_PATHS, found)
        return found

    # -- parts -------------------------------------------------------------------------------------------------------

    def _require_generator(self, what: str) -> None:
        if self.module.generator is None:
            raise ValueError(f"{what} needs a model that learned of cells; leave generate=False out.")

    def _store(self, key: str, value: Any) -> None:
        home = self._side.home
        if home is not None:
            home.uns.setdefault(keys.ROOT, {}).setdefault(self.key, {})[key] = value

    def _expression_home(self, home: Any) -> Any:
        """The object with the genes: the AnnData itself, or the modality of a MuData."""
        modality = home.uns[keys.ROOT].get(keys.MODALITY) if hasattr(home, "mod") else None
        return home if modality is None else home[str(modality)]

    def _cells_given(self, adata: AnnData | None) -> tuple[AnnData, Any]:
        """Cells as one AnnData after setup, and the object in which to store."""
        if adata is not None:
            return adata, adata
        if self._side.cells is None:
            raise DataError(f"This {self.name} has no cells; pass them, or load it with spm.load(path, adata).")
        return screen_of(self._side.cells), self._expression_home(self._side.home)

    def _blocks(self, view: AnnData, rows: NDArray[np.intp] | None = None) -> Any:
        """Expression (n, G) of cells, block by block, genes in the model's order."""
        layer = self.training.uns[keys.ROOT][keys.SETUP].get("layer")
        order = require_genes(view.var_names, self.training.var_names, self.name)
        reader = RowReader(expression_of(view, layer))
        rows = np.arange(view.n_obs) if rows is None else rows
        for start in range(0, len(rows), BLOCK):
            block = reader.read(rows[start : start + BLOCK])
            yield block if order is None else block[:, order]

    def _half_width(self, name: str, seen: str, change: NDArray[np.float64]) -> NDArray[np.float64]:
        row: Row = parse_row_name(name)
        if seen == MEASURED and self.returns_measured:
            return 1.645 * self.programs.standard_error(np.sqrt(self.data.se2[self.data.index[row]]))
        is_unknown = bool(self.sources) and bool(self._unknown_rows([row])[0])
        return np.full(len(change), np.nan) if is_unknown else self.program_intervals.half_width(seen, change)

    def _observed_changes(self, names: Sequence[str]) -> NDArray[np.float64]:
        """(P, K), NaN for conditions without cells."""
        missing = np.full((len(names), len(self.programs.names)), np.nan)
        if self._side.cells is None:
            return missing
        view = screen_of(self._side.cells)
        truth = pseudobulk(view, **vars(setup_of(view)))
        place = truth.obs_names.get_indexer(names)
        delta = pd.DataFrame(truth.layers[keys.DELTA], columns=truth.var_names)[list(self.data.var_names)].to_numpy()
        missing[place >= 0] = self.programs.project(np.asarray(delta[place[place >= 0]], dtype=np.float64))
        return missing

    def _observed_cells(self, name: str) -> NDArray[np.float32]:
        """(n, G) cells of a condition, those of the test part too: they are looked at, not learned from."""
        empty = np.empty((0, len(self.data.var_names)), dtype=np.float32)
        if self._side.cells is None:
            return empty
        view = screen_of(self._side.cells)
        found = resolve_screen(view, setup_of(view))
        condition, context = parse_row_name(name)
        own = found.labels == condition
        if context is not None:
            own = own & (found.contexts == context)
        rows = some_of(np.flatnonzero(own), N_DRAWN, seed=0)
        return np.concatenate([empty, *self._blocks(view, rows)])

    def _control_correlation(self, context: str | None) -> NDArray[np.float64]:
        reference = self._generator.reference[self.data.contexts.index(context)]
        return _correlation(self.programs.activity(reference.cpu().numpy()))

    def _observed_correlation(self, name: str) -> NDArray[np.float64]:
        cells = self._observed_cells(name)
        if len(cells) < LEAST_CELLS:
            return np.full((len(self.programs.names),) * 2, np.nan)
        return _correlation(self.programs.activity(cells))

    # -- saving ------------------------------------------------------------------------------------------------------

    def _fitted(self) -> dict[str, Any]:
        return super()._fitted() | {"program_intervals": self.program_intervals.to_plain()}

    def _restore(self, fitted: Mapping[str, Any]) -> None:
        super()._restore(fitted)
        self.program_intervals = ProgramIntervals.from_plain(fitted["program_intervals"])


def _correlation(activity: NDArray) -> NDArray[np.float64]:
    """(K, K) of activities (n, K); programs that do not vary are correlated with none."""
    centred = activity.astype(np.float64) - activity.mean(axis=0)
    size = np.sqrt(np.square(centred).sum(axis=0))
    scaled = centred / np.where(size > 1e-12, size, 1.0)
    found = scaled.T @ scaled
    np.fill_diagonal(found, 1.0)
    return found


def _plane(states: NDArray) -> Any:
    """A function to the first two principal components of states (n, q)."""
    mean = states.mean(axis=0)
    _, _, vectors = np.linalg.svd(states - mean, full_matrices=False)
    axes = vectors[:2].T
    return lambda x: ((x - mean) @ axes).astype(np.float32)
