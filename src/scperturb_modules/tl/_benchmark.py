"""The loop: every predictor on every split of the user's screen."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from scperturb_modules import _keys as keys
from scperturb_modules.metrics import METRICS, PRIMARY
from scperturb_modules.metrics._status import MIN_CELLS
from scperturb_modules.priors import named_priors
from scperturb_modules.tl._board import Benchmark
from scperturb_modules.tl._contenders import Predictors, contenders_from
from scperturb_modules.tl._evaluate import choose_metrics
from scperturb_modules.tl._folds import FoldPlan, plan_folds
from scperturb_modules.tl._frame import join_results
from scperturb_modules.tl._one_fold import FoldResult, Rules, run_fold, stacked

if TYPE_CHECKING:
    from anndata import AnnData

Progress = Callable[[int, int, str], None]
"""Called with the number of splits done, their number, and the label of the last one."""

ERROR_COLUMNS = ["predictor", "split", "model_seed", "message", "traceback"]
SKIPPED_COLUMNS = ["predictor", "split", "reason"]
TIMING_COLUMNS = ["predictor", "split", "model_seed", "fit_seconds", "predict_seconds"]


def benchmark(
    adata: AnnData,
    predictors: Predictors = None,
    *,
    scheme: str | Sequence[str] | None = "auto",
    n_folds: int = 5,
    seed: int = 0,
    n_seeds: int = 1,
    protocol: Literal["strict", "published"] = "strict",
    priors: Any = None,
    metrics: str | Sequence[str] = "core",
    min_cells: int = MIN_CELLS,
    n_boot: int = 10_000,
    n_top_genes: int | None = None,
    intervals: bool = True,
    n_jobs: int = 1,
    allow_leak: bool = False,
    progress: bool | Progress | None = None,
    perturbation_key: str = keys.PERTURBATION,
    control: str = "control",
    layer: str | None = None,
    batch_key: str | None = None,
    cell_type_key: str | None = None,
    split_key: str = keys.SPLIT,
) -> Benchmark:
    """Compare predictors with the plain baselines on a screen, and say in words who beats whom.

    For each scheme and fold: split, check for leaks, measure the truth, fit every predictor on the training side
    alone, score. ``adata`` is not changed.

    Parameters
    ----------
    adata
        Cells x genes; ``X`` or ``layer`` is log1p of counts per 10,000, labels are canonical.
    predictors
        Classes (or callables such as ``functools.partial(Model, n_layers=3)``), or a mapping from names to them; None
        takes :data:`scperturb_modules.baselines.ALL`. Baselines get the training pseudobulk. Anything else gets an
        AnnData with the training cells: ``setup_anndata`` if it has one, ``build(adata, priors=, seed=)``, ``train()``,
        ``predict(names)``. One that fails is scored as "no change", and the others go on.
    scheme
        Of :func:`scperturb_modules.pp.split`: a name or several. ``"auto"``: the split that ``obs`` holds, else those
        that suit the screen. None: the split that ``obs`` holds; so are schemes run that need an argument of their own
        (make one with ``spm.pp.split(adata, "unseen_cluster", groups=...)`` first).
    n_folds
        Splits per scheme.
    seed
        Of splits, predictors, halvings and the bootstrap.
    n_seeds
        Training seeds of predictors that are not ``deterministic``.
    protocol
        ``"strict"``: truth and predictors have controls of their own. ``"published"``: shared controls, for comparison
        with the literature only.
    priors
        Gene x feature tables and networks, passed to every predictor.
    metrics
        As in :func:`evaluate`; the primary metric is always there.
    min_cells
        Conditions with fewer cells are not scored.
    n_boot
        Bootstrap draws.
    n_top_genes
        Keep the genes that vary most among the training cells of each split, and the measured targets.
    intervals
        Whether baselines give 90 % intervals, for which each is fitted ten times more in every split. Models give them
        in any case.
    n_jobs
        Splits computed at the same time; the results are the same.
    allow_leak
        Go on when a leak is found; then ``leak_status`` of every row says so.
    progress
        True shows a bar, None only on a terminal; or a function of (done, total, label).
    perturbation_key, control, layer, batch_key, cell_type_key, split_key
        Which columns of ``obs`` and which layer hold what, and the control label.

    Returns
    -------
    Benchmark
        ``.verdict()``, ``.summary()``, ``.frame``, ``.save(folder)``.

    Raises
    ------
    LeakError
        A split leaks.
    DataError, MissingKeyError
        The screen cannot be used as it is; the message says what mends it.
    ValueError, TypeError
        An argument is out of range, or a predictor is not callable.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate(preset="tiny", seed=0)
    >>> board = spm.tl.benchmark(adata, scheme="unseen_single", n_folds=2, n_boot=200)
    >>> "NoChange" in set(board.frame["model"])
    True
    """
    _check_numbers(n_folds=n_folds, n_seeds=n_seeds, n_boot=n_boot, min_cells=min_cells)
    if protocol not in ("strict", "published"):
        raise ValueError(f"protocol={protocol!r} is unknown; use 'strict' or 'published'.")
    setup = keys.ScreenKeys(perturbation_key, control, layer, batch_key, cell_type_key, split_key)
    chosen = choose_metrics(metrics)
    if PRIMARY not in [metric.id for metric in chosen]:
        chosen = (METRICS[PRIMARY], *chosen)
    rules = Rules(contenders_from(predictors), chosen, priors, seed, n_seeds, min_cells, intervals)
    plans = plan_folds(
        adata, setup, scheme, n_folds, seed=seed, protocol=protocol, n_top_genes=n_top_genes, allow_leak=allow_leak
    )
    with _progress(progress) as tell:
        results = list(_told(_all_folds(adata, setup, plans, rules, n_jobs), len(plans), tell))
    settings = {
        "predictors": [one.name for one in rules.contenders], "scheme": list(dict.fromkeys(p.scheme for p in plans)),
        "n_folds": n_folds, "seed": seed, "n_seeds": n_seeds, "protocol": protocol,
        "priors": list(named_priors(priors)), "metrics": [metric.id for metric in chosen],
        "min_cells": min_cells, "n_boot": n_boot, "n_top_genes": n_top_genes,
        "intervals": intervals, "allow_leak": allow_leak, **vars(setup),
    }  # fmt: skip
    return _join(results, settings)


def _check_numbers(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name}={number} must be at least 1.")


def _all_folds(
    adata: AnnData, setup: keys.ScreenKeys, plans: Sequence[FoldPlan], rules: Rules, n_jobs: int
) -> Iterable[FoldResult]:
    if n_jobs == 1:
        return (run_fold(adata, setup, plan, rules) for plan in plans)
    from joblib import Parallel, delayed

    workers = Parallel(n_jobs=n_jobs, return_as="generator")
    return workers(delayed(run_fold)(adata, setup, plan, rules) for plan in plans)


def _join(results: Sequence[FoldResult], settings: Mapping[str, Any]) -> Benchmark:
    def rows(name: str, columns: list[str]) -> pd.DataFrame:
        return pd.DataFrame([row for result in results for row in getattr(result, name)], columns=columns)

    return Benchmark(
        frame=join_results([result.frame for result in results]),
        predictions={
            (name, result.label): prediction for result in results for name, prediction in result.predictions.items()
        },
        truths={result.label: result.truth for result in results},
        errors=rows("errors", ERROR_COLUMNS),
        skipped=rows("skipped", SKIPPED_COLUMNS),
        replicates=pd.concat([result.replicates for result in results], ignore_index=True),
        margins=stacked([result.margins for result in results]),
        calibration=stacked([result.calibration for result in results]),
        timings=rows("timings", TIMING_COLUMNS),
        settings=dict(settings),
    )


def _told(results: Iterable[FoldResult], total: int, tell: Progress) -> Iterator[FoldResult]:
    tell(0, total, "")
    for done, result in enumerate(results, start=1):
        tell(done, total, result.label)
        yield result


@contextmanager
def _progress(wanted: bool | Progress | None) -> Iterator[Progress]:
    """The caller's function, a bar on the terminal, or nothing."""
    if callable(wanted):
        yield wanted
    elif wanted or (wanted is None and sys.stderr.isatty()):
        with _bar() as tell:
            yield tell
    else:
        yield lambda done, total, label: None


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.errors import LiveError
    from rich.progress import Progress as Bar

    bar = Bar(console=Console(stderr=True), transient=True)
    task = bar.add_task("splits", total=None)
    with suppress(LiveError):  # the caller shows a bar of its own on this terminal
        bar.start()
    try:
        yield lambda done, total, label: bar.update(task, completed=done, total=total, description=label or "splits")
    finally:
        bar.stop()
