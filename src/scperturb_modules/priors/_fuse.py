"""Several priors as one similarity of genes, weighed by what they tell of measured responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import genes_of_row
from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._components import sparse_eigenpairs, with_fixed_signs
from scperturb_modules.priors._fusion import Array, Fusion, SourceFit, learn, learnt_from
from scperturb_modules.priors._prior_source import PriorSource, as_sources, knows, similarities
from scperturb_modules.priors._profiles import Against

if TYPE_CHECKING:
    from anndata import AnnData

MOST_GENES = 8000
"""A table of similarities of more genes than this takes more than half a GiB."""
MIN_SINGLES = 3


@dataclass(frozen=True, eq=False, repr=False)
class FusedPrior:
    """Several priors as one, made by :func:`fuse`.

    Attributes
    ----------
    name
        As the user knows it.
    priors
        The sources by name.
    fusion
        What was learned, or equal weights.
    attrs
        ``derived_from``, and ``cells`` where effects or a source are of the screen: which conditions they are, so that
        ``spm.pp.check_leakage`` finds a prior that was fitted to what is tested.
    """

    name: str
    priors: Mapping[str, PriorSource]
    fusion: Fusion
    attrs: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def genes(self) -> tuple[str, ...]:
        """Every gene that a source knows, sorted."""
        views = (view for source in self.priors.values() for view in source.views.values())
        return tuple(sorted(set().union(*(view.genes for view in views))))

    @property
    def sources(self) -> pd.DataFrame:
        """A row per source: ``view``, ``power``, ``pseudo_count``, ``scale``, ``weight``, ``error``.

        ``error`` is the mean error of training singles that were left out, in units of what the mean single times a
        factor has (the row ``(base)``); NaN where nothing was learned.
        """
        base = {"source": "(base)", "view": "mean", "weight": self.fusion.base_weight, "error": 1.0}
        rows = [asdict(fit) for fit in self.fusion.sources] + ([base] if self.fusion.base_weight > 0 else [])
        return pd.DataFrame(rows, columns=list(SourceFit.__annotations__)).set_index("source")

    def similarity(self, rows: Sequence[str], columns: Sequence[str] | None = None) -> pd.DataFrame:
        """How alike genes are.

        Parameters
        ----------
        rows, columns
            Genes; without columns, the rows among themselves.

        Returns
        -------
        DataFrame
            (n, m) float64 from 0 to 1: the weighted mean of what the sources that know both genes say, each to its
            power. NaN where no source knows both; a gene is wholly like itself.
        """
        given = [str(gene) for gene in rows]
        others = given if columns is None else [str(gene) for gene in columns]
        total, weight = np.zeros((len(given), len(others))), np.zeros((len(given), len(others)))
        for fit in self.fusion.sources:
            profiles = self.priors[fit.source].views[fit.view]
            known = np.outer([gene in profiles.row for gene in given], [gene in profiles.row for gene in others])
            alike = np.minimum(Against(profiles, tuple(others)).similarity(given), 1.0) ** fit.power
            total += fit.weight * alike
            weight += fit.weight * known
        values = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
        values[np.equal.outer(np.array(given, dtype=object), np.array(others, dtype=object)) & (weight > 0)] = 1.0
        return pd.DataFrame(values, index=given, columns=others)

    def to_frame(self, genes: Iterable[str] | None = None, n_features: int = 64) -> pd.DataFrame:
        """The similarity as features, so that the fused prior can be used wherever a table can.

        Parameters
        ----------
        genes
            Those to describe, at most 8,000; None: all.
        n_features
            Leading eigenvectors of the table of similarities, each times the root of its eigenvalue; fewer where there
            are fewer.

        Returns
        -------
        DataFrame
            Known genes x features, float64, sorted; inner products approximate similarities.

        Raises
        ------
        DataError
            More than 8,000 genes, or none that a source knows.
        """
        wanted = self.genes if genes is None else sorted({str(gene) for gene in genes} & set(self.genes))
        if not 0 < len(wanted) <= MOST_GENES:
            raise DataError(
                f"{self.name}: {len(wanted)} known genes, but 1 to {MOST_GENES} can be described at once. Name the "
                "genes of your screen: fused.to_frame([*adata.var_names, *perturbed])."
            )
        values = np.nan_to_num(self.similarity(wanted).to_numpy())
        value, vector = _leading((values + values.T) / 2, min(n_features, len(wanted)))
        columns = [f"fused{number + 1}" for number in range(len(value))]
        table = pd.DataFrame(with_fixed_signs(vector) * np.sqrt(value), index=list(wanted), columns=columns)
        table.attrs.update({**self.attrs, "name": self.name})
        return table

    def __repr__(self) -> str:
        parts = ", ".join(f"{fit.source} {fit.weight:.2f}" for fit in self.fusion.sources)
        base = f", base {self.fusion.base_weight:.2f}" if self.fusion.base_weight > 0 else ""
        return f"FusedPrior({self.name!r}, {len(self.genes)} genes; weights: {parts}{base})"


def fuse(
    priors: Any, effects: AnnData | pd.DataFrame | None = None, *, name: str = "fused", seed: int = 0
) -> FusedPrior:
    """Fuse several priors into one similarity, by what each tells of responses that were measured.

    Parameters
    ----------
    priors
        Two or more: networks, gene sets, pathways, gene x feature tables; a sequence or a mapping from names.
    effects
        Changes under single perturbations of the training side: a pseudobulk made by ``spm.pp.pseudobulk(adata,
        cells="training")``, or a DataFrame of perturbed genes x measured genes. None: all sources weigh the same.
    name
        What to call the result.
    seed
        Of the draw of 600 singles to learn from, where there are more.

    Returns
    -------
    FusedPrior
        ``sources`` says what each prior is worth, ``similarity`` and ``to_frame`` give one table.

    Raises
    ------
    DataError
        No prior; a pseudobulk that holds test cells; fewer than three singles that priors know.

    Notes
    -----
    Similarity is the cosine of what a source says of two genes: the sets that they are in, weighted by rarity; where
    random walks from them go, or their place in the whole network; their features. Each training single is predicted
    from the others, ``(sum_q E_pq d_q + c b m) / (sum_q E_pq + c)``, with evidence E = (similarity / scale)^power and
    the mean m of the others, times a factor b from 0 to 1. View, power and pseudo-count c of each source are those with
    the least error, squared and over the size of the effect. A source weighs ``exp(-t)``: t is the number of standard
    errors by which its error lies above the best one. Sources that do not know a gene leave it to the others, and the
    base ``b m`` takes part, so that priors that say nothing cost little.

    :class:`spm.baselines.NearestPrior` and the anchor of the models do the same with the priors they are given, inside
    their training side, so that ``fuse`` is for looking at sources, not a step before them.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate("tiny", seed=0)
    >>> graphs = adata.uns["scperturb_modules"]["simulation"]
    >>> spm.pp.split(adata, "unseen_single", seed=0)
    >>> effects = spm.pp.pseudobulk(adata, cells="training")
    >>> fused = fuse({"true": graphs["graph"], "decoy": graphs["graph_decoy"]}, effects)
    >>> fused.similarity(["G00", "G01"]).shape
    (2, 2)
    """
    sources = as_sources(priors)
    if not sources:
        raise DataError("There is no prior to fuse; pass what functions of spm.priors give, for example [go, ppi].")
    if effects is None:
        fits = tuple(
            SourceFit(one, next(iter(source.views)), 1, 1.0, 1.0, 1.0 / len(sources), np.nan)
            for one, source in sources.items()
        )
        return FusedPrior(name, sources, Fusion(0.0, 0.0, fits), _provenance(sources))
    genes, changes, rows = _singles(effects)
    drawn = learnt_from(len(genes), seed=seed)
    chosen = tuple(genes[i] for i in drawn)
    n_known = sum(knows(sources, gene) for gene in set(chosen))
    if n_known < MIN_SINGLES:
        raise DataError(
            f"The priors know {n_known} of {len(set(chosen))} perturbed genes, first: {name_some(chosen, most=3)}; "
            f"{MIN_SINGLES} are needed. spm.priors.coverage(adata, priors) lists them."
        )
    fusion = learn(similarities(sources, chosen), changes[drawn] @ changes[drawn].T, chosen)
    return FusedPrior(name, sources, fusion, _provenance(sources, rows))


def _provenance(sources: Mapping[str, PriorSource], rows: Sequence[str] = ()) -> dict[str, Any]:
    """What the result was made from: cells of the screen in any source are cells in it."""
    said = {name: source.prior.attrs for name, source in sources.items()}
    origins = [str(attrs.get("derived_from", name)) for name, attrs in said.items()]
    from_screens = [one for one in keys.FROM_A_SCREEN if one in origins]
    attrs: dict[str, Any] = {"derived_from": from_screens[0] if from_screens else ", ".join(origins)}
    records = [attrs["cells"] for attrs in said.values() if "cells" in attrs]
    if rows or records:
        used = set(rows).union(*(map(str, record.get("conditions", ())) for record in records))
        n_controls = sum(int(record.get("n_evaluation_controls", 0)) for record in records)
        attrs["cells"] = {"conditions": sorted(used), "n_evaluation_controls": n_controls}
    return attrs


def _singles(effects: AnnData | pd.DataFrame) -> tuple[tuple[str, ...], Array, list[str]]:
    """Perturbed genes, their changes and the names of their rows."""
    if isinstance(effects, pd.DataFrame):
        values = effects.to_numpy(dtype=np.float64)
        if not np.isfinite(values).all():
            bad = effects.index[~np.isfinite(values).all(axis=1)]
            raise DataError(f"effects of {len(bad)} genes are not finite: {name_some(bad)}. Drop them.")
        names = [str(gene) for gene in effects.index]
        return tuple(names), values, names
    record = effects.uns.get(keys.ROOT, {}).get(keys.PSEUDOBULK, {})
    if str(record.get("cells")) != "training":
        raise DataError(
            'effects may hold test cells. Make them by spm.pp.pseudobulk(adata, cells="training"), after spm.pp.split.'
        )
    names = [str(row) for row in effects.obs_names]
    perturbed = [genes_of_row(row) for row in names]
    single = [i for i, genes in enumerate(perturbed) if len(genes) == 1]
    values = np.asarray(effects.layers[keys.DELTA], dtype=np.float64)[single]
    return tuple(perturbed[i][0] for i in single), values, [names[i] for i in single]


def _leading(values: Array, n: int) -> tuple[Array, Array]:
    """Largest eigenvalues, those above zero, and their vectors; descending."""
    if len(values) <= 400 or n >= len(values) - 1:
        value, vector = np.linalg.eigh(values)
        value, vector = value[-n:], vector[:, -n:]
    else:
        value, vector = sparse_eigenpairs(values, n, "LA")
    order = [i for i in np.argsort(-value, kind="stable") if value[i] > 1e-10 * max(value.max(), 1e-300)]
    return value[order], vector[:, order]
