"""Leaderboards of published screens with all their cells: `make bench-full`.

Needs a network at the first run (6 GB of downloads in all), or a local copy of one screen:
``python benchmarks/full.py --screen papalexi_2021 --path FILE.h5ad``. Nothing on this page was measured by the
developers: the tests run it on a small stand-in only.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
from real_priors import FOLDER, in_words, perturbed_genes, priors_of
from rich.console import Console

import scperturb_modules as spm
from scperturb_modules._files import whole_file
from scperturb_modules.metrics import PRIMARY

OUT = Path(__file__).resolve().parents[1] / "results" / "full"
N_TOP_GENES = 5000
COLUMNS = ["regime", "model", "mean", "ci_low", "ci_high", "gain", "gain_low", "gain_high", "gain_vs", "n"]


@dataclass(frozen=True)
class Screen:
    """A published screen and the column of its batches, within which controls are matched."""

    title: str
    load: Callable[..., ad.AnnData]
    batch_key: str | None = "batch"


SCREENS: Mapping[str, Screen] = {
    "norman_2019": Screen("Norman, K562: pairs", spm.datasets.norman_2019, "gemgroup"),
    "adamson_2016": Screen("Adamson, K562", spm.datasets.adamson_2016, None),
    "papalexi_2021": Screen("Papalexi, THP-1", spm.datasets.papalexi_2021, "hto"),
    "replogle_2022_k562": Screen("Replogle, K562", spm.datasets.replogle_2022_k562),
    "replogle_2022_rpe1": Screen("Replogle, RPE1", spm.datasets.replogle_2022_rpe1),
    "nadig_2025_hepg2": Screen("Nadig, HepG2", functools.partial(spm.datasets.nadig_2025, "hepg2")),
    "nadig_2025_jurkat": Screen("Nadig, Jurkat", functools.partial(spm.datasets.nadig_2025, "jurkat")),
}
PREDICTORS: Mapping[str, Callable[[], list[Any]]] = {
    "all": lambda: [*spm.baselines.ALL, spm.APP],
    "baselines": lambda: list(spm.baselines.ALL),
}


def priors_for(adata: ad.AnnData) -> tuple[Mapping[str, Any], str]:
    """The local tables of ``make bench-real`` where they are, else public files that are downloaded once; in words."""
    if FOLDER.is_dir():
        tables = priors_of(adata)
        return tables, in_words(tables, adata)
    genes = sorted({*adata.var_names, *perturbed_genes(adata)})
    public = {name: spm.priors.download(name) for name in ("go_annotations", "go_terms", "collectri")}
    graphs = {
        "GO": spm.priors.gene_ontology(genes, public["go_annotations"], public["go_terms"]),
        "CollecTRI": spm.priors.regulons(public["collectri"], genes),
    }
    said = ", ".join(f"{name} ({len(graph.weight)} edges)" for name, graph in graphs.items())
    return graphs, f"Priors: {said}."


def run(screen: Screen, predictors: Sequence[Any], *, path: Path | None, n_folds: int) -> tuple[Any, str]:
    """The board of one screen, and which priors every predictor was given."""
    adata = screen.load(path=path)
    spm.pp.normalize(adata)
    priors, said = priors_for(adata)
    settings = {"priors": priors, "batch_key": screen.batch_key, "n_folds": n_folds, "n_top_genes": N_TOP_GENES}
    return spm.tl.benchmark(adata, predictors, **settings), said


def section(name: str, board: Any, priors: str, seconds: float) -> str:
    """Verdict first, then the leaderboard, and what failed."""
    summary = board.summary()
    tables = [summary.loc[summary["metric"] == PRIMARY, COLUMNS]]
    if len(board.errors):  # scored as no change
        tables.append(board.errors[["predictor", "split", "message"]])
    parts = [f"## {SCREENS[name].title}", priors, *filter(None, board.verdict().splitlines())]
    parts += [f"```text\n{table.to_string(index=False, float_format='%.3f')}\n```" for table in tables]
    return "\n\n".join([*parts, f"{seconds:.0f} s. All results: `{name}/`."])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--screen", choices=SCREENS, help="run one screen")
    parser.add_argument("--path", type=Path, help="a local copy of that screen; nothing is downloaded")
    parser.add_argument("--predictors", choices=PREDICTORS, default="all", help="leave APP out with 'baselines'")
    parser.add_argument("--folds", type=int, default=5, help="splits per scheme")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the results")
    chosen = parser.parse_args(argv)
    if chosen.path is not None and chosen.screen is None:
        parser.error("--path needs --screen")
    parts = [f"# Published screens\n\nL2 distance of mean changes; over the {N_TOP_GENES} most variable genes."]
    console = Console(stderr=True)
    for name in [chosen.screen] if chosen.screen else SCREENS:
        console.rule(SCREENS[name].title)
        start = time.perf_counter()
        try:
            board, priors = run(SCREENS[name], PREDICTORS[chosen.predictors](), path=chosen.path, n_folds=chosen.folds)
        except OSError as error:
            raise SystemExit(str(error)) from error
        board.save(chosen.out / name, overwrite=True)
        parts.append(section(name, board, priors, time.perf_counter() - start))
        with whole_file(chosen.out / "full.md") as page:
            page.write_text("\n\n".join(parts) + "\n")
    print("\n\n".join(parts))


if __name__ == "__main__":
    main()
