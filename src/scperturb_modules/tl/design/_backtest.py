"""Would a ranking have found the strong interactions sooner? A screen that was measured is tested again, bit by bit."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import genes_of_row, parse_row_name, row_name
from scperturb_modules._errors import DataError, name_some
from scperturb_modules._protocols import Predictor
from scperturb_modules.pp import pseudobulk
from scperturb_modules.tl._contenders import Build, Contender, contenders_from
from scperturb_modules.tl.design._rank_next import OBJECTIVES, Objective, rank_next
from scperturb_modules.tl.design._truth import genes_compared, measured_interactions
from scperturb_modules.tl.interactions._pairs import values_of

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

REFERENCES: tuple[Objective, ...] = ("effect", "random")
"""Rankings that are always run beside."""
N_SEEDS = 20


def backtest(
    adata: AnnData,
    build: Build,
    objectives: Sequence[Objective] | Objective = ("interaction", "information"),
    *,
    n_start: int,
    batch: int,
    rounds: int,
    seeds: int | Iterable[int] = N_SEEDS,
    n_strong: int = 20,
    n_test: int = 0,
    truth: Mapping[str, float] | pd.Series | None = None,
    refit: Literal["each", "once"] = "each",
    priors: Any = None,
    **screen: Any,
) -> pd.DataFrame:
    """Plan a screen that was measured already, as if its pairs were unknown, and count what each ranking finds.

    Every seed draws ``n_test`` pairs that are never offered, and ``n_start`` pairs that are known from the start, as
    are all singles. The other pairs are the candidates. Each ranking chooses ``batch`` of them, sees their cells,
    trains again, and so on. All rankings of a seed start from the same pairs; ranking by effect size and at random are
    always among them.

    Parameters
    ----------
    adata
        Cells x genes, log1p CP10k, with pairs and their singles; a split in it is not used.
    build
        Class of a model or baseline, or a callable ``build(adata, priors=..., seed=...)`` like one.
    objectives
        Of :func:`rank_next`.
    n_start, batch, rounds
        Pairs known from the start, experiments per round, rounds.
    seeds
        How many, or which ones.
    n_strong
        So many candidates with the largest true interactions are to be found.
    n_test
        Pairs on which predictions are scored after every round; 0: none.
    truth
        Size of the true interaction of each pair. None: its measured size, the L2 norm of
        ``h_AB - h_A - h_B`` over the 1,000 genes highest in controls, minus its noise.
    refit
        ``"once"``: one fit at the start, by which all experiments are chosen at a time.
    priors
        For the model and for :func:`rank_next`.
    **screen
        Arguments of ``setup_anndata``: ``perturbation_key``, ``control``, ``layer``, ``batch_key``, ``cell_type_key``.

    Returns
    -------
    DataFrame
        A row per ``method``, ``seed`` and ``n_tested`` (experiments since the start): ``n_found``, ``share_found`` of
        ``n_true`` strong interactions, and ``test_l2`` (mean over test pairs; NaN without). ``attrs``: ``n_start``,
        ``n_test`` and ``n_candidates``.

    Raises
    ------
    DataError
        Too few pairs with both singles, a pair without a truth, or numbers that ask for more than there is.
    ValueError
        An unknown objective or ``refit``.

    Notes
    -----
    All controls serve all rows: truth and model share the noise of their mean. An interaction holds it once, alike for
    all pairs; it is taken out of its size with the rest of the noise: ``sqrt(max(0, |h|^2 - sum of variances))``.

    See Also
    --------
    backtest_summary : Areas, ratios and verdicts.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate("tiny", seed=0)
    >>> frame = spm.tl.backtest(
    ...     adata, spm.baselines.Additive, "interaction", n_start=1, batch=1, rounds=2, seeds=2, n_strong=2
    ... )
    >>> sorted(set(frame["method"])), frame.shape
    (['effect', 'interaction', 'random'], (18, 7))
    """
    methods = _methods(objectives)
    if refit not in ("each", "once"):
        raise ValueError(f"refit={refit!r} is unknown; use 'each' or 'once'.")
    [contender] = contenders_from(build)
    lab = _Lab.of(adata, contender, priors, keys.ScreenKeys(**screen))
    size = measured_interactions(lab.measured) if truth is None else pd.Series(dict(truth), dtype=np.float64)
    size = _sizes_of(size, lab.pairs)
    n_candidates = len(lab.pairs) - n_start - n_test
    _check_numbers(n_start, batch, rounds, n_test, n_strong, n_candidates)
    runs = []
    numbers = range(seeds) if isinstance(seeds, int) else seeds
    for seed in map(int, numbers):
        drawn = np.random.default_rng(seed).permutation(np.array(lab.pairs, dtype=object)).tolist()
        test, start, candidates = drawn[:n_test], drawn[n_test : n_test + n_start], drawn[n_test + n_start :]
        strong = set(size[sorted(candidates)].sort_values(ascending=False, kind="stable").index[:n_strong])
        plan = _Plan(start, candidates, test, strong, batch, rounds, refit, seed)
        first = lab.fit(start, seed)
        for method in methods:
            runs.append(pd.DataFrame(_run(lab, plan, method, first)).assign(method=method, seed=seed))
            logger.info("seed %d, %s: %d of %d found.", seed, method, runs[-1]["n_found"].iloc[-1], n_strong)
    frame = pd.concat(runs, ignore_index=True)
    frame = frame[["method", "seed", "n_tested", "share_found", "n_found", "n_true", "test_l2"]]
    frame.attrs |= {"n_start": n_start, "n_test": n_test, "n_candidates": n_candidates}
    return frame


@dataclass(frozen=True)
class _Plan:
    """One seed: what is known, offered, held out and to be found."""

    start: list[str]
    candidates: list[str]
    test: list[str]
    strong: set[str]
    batch: int
    rounds: int
    refit: str
    seed: int

    @property
    def ranking_seed(self) -> int:
        """Random choice must not depend on how the pairs were divided."""
        return int(np.random.SeedSequence([self.seed, 1]).generate_state(1)[0])


@dataclass(frozen=True)
class _Lab:
    """A screen of which a predictor sees all singles and the pairs that were tested."""

    adata: AnnData
    measured: AnnData
    contender: Contender
    priors: Any
    screen: keys.ScreenKeys

    @classmethod
    def of(cls, adata: AnnData, contender: Contender, priors: Any, screen: keys.ScreenKeys) -> _Lab:
        if screen.split_key in adata.obs:
            adata = adata.copy()
            del adata.obs[screen.split_key]
        measured = pseudobulk(adata, **vars(screen), cells="training")
        return cls(adata, measured, contender, priors, screen)

    @property
    def pairs(self) -> list[str]:
        """Names of measured pairs of measured singles, sorted."""
        names = set(map(str, self.measured.obs_names))
        return sorted(
            name
            for name in names
            if len(genes_of_row(name)) == 2
            and all(row_name(gene, parse_row_name(name)[1]) in names for gene in genes_of_row(name))
        )

    def fit(self, tested: Iterable[str], seed: int) -> Predictor:
        """Train on all singles and the tested pairs; what a test set or a candidate holds is out of reach."""
        known = set(tested)
        names = [str(name) for name in self.measured.obs_names]
        kept = np.array([len(genes_of_row(name)) == 1 or name in known for name in names])
        if self.contender.is_baseline:
            data = self.measured[kept].copy()
        else:
            data = self._cells({name for name, keep in zip(names, kept, strict=True) if keep})
        model = self.contender.build(data, priors=self.priors, seed=seed)
        model.train()
        return model

    def _cells(self, rows: set[str]) -> AnnData:
        obs = self.adata.obs
        label = obs[self.screen.perturbation_key].astype(str)
        context = None if self.screen.cell_type_key is None else obs[self.screen.cell_type_key].astype(str)
        name = label if context is None else label + "|" + context
        data = self.adata[(name.isin(rows) | (label == self.screen.control)).to_numpy()].copy()
        setup = self.contender.fact("setup_anndata", None)
        if setup is not None:
            setup(data, **vars(self.screen))
        return data

    def l2(self, model: Predictor, names: list[str]) -> float:
        """Mean L2 error over the genes highest in controls."""
        if not names:
            return float("nan")
        genes = genes_compared(self.measured)
        predicted = values_of(model.predict(names), keys.DELTA, genes)
        true = values_of(self.measured[names], keys.DELTA, genes)
        return float(np.linalg.norm(predicted - true, axis=1).mean())


def _run(lab: _Lab, plan: _Plan, method: Objective, model: Predictor) -> list[dict[str, float]]:
    """One ranking from the start to the end of its budget."""
    tested, left = list(plan.start), list(plan.candidates)
    l2 = lab.l2(model, plan.test)
    curve = [_point(0, plan, tested, l2)]
    at_once = plan.refit == "once" or method == "random"
    needs_model = plan.refit == "each" and (method != "random" or bool(plan.test))
    queue: list[str] = []
    for number in range(1, plan.rounds + 1):
        if not queue:
            budget = plan.batch * (plan.rounds if at_once else 1)
            table = rank_next(model, left, objective=method, budget=budget, priors=lab.priors, seed=plan.ranking_seed)
            queue = table["condition"].tolist()
        chosen, queue = queue[: plan.batch], queue[plan.batch :]
        tested += chosen
        left = [name for name in left if name not in set(chosen)]
        if needs_model and (number < plan.rounds or plan.test):
            model = lab.fit(tested, plan.seed)
            l2 = lab.l2(model, plan.test)
        curve.append(_point(number * plan.batch, plan, tested, l2))
    return curve


def _point(n_tested: int, plan: _Plan, tested: list[str], l2: float) -> dict[str, float]:
    n_found = len(plan.strong.intersection(tested))
    share = n_found / len(plan.strong)
    return {
        "n_tested": n_tested,
        "share_found": share,
        "n_found": n_found,
        "n_true": len(plan.strong),
        "test_l2": l2,
    }


def _methods(objectives: Sequence[Objective] | Objective) -> list[Objective]:
    asked = [objectives] if isinstance(objectives, str) else list(objectives)
    strange = [name for name in asked if name not in OBJECTIVES]
    if strange:
        raise ValueError(f"objectives {name_some(strange)} are unknown; use {', '.join(OBJECTIVES)}.")
    return list(dict.fromkeys([*asked, *REFERENCES]))


def _sizes_of(size: pd.Series, pairs: list[str]) -> pd.Series:
    absent = [name for name in pairs if name not in size.index]
    if absent:
        raise DataError(
            f"truth has no interaction for {len(absent)} pairs: {name_some(absent)}. Add them, or drop their cells."
        )
    return size[pairs]


def _check_numbers(n_start: int, batch: int, rounds: int, n_test: int, n_strong: int, n_candidates: int) -> None:
    if min(n_start, n_test) < 0 or min(batch, rounds, n_strong) < 1:
        raise DataError("n_start and n_test are 0 or more; batch, rounds and n_strong are 1 or more.")
    if n_candidates < max(batch * rounds, n_strong):
        raise DataError(
            f"{n_candidates} pairs are left as candidates, but {batch} x {rounds} experiments and {n_strong} strong "
            "interactions are asked for. Lower n_start, n_test, batch, rounds or n_strong."
        )
