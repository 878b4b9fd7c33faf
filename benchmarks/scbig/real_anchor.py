"""SCBIG against its own anchor on the real screens: ``docs/benchmarks/scbig_real.csv``.

``PYTHONPATH=benchmarks:benchmarks/peers python benchmarks/scbig/real_anchor.py``. The screens, splits and priors of
``make bench-real``; Papalexi in five folds of its targets. Cells are not generated: they do not move predicted means.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from comparisons import ANCHOR, percent, word
from real import CASES, AnchorEverywhere, priors_of

import scperturb_modules as spm
from scperturb_modules._files import whole_file
from scperturb_modules.metrics import PRIMARY

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks"
NAMES = ("norman_pairs_published", "mcfaline_unseen_line", "papalexi_strict", "datlinger", "schraivogel_pairs")
FOLDS = {"papalexi_strict": 5}


def lines(name: str) -> Iterator[dict[str, Any]]:
    """A row for each regime of a screen."""
    case = next(one for one in CASES if one.name == name)
    if name in FOLDS:
        case = replace(case, settings=case.settings | {"n_folds": FOLDS[name]})
    adata = case.load()
    predictors = {"SCBIG": functools.partial(spm.SCBIG, generate=False), ANCHOR: AnchorEverywhere}
    board = spm.tl.benchmark(adata, predictors, priors=priors_of(adata), **case.settings)
    if len(board.errors):
        raise SystemExit(f"{name}: {board.errors['message'].iloc[0]}\n{board.errors['traceback'].iloc[0]}")
    scores = board.frame[board.frame["metric"] == PRIMARY].dropna(subset="value")
    for regime, group in scores.groupby("regime", observed=True):
        keys = [key for key in ("fold", "stratum", "condition") if key in group]
        table = group.pivot_table(index=keys, columns="model", values="value", observed=True)
        units = [str(index) for index in table.index]
        gain = spm.metrics.compare(table["SCBIG"].to_numpy(), table[ANCHOR].to_numpy(), units)
        yield {
            "screen": case.question, "regime": regime, "n": len(table), "SCBIG": round(table["SCBIG"].mean(), 3),
            ANCHOR: round(table[ANCHOR].mean(), 3), "gain, %": percent(gain), "error": word(gain),
        }  # fmt: skip


def main() -> None:
    rows: list[dict[str, Any]] = []
    for name in NAMES:
        rows += lines(name)
        print(pd.DataFrame(rows).to_string(index=False), flush=True)
        with whole_file(DOCS / "scbig_real.csv") as path:
            pd.DataFrame(rows).to_csv(path, index=False)


if __name__ == "__main__":
    main()
