"""Seconds of masked attention against permitted pairs and against genes, beside dense attention over all genes.

Run ``python benchmarks/speed/attention.py``; draws its masks, and writes ``docs/benchmarks/attention.csv`` and
``docs/_static/attention_time.png``. Masks are random pathways of 40 genes, that overlap. Times are seconds of the
processor on one thread, forward and backward of one member and two conditions: other work on the machine makes them
longer, but hardly their ratios. At a fixed number of pairs, ten times the genes may take at most fifteen times as long.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy import sparse

from scperturb_modules._files import whole_file
from scperturb_modules.nn import MaskedAttention
from scperturb_modules.nn._masked_attention import with_diagonal
from scperturb_modules.nn._permitted import DensePairs
from scperturb_modules.pl._style import BASELINE_COLOR, PALETTE, quiet

DOCS = Path(__file__).resolve().parents[2] / "docs"
PATHWAY, WIDTH, CONDITIONS = 40, 32, 2
AUTO, DENSE = "auto", "dense, all genes"
FORMS = {
    AUTO: ("chosen by cost", PALETTE[0], "o"),
    "buckets": ("blocks of genes", PALETTE[1], "v"),
    "sdpa": ("dense, genes with a partner", PALETTE[2], "D"),
    "edges": ("list of pairs", PALETTE[3], "^"),
    DENSE: ("dense, all genes", BASELINE_COLOR, "s"),
}
N_GENES, N_PATHWAYS = 4_000, 20
PATHWAYS = (5, 10, 20, 40, 80, 160)
GENES = (2_000, 4_000, 8_000, 20_000)
MOST_DENSE = 8_000
GROWTH_LIMIT = 1.5
RUNS = 3


def drawn_mask(n_genes: int, n_pathways: int) -> sparse.csr_array:
    """Genes that share one of the pathways."""
    rng = np.random.default_rng(0)
    members = np.concatenate([rng.choice(n_genes, PATHWAY, replace=False) for _ in range(n_pathways)])
    pathway = np.repeat(np.arange(n_pathways), PATHWAY)
    sets = sparse.csr_array((np.ones(len(members), dtype=np.int64), (members, pathway)), shape=(n_genes, n_pathways))
    return sparse.csr_array((sets @ sets.T) > 0)


def layer_of(mask: sparse.csr_array, form: str) -> MaskedAttention:
    """With the pairs computed in this form."""
    if form != DENSE:
        return MaskedAttention(1, WIDTH, mask, method=form)
    layer = MaskedAttention(1, WIDTH, None)
    layer.pairs = DensePairs(with_diagonal(mask))
    return layer


def seconds(call: Callable[[], object], runs: int) -> float:
    """Median of the processor's seconds, after one call that is not timed."""
    call()
    times = []
    for _ in range(runs):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times)


def measured(sweep: str, n_genes: int, n_pathways: int, runs: int) -> list[dict[str, object]]:
    """One mask, all forms."""
    mask = drawn_mask(n_genes, n_pathways)
    partners = np.diff(with_diagonal(mask).indptr) - 1
    x = torch.randn(1, CONDITIONS, n_genes, WIDTH, requires_grad=True)
    rows = []
    for form in FORMS:
        if form == DENSE and n_genes > MOST_DENSE:
            continue
        layer = layer_of(mask, form)
        took = seconds(lambda layer=layer: layer(x).sum().backward(), runs)
        rows.append(
            {
                "sweep": sweep, "n_genes": n_genes, "n_pairs": int(partners.sum()),
                "genes_with_partner": int((partners > 0).sum()), "form": form, "seconds": round(took, 5), "runs": runs,
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def growth(table: pd.DataFrame, sweep: str, over: str, form: str) -> float:
    """Seconds grow as this power of the pairs or the genes, from the smallest to the largest."""
    found = table[(table["sweep"] == sweep) & (table["form"] == form)].sort_values(over)
    first, last = found.iloc[0], found.iloc[-1]
    return float(np.log(last["seconds"] / first["seconds"]) / np.log(last[over] / first[over]))


def draw(table: pd.DataFrame, path: Path) -> None:
    """Pairs on the left, genes on the right."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
    sweeps = {
        "pairs": ("n_pairs", f"permitted pairs of {N_GENES:,} genes", (10_000, 30_000, 100_000)),
        "genes": ("n_genes", f"genes, about {N_PATHWAYS * PATHWAY * (PATHWAY - 1):,} permitted pairs", GENES),
    }
    for ax, (sweep, (over, label, ticks)) in zip(axes, sweeps.items(), strict=True):
        for form, (name, color, marker) in FORMS.items():
            found = table[(table["sweep"] == sweep) & (table["form"] == form)]
            # what is chosen lies upon one of the others
            width, size = (3, 8) if form == AUTO else (1.3, 5)
            ax.plot(found[over], found["seconds"], marker=marker, color=color, label=name, lw=width, ms=size)
        ax.set(xscale="log", yscale="log", xlabel=label)
        ax.minorticks_off()
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        quiet(ax)
    axes[0].set_ylabel("forward and backward, s")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False, fontsize="small"
    )
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    runs = parser.parse_args().runs
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows = [row for n in PATHWAYS for row in measured("pairs", N_GENES, n, runs)]
    rows += [row for n in GENES for row in measured("genes", n, N_PATHWAYS, runs)]
    table = pd.DataFrame(rows)
    with whole_file(DOCS / "benchmarks" / "attention.csv") as temporary:
        table.to_csv(temporary, index=False)
    draw(table, DOCS / "_static" / "attention_time.png")
    with_genes = growth(table, "genes", "n_genes", AUTO)
    print(
        f"Time grows as the pairs to the {growth(table, 'pairs', 'n_pairs', AUTO):.2f} and, at a fixed number of "
        f"pairs, as the genes to the {with_genes:.2f}; dense: to the {growth(table, 'genes', 'n_genes', DENSE):.2f}."
    )
    if with_genes > np.log10(10 * GROWTH_LIMIT):
        raise SystemExit(
            "Missed: at a fixed number of pairs, ten times the genes take more than fifteen times as long."
        )


if __name__ == "__main__":
    main()
