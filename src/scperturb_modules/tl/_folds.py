"""From a screen to one split of it: who may see what, what is true, and proof that nothing leaks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from scperturb_modules import _keys as keys
from scperturb_modules import pp
from scperturb_modules._errors import DataError
from scperturb_modules.pp._matrix import is_lazy
from scperturb_modules.pp._screen import resolve_screen
from scperturb_modules.pp._variable_genes import mark_highly_variable
from scperturb_modules.tl._yardstick import PUBLISHED, Yardstick, yardstick

if TYPE_CHECKING:
    from anndata import AnnData

AUTO = "auto"
GIVEN = "given"
"""Name of a split that the user made and of which no scheme is recorded."""

HOLDOUT_CONTROLS = 0.3


@dataclass(frozen=True)
class FoldPlan:
    """Which split to make: ``scheme`` None is the one that the screen has."""

    scheme: str | None
    fold: int
    n_folds: int
    seed: int
    protocol: str
    n_top_genes: int | None
    allow_leak: bool


@dataclass(frozen=True)
class Fold:
    """One split of a screen.

    Attributes
    ----------
    screen
        All cells with the split column; shares the matrices of the user's object.
    setup
        Which columns hold what.
    scheme, fold, seed, version
        What the split is.
    leak_status
        ``clean``, ``unverified`` or ``leak``.
    """

    screen: AnnData
    setup: keys.ScreenKeys
    scheme: str
    fold: int
    seed: int
    version: str
    leak_status: str

    @property
    def label(self) -> str:
        """Name for files and dictionaries."""
        return f"{self.scheme}_fold{self.fold}"

    @cached_property
    def truth(self) -> AnnData:
        """Pseudobulk of all cells."""
        return pp.pseudobulk(self.screen, **vars(self.setup))

    @cached_property
    def training(self) -> AnnData:
        """Pseudobulk of the training side."""
        return pp.pseudobulk(self.screen, **vars(self.setup), cells="training")

    @cached_property
    def against(self) -> Yardstick:
        """What predictions are scored against."""
        return yardstick(self.truth)

    def training_cells(self) -> AnnData:
        """A new object with the cells of the training side, and nothing that was derived from other cells."""
        from anndata import AnnData

        part = self.screen[resolve_screen(self.screen, self.setup).is_training]
        stored = copy.deepcopy(dict(self.screen.uns.get(keys.ROOT, {})))
        for known_to_the_examiner in (keys.SIMULATION, keys.SPLIT_RECORD, keys.CHECKS, keys.PROVENANCE):
            stored.pop(known_to_the_examiner, None)
        layers = {name: part.layers[name].copy() for name in part.layers if name is not None}
        return AnnData(part.X.copy(), obs=part.obs.copy(), var=part.var.copy(), uns={keys.ROOT: stored}, layers=layers)


def light_copy(adata: AnnData) -> AnnData:
    """Share the matrices and copy what a benchmark writes to."""
    from anndata import AnnData

    if adata.isbacked or any(is_lazy(matrix) for matrix in (adata.X, *adata.layers.values())):
        adata = adata.to_memory()
    layers = {name: adata.layers[name] for name in adata.layers if name is not None}
    uns = {**adata.uns, keys.ROOT: copy.deepcopy(dict(adata.uns.get(keys.ROOT, {})))}
    # results that were derived from all cells stay visible to the leak check; predictors never get them
    derived = {"obsm": dict(adata.obsm), "varm": dict(adata.varm)}
    return AnnData(adata.X, obs=adata.obs.copy(), var=adata.var.copy(), uns=uns, layers=layers, **derived)


def plan_folds(
    adata: AnnData, setup: keys.ScreenKeys, scheme: str | Sequence[str] | None, n_folds: int, **rules: Any
) -> list[FoldPlan]:
    """Every split that :func:`benchmark` is to make.

    Parameters
    ----------
    adata
        The screen.
    setup
        Which columns hold what.
    scheme, n_folds
        As in :func:`benchmark`. A context held out at a time makes no more folds than there are contexts.
    **rules
        The other fields of :class:`FoldPlan`.

    Raises
    ------
    DataError
        None was asked for, or none suits the screen.
    """
    if _uses_given_split(adata, setup, scheme):
        return [FoldPlan(None, 0, n_folds, **rules)]
    n_contexts = adata.obs[setup.cell_type_key].nunique() if setup.cell_type_key in adata.obs else n_folds
    n_folds_of = {"unseen_context": min(n_folds, max(n_contexts, 1))}
    return [
        FoldPlan(name, fold, n_folds, **rules)
        for name in _schemes(adata, setup, scheme, n_folds, rules["seed"])
        for fold in range(n_folds_of.get(name, n_folds))
    ]


def _uses_given_split(adata: AnnData, setup: keys.ScreenKeys, scheme: str | Sequence[str] | None) -> bool:
    has_split = setup.split_key in adata.obs
    if scheme is None and not has_split:
        raise DataError(
            f"scheme=None uses obs[{setup.split_key!r}], which does not exist. Call spm.pp.split(adata, ...) first, or "
            "pass a scheme."
        )
    return scheme is None or (scheme == AUTO and has_split)


def _schemes(
    adata: AnnData, setup: keys.ScreenKeys, scheme: str | Sequence[str] | None, n_folds: int, seed: int
) -> list[str]:
    if scheme == AUTO:
        columns = _some(setup, "perturbation_key", "control", "cell_type_key")
        found = pp.suggest_schemes(adata, n_folds=n_folds, seed=seed, **columns)
        if not found:
            raise DataError(
                "No scheme gives ten test conditions on this screen, so no verdict is possible. Name a scheme to score "
                'predictors all the same, for example scheme="unseen_single".'
            )
        return found
    asked = [scheme] if isinstance(scheme, str) else list(scheme or ())
    if not asked:
        raise DataError("scheme names no scheme; pass 'auto' or one of those of spm.pp.split.")
    return list(dict.fromkeys(asked))


def make_fold(adata: AnnData, setup: keys.ScreenKeys, plan: FoldPlan, priors: Any) -> Fold:
    """Split a copy of the screen and check it for leaks.

    Raises
    ------
    LeakError
        Test information reaches the training side, and ``allow_leak`` is False.
    """
    screen = light_copy(adata)
    if plan.scheme is not None:
        holdout = 0.0 if plan.protocol == PUBLISHED else HOLDOUT_CONTROLS
        pp.split(
            screen, plan.scheme, seed=plan.seed, n_folds=plan.n_folds, fold=plan.fold, holdout_controls=holdout,
            overwrite=True,
            **_some(setup, "perturbation_key", "control", "batch_key", "cell_type_key", "split_key"),
        )  # fmt: skip
    elif plan.protocol == PUBLISHED:
        _share_controls(screen, setup)
    if plan.n_top_genes is not None:
        screen = _most_variable(screen, setup, plan.n_top_genes)
    status = _leak_status(screen, setup, priors, allow_leak=plan.allow_leak)
    record = screen.uns.get(keys.ROOT, {}).get(keys.SPLIT_RECORD, {})
    return Fold(
        screen,
        setup,
        scheme=plan.scheme or str(record.get("scheme", GIVEN)),
        fold=plan.fold if plan.scheme is not None else int(record.get("fold", 0)),
        seed=int(record.get("seed", plan.seed)),
        version=str(record.get("version", "")),
        leak_status=status,
    )


def _some(setup: keys.ScreenKeys, *names: str) -> dict[str, Any]:
    return {name: getattr(setup, name) for name in names}


def _share_controls(screen: AnnData, setup: keys.ScreenKeys) -> None:
    """The published protocol on a split that holds controls out: all of them serve both sides."""
    view = resolve_screen(screen, setup)
    screen.obs[setup.split_key] = np.where(view.is_control, keys.TRAIN, view.parts)


def _most_variable(screen: AnnData, setup: keys.ScreenKeys, n_top_genes: int) -> AnnData:
    """Keep genes that vary among training cells."""
    from scipy import sparse

    values = sparse.csr_matrix(screen.X if setup.layer is None else screen.layers[setup.layer])
    mark_highly_variable(screen, values, n_top_genes, setup)
    return screen[:, screen.var[keys.HIGHLY_VARIABLE].to_numpy()].copy()


def _leak_status(screen: AnnData, setup: keys.ScreenKeys, priors: Any, *, allow_leak: bool) -> str:
    columns = _some(setup, "perturbation_key", "control", "layer", "cell_type_key", "split_key")
    report = pp.check_leakage(screen, priors=priors, **columns)
    if not allow_leak:
        pp.raise_on_leak(report)
    found = set(report["result"])
    return "leak" if "fail" in found else "unverified" if "unverified" in found else "clean"
