"""One case of the page of priors: errors per target, and the paired comparisons that all texts rest on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from priors_runs import BASE, DECOY, ONE_CONTEXT, PARTIAL, SCREENS, TRUE, Runs, real_sources, run_screen, run_simulated
from real_summary import percent

import scperturb_modules as spm
from scperturb_modules.metrics import Gain

TITLES = {
    ("papalexi", ONE_CONTEXT): "Papalexi, THP-1",
    ("norman", ONE_CONTEXT): "Norman, K562",
    ("datlinger", "stimulated"): "Datlinger, Jurkat, stimulated",
    ("datlinger", "unstimulated"): "Datlinger, Jurkat, unstimulated",
}
SIMULATED = "Simulated screens"


@dataclass(frozen=True)
class Case:
    """What was found in one context of one screen.

    Attributes
    ----------
    title
        Its name on the page.
    sources
        The predictors that are given one source alone.
    runs
        Errors and what was learned.
    """

    title: str
    sources: tuple[str, ...]
    runs: Runs

    @cached_property
    def errors(self) -> pd.DataFrame:
        """Targets x predictors."""
        wide = self._wide("L2")
        if wide.isna().to_numpy().any():
            raise SystemExit(f"{self.title}: no error for {list(wide.index[wide.isna().any(axis=1)])}")
        return wide

    @property
    def best_source(self) -> str:
        """The source with the lowest error, which nobody can know beforehand."""
        return str(self.errors[list(self.sources)].mean().idxmin())

    @cached_property
    def known(self) -> pd.DataFrame:
        """Targets x predictors: whether a prior knows the target, NaN without priors."""
        return self._wide("known")

    def _wide(self, column: str) -> pd.DataFrame:
        return self.runs.errors.pivot(index="target", columns="predictor", values=column)

    def gain(self, predictor: str, base: str = BASE, *, known_only: bool = False) -> Gain:
        """Paired over targets, all or those that a prior of the predictor knows."""
        rows = self.errors[self.known[predictor] == 1] if known_only else self.errors
        return spm.metrics.compare(rows[predictor].to_numpy(), rows[base].to_numpy())

    def shown(self, *, better: bool) -> list[str]:
        """Sources that alone are shown to be better, or worse, than the base: the interval says so."""
        gains = {name: self.gain(name) for name in self.sources}
        return [name for name, gain in gains.items() if (gain.low > 0 if better else gain.high < 0)]

    def against(self, predictor: str, base: str) -> str:
        """The comparison as the end of a sentence."""
        gain = self.gain(predictor, base)
        said = "is lower than" if gain.low > 0 else "is higher than" if gain.high < 0 else "is not shown to differ from"
        return f"{said} that of {base} (gain {percent(gain)} %)"

    def table(self) -> pd.DataFrame:
        """A row per predictor, the lowest error first."""
        rows = []
        for name in map(str, self.errors):
            mean = spm.metrics.mean_interval(self.errors[name].to_numpy())
            n_known = self.known[name].sum(min_count=1)
            row = {"case": self.title, "predictor": name, "targets": mean.n, "known": n_known}
            row |= {"L2": mean.value, "L2_low": mean.low, "L2_high": mean.high}
            gains = {f"over_{base}": self.gain(name, base) for base in (BASE, "NoChange")}
            if n_known > 0:
                gains["of_known"] = self.gain(name, known_only=True)
            for what, gain in gains.items():
                row |= {what: gain.gain, f"{what}_low": gain.low, f"{what}_high": gain.high}
            rows.append(row)
        return pd.DataFrame(rows).sort_values("L2", kind="stable", ignore_index=True)

    def learned(self) -> pd.DataFrame:
        """A row per predictor and source: its mean weight over folds, and the settings that most folds chose.

        A fold in which a source has no fit counts as weight 0.
        """
        rows = []
        for predictor, of_predictor in self.runs.learned.groupby("predictor", sort=False):
            n_folds = int((of_predictor["source"] == BASE).sum())  # the base has a row in each
            for source, fits in of_predictor.groupby("source", sort=False):
                row = {"case": self.title, "predictor": predictor, "source": source, "folds": n_folds}
                row["weight"] = fits["weight"].sum() / n_folds
                settings = fits[["view", "power", "pseudo_count"]].value_counts()
                if len(settings):
                    row |= dict(zip(settings.index.names, settings.index[0], strict=True))
                    row["folds_with_these"] = int(settings.iloc[0])
                rows.append(row)
        return pd.DataFrame(rows)


def real_cases() -> Iterator[Case]:
    """The real screens, each context a case."""
    for name in SCREENS:
        runs = run_screen(name)
        for context in sorted(set(runs.errors["context"])):
            yield Case(TITLES[name, context], tuple(real_sources()), runs.of(context))


def simulated_case() -> Case:
    return Case(SIMULATED, (TRUE, PARTIAL, DECOY), run_simulated())
