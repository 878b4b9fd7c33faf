"""What a benchmark returns: scores, intervals, a verdict, and how much room the data leave."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from scperturb_modules.metrics import PRIMARY
from scperturb_modules.metrics._conformal import LEVEL
from scperturb_modules.metrics._status import MISSING
from scperturb_modules.tl import _ceilings, _coverage, _margins, _store, _summary, _verdict

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Benchmark:
    """The result of :func:`scperturb_modules.tl.benchmark`.

    Attributes
    ----------
    frame
        Tidy table, a row per predictor, condition, metric, split and seed; ``docs/formats.md`` describes the columns.
    predictions
        Prediction by (predictor, split label), a label being ``"<scheme>_fold<k>"``; of the first training seed.
    truths
        Pseudobulk of all cells by split label.
    errors
        A row per failed run: ``predictor, split, model_seed, message, traceback``. Failed runs are scored as "no
        change".
    skipped
        A row per baseline that does not apply to a split: ``predictor, split, reason``.
    replicates
        A row per condition and metric: what a replicate of the experiment, ``MeanShift`` and ``NoChange`` score
        against one half of the cells.
    margins
        A row per condition, predictor, mandatory baseline, split and training seed: both L2 errors, the difference of
        their squares and its standard error; :meth:`conditions` sums it up.
    calibration
        A row per condition, predictor, split and level: how its interval did; :meth:`coverage` sums it up.
    timings
        A row per run: ``predictor, split, model_seed, fit_seconds, predict_seconds``.
    settings
        The arguments of the call that change a result.
    """

    frame: pd.DataFrame
    predictions: Mapping[tuple[str, str], AnnData] = field(default_factory=dict)
    truths: Mapping[str, AnnData] = field(default_factory=dict)
    errors: pd.DataFrame = field(default_factory=pd.DataFrame)
    skipped: pd.DataFrame = field(default_factory=pd.DataFrame)
    replicates: pd.DataFrame = field(default_factory=pd.DataFrame)
    margins: pd.DataFrame = field(default_factory=pd.DataFrame)
    calibration: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_coverage.CALIBRATION_COLUMNS))
    timings: pd.DataFrame = field(default_factory=pd.DataFrame)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def summary(self) -> pd.DataFrame:
        """Mean and interval of every metric, and the gain over the baseline that is hardest to beat.

        Returns
        -------
        DataFrame
            A row per ``split_kind``, ``regime``, ``metric`` and ``model``, best first: ``mean`` with 95 % interval
            ``ci_low``, ``ci_high``; ``gain_vs``, the mandatory baseline of the regime that the model gains least on,
            the ``gain`` (1 - ratio of mean losses) with ``gain_low``, ``gain_high`` and the permutation test's ``p``
            (secondary metrics: Holm-adjusted); ``n`` clusters of conditions; ``n_undefined`` conditions without a
            value; ``win_share``, the share of conditions where the model is better; ``seed_sd`` and ``split_sd``,
            standard deviations of the gain over training seeds and splits; ``verdict``, a word for the primary metric.
            :meth:`gains` has the primary metric against every mandatory baseline.
        """
        return self._summary.copy()

    def gains(self) -> pd.DataFrame:
        """Every comparison behind :meth:`summary`: on the primary metric one row per mandatory baseline."""
        return self._gains.copy()

    def by_effect(self) -> pd.DataFrame:
        """Mean of the primary metric in thirds of the conditions: weak, middle and strong true effects."""
        return _summary.by_effect(self.frame)

    def room(self) -> pd.DataFrame:
        """Per regime: the best mandatory baseline's error, the floor of a perfect prediction, the room between.

        ``room`` = 1 - floor^2 / error^2. Below .2 replicate noise explains most of the error, and the data cannot
        rank models.
        """
        return self._room.copy()

    def quality(self) -> pd.DataFrame:
        """Whether each metric can tell a replicate of the experiment from the training mean, on these data.

        See :func:`scperturb_modules.pl.metric_quality`. Columns: ``metric, replicate, mean_shift, no_change,
        dynamic_range, replicate_wins, n``.
        """
        return _ceilings.quality(self.replicates)

    def verdict(self) -> str:
        """The result in sentences: the bar of each regime, then every contender against it."""
        failed = list(self.errors["predictor"]) if len(self.errors) else []
        return _verdict.in_words(
            self._summary,
            self._room,
            self._verdicts,
            protocol=self._protocol,
            errors=failed,
            absent=_absent(self.frame),
            wins=self._wins,
        )

    def verdicts(self) -> pd.DataFrame:
        """The verdicts of :meth:`verdict` as a table, with those on baselines.

        Returns
        -------
        DataFrame
            A row per ``split_kind``, ``regime`` and ``model``, best first: ``is_baseline``; ``word`` (``beats``, ``no
            better``, ``worse``, ``cannot tell`` or ``shrinkage only``); the gain over the mandatory baseline that is
            hardest to beat, as in :meth:`summary`; ``p`` of the claim that all mandatory baselines are beaten, below
            .05 exactly where all intervals lie above 0; ``p_adjusted``, the same by Holm's method over the models
            (not the baselines) of the regime: a model *beats* where it is below .05; ``n`` clusters of conditions;
            ``text``, the sentence.
        """
        return _verdict.verdict_table(self._summary, self._verdicts)

    def conditions(self) -> pd.DataFrame:
        """In which conditions a predictor is closer to the truth than the best baseline, beyond noise of the cells.

        Returns
        -------
        DataFrame
            A row per ``split_kind``, ``regime``, ``stratum``, ``condition`` and ``model`` (predictors that are not
            mandatory in the regime): the mandatory ``baseline`` with the smallest mean error in the regime, the L2
            ``error`` and ``baseline_error``, the ``gain`` (1 - their ratio) with its standard error ``se``,
            ``n_cells``, and a ``word``: ``beats`` (closer than the baseline), ``loses`` (farther) or ``ties``.

        Notes
        -----
        The difference of squared errors is linear in the measured mean, so that its standard error follows from the
        condition's cells projected on the difference of the two predictions. Words are adjusted by Benjamini and
        Hochberg's method over the conditions of a model and regime at 5 %. They speak of these two predictions, as they
        are, for this condition: whether the model is better in general is for :meth:`verdict`.
        """
        return _margins.condition_table(self.margins)

    def ceilings(self) -> pd.DataFrame:
        """What a perfect prediction of each condition could reach on these data.

        Returns
        -------
        DataFrame
            A row per ``split_kind``, ``regime``, ``stratum`` and ``condition``: ``n_cells``; ``replicate_r``, the
            Pearson correlation of change between halves of the cells, each against its own half of the controls;
            ``reliability``, the same for two replicates of full size (Spearman-Brown, ``2 r / (1 + r)``); ``best_r``,
            its root, the best correlation of a noise-free prediction with the data; ``floor``, the L2 distance of a
            perfect prediction. NaN below 20 cells, ``reliability`` and ``best_r`` also where ``replicate_r`` is not
            positive, all three where ``pearson_delta`` was not scored.
        """
        return _ceilings.ceiling_table(self.frame, self.replicates)

    def coverage(self, *, level: float = LEVEL) -> pd.DataFrame:
        """Whether the intervals of the predictions hold what they promise, on the test conditions.

        Parameters
        ----------
        level
            .5, .6, .7, .8, .9 or .95.

        Returns
        -------
        DataFrame
            A row per split kind, regime and predictor with intervals: ``n`` conditions; ``coverage``, the share of
            measured changes inside (mean over conditions), with its 95 % interval ``coverage_low``, ``coverage_high``;
            mean ``width`` (log1p scale) and ``relative_width`` (over that of MeanShift's intervals);
            ``interval_score`` (lower is better), and ``constant_coverage`` and ``constant_score`` of intervals that
            are equally wide for all genes and conditions; ``bound_coverage``, the share of conditions whose L2 error
            is below ``error_bound``.
        """
        return _coverage.coverage(self.calibration, level=level, **self._draws)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write everything into one HTML file that needs no network; the same as ``spm.report.write_report``."""
        # by the public name: the report reads a benchmark, never the other way round
        import scperturb_modules as spm

        spm.report.write_report(self, path)

    def plot(self, *, metric: str = PRIMARY, regime: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw the leaderboard; the same as ``spm.pl.leaderboard(board)``."""
        # by the public name: pictures stand beside this folder, neither imports the other
        import scperturb_modules as spm

        return spm.pl.leaderboard(self, metric=metric, regime=regime, ax=ax)

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write tables, verdict, predictions and truths into a folder, each file whole or not at all.

        ``leaderboard.csv`` (summary), ``gains.csv``, ``by_effect.csv``, ``results.csv`` (frame, lossless),
        ``room.csv``, ``quality.csv``, ``replicates.csv``, ``margins.csv``, ``calibration.csv``, ``coverage.csv``,
        ``errors.csv``, ``skipped.csv``, ``verdict.txt``, ``predictions/<predictor>__<split>.h5ad``,
        ``truth/<split>.h5ad`` and ``run.json`` (settings, versions and times; the one file that differs between two
        equal runs).

        Parameters
        ----------
        folder
            Is made if it does not exist. Other files in it stay.
        overwrite
            Write into a folder that is not empty.

        Raises
        ------
        FileExistsError
            The folder is not empty and ``overwrite`` is False.
        """
        _store.write_board(self, folder, overwrite=overwrite)

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Benchmark:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileNotFoundError
            No benchmark is there.
        """
        return cls(**_store.read_board(folder))

    @property
    def _protocol(self) -> str:
        found = set(self.frame["protocol"].astype(str))
        return "published" if "published" in found else "strict"

    @property
    def _draws(self) -> dict[str, int]:
        return {name: int(self.settings.get(name, default)) for name, default in (("n_boot", 10_000), ("seed", 0))}

    @cached_property
    def _gains(self) -> pd.DataFrame:
        return _summary.gains(self.frame, **self._draws)

    @cached_property
    def _room(self) -> pd.DataFrame:
        return _ceilings.room(self.frame)

    @cached_property
    def _verdicts(self) -> dict[tuple[str, str, str], _verdict.Judged]:
        models = set(self.frame.loc[~self.frame["is_baseline"], "model"].astype(str))
        return _verdict.judge(self._gains, self._room, self._wins, protocol=self._protocol, models=models)

    @cached_property
    def _wins(self) -> dict[tuple[str, str], tuple[float, int]]:
        return _ceilings.replicate_wins(self.replicates)

    @cached_property
    def _summary(self) -> pd.DataFrame:
        words = {key: found.verdict.word for key, found in self._verdicts.items()}
        return _summary.summarise(self.frame, self._gains, words, **self._draws)

    def __repr__(self) -> str:
        n_models, n_conditions = self.frame["model"].nunique(), len(self._tested)
        n_splits = len(self.frame[["split_kind", "split_seed", "fold"]].drop_duplicates())
        return f"Benchmark: {n_models} predictors, {n_conditions} conditions, {n_splits} splits\n\n{self.verdict()}"

    def _repr_html_(self) -> str:
        from html import escape

        shown = self._summary[self._summary["metric"] == PRIMARY].drop(columns=["metric", "split_sd", "seed_sd"])
        text = escape(self.verdict()).replace("\n", "<br>")
        return f"<p>{text}</p>{shown.to_html(index=False, float_format='{:.3f}'.format)}"

    @property
    def _tested(self) -> pd.DataFrame:
        return self.frame.loc[self.frame["metric"] == PRIMARY, ["stratum", "condition"]].drop_duplicates()


def _absent(frame: pd.DataFrame) -> dict[str, str]:
    """How many conditions a predictor gave no prediction for, in words, by predictor; of those that left any out."""
    primary = _summary.plain(frame[frame["metric"] == PRIMARY])
    found = {}
    for model, rows in primary.groupby("model"):
        missing = (rows["status"] == MISSING).groupby([rows["stratum"], rows["condition"]]).any()
        if missing.any():
            found[str(model)] = f"{missing.sum()} of {len(missing)} conditions"
    return found
