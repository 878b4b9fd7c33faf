"""Seconds and memory of the networks made from annotations, pathways and the screen itself.

Run ``python benchmarks/speed/priors.py``; reads ``../shared/priors`` and writes the section on priors of
``docs/benchmarks/speed.md``. Limits, on 2 cores: 3 seconds for the GO network of 20,000 genes, 1 second for the
same-pathway mask of 5,000 genes, 30 seconds and 4 GiB for co-expression of 20,000 genes in 5,000 cells. Each is
measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scperturb_modules import priors
from scperturb_modules._files import whole_file

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "benchmarks" / "speed.md"
FILES = REPOSITORY.parent / "shared" / "priors"
HEADING = "## Priors"
LIMIT_GIB = 4.0
RUNS = 5
CELLS_AT_ONCE = 500


@dataclass(frozen=True)
class Task:
    """What is measured: ``prepare`` reads or draws the input and returns the call that is timed."""

    what: str
    limit: float
    prepare: Callable[[], Callable[[], object]]


@dataclass(frozen=True)
class Spent:
    """Seconds of preparing and of each run, memory of the whole process before the runs and at its peak, the result.

    ``processor`` are the seconds of all threads together, which other work on the machine hardly changes.
    """

    name: str
    preparing: float
    runs: tuple[float, ...]
    processor: tuple[float, ...]
    gib_before: float
    gib_peak: float
    result: str


def go_network() -> Callable[[], object]:
    """Annotations of all genes, to their ancestors."""
    annotations, terms = (pd.read_csv(FILES / f"{name}.tsv.gz", sep="\t") for name in ("go_gene2term", "go_terms"))
    genes = sorted(set(annotations["symbol"].dropna()))[:20_000]
    return lambda: priors.gene_ontology(genes, annotations, terms)


def pathway_mask() -> Callable[[], object]:
    """The most specific pathways of genes that Reactome has."""
    hierarchy = priors.reactome(None, FILES / "reactome_pathways.gmt.gz", FILES / "reactome_pathway_relation.tsv.gz")
    genes = np.random.default_rng(0).choice(hierarchy.genes, 5_000, replace=False)
    return lambda: hierarchy.same_pathway_mask(genes)


def coexpression() -> Callable[[], object]:
    """Counts of 20,000 genes in modules of forty, a sixth of them above zero."""
    n_cells, n_genes, n_modules = 5_000, 20_000, 500
    rng = np.random.default_rng(0)
    module, rate = np.resize(np.arange(n_modules), n_genes), rng.lognormal(-2.5, 1.3, n_genes)
    loading = rng.uniform(0.3, 1.5, n_genes)
    blocks = []
    for _ in range(0, n_cells, CELLS_AT_ONCE):
        activity = rng.normal(size=(CELLS_AT_ONCE, n_modules))[:, module]
        counts = rng.poisson(rate * np.exp(loading * activity))
        blocks.append(sparse.csr_matrix(np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True)), dtype=np.float32))
    obs = pd.DataFrame({"perturbation": "control", "split": "train"}, index=np.arange(n_cells).astype(str))
    screen = AnnData(sparse.vstack(blocks, format="csr"), obs=obs)
    return lambda: priors.coexpression(screen)


TASKS = {
    "go": Task("GO network (Jaccard) of 20,000 genes", 3.0, go_network),
    "mask": Task("Reactome same-pathway mask of 5,000 genes", 1.0, pathway_mask),
    "coexpression": Task("co-expression, 20,000 genes x 5,000 cells", 30.0, coexpression),
}


def measure(name: str, runs: int) -> Spent:
    """Prepare once, call several times; in this process."""
    start = time.perf_counter()
    call = TASKS[name].prepare()
    preparing, before, times, processor = time.perf_counter() - start, peak_gib(), [], []
    for _ in range(runs):
        start, busy = time.perf_counter(), time.process_time()
        result = call()
        times.append(time.perf_counter() - start)
        processor.append(time.process_time() - busy)
    return Spent(name, preparing, tuple(times), tuple(processor), before, peak_gib(), repr(result))


def peak_gib() -> float:
    """The largest memory of this process so far; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measured_apart(name: str, runs: int) -> Spent:
    """The same in a process of its own, so that the peak of one is not that of another."""
    command = [sys.executable, __file__, "--only", name, "--runs", str(runs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Spent(**json.loads(done.stdout))


def section(found: Sequence[Spent], load: float) -> str:
    """Times against their limits, as Markdown."""
    head = [
        "what", "limit, s", "fastest, s", "median, s", "processor time, s", "runs", "reading or drawing the input, s",
        "memory of the process before, GiB", "at its peak, GiB", "result",
    ]  # fmt: skip
    rows = [
        [
            TASKS[one.name].what, f"{TASKS[one.name].limit:.0f}", f"{min(one.runs):.2f}",
            f"{statistics.median(one.runs):.2f}", f"{statistics.median(one.processor):.2f}", len(one.runs),
            f"{one.preparing:.1f}", f"{one.gib_before:.2f}", f"{one.gib_peak:.2f}", one.result,
        ]
        for one in found
    ]  # fmt: skip
    table = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in (head, ["---"] * len(head), *rows))
    cores = os.cpu_count() or 1
    busy = "busy with other work, so that times are too long" if load > 0.5 * cores else "idle"
    return (
        f"{HEADING}\n\nMade by `benchmarks/speed/priors.py`; nothing here is edited by hand. Tables are in memory and "
        f"all settings are the defaults; {cores} cores without a GPU. The machine was {busy} (load average {load:.1f})."
        f"\n\n{table}\n\nThe median has to keep the limit, and co-expression has to stay below {LIMIT_GIB:.0f} GiB in "
        f"all. {' '.join(missed(found)) or 'All limits are kept.'}\n"
    )


def missed(found: Sequence[Spent]) -> list[str]:
    """Sentences on limits that are not kept."""
    slow = [one for one in found if statistics.median(one.runs) > TASKS[one.name].limit]
    said = [f"Missed: {TASKS[one.name].what} takes {statistics.median(one.runs):.1f} s." for one in slow]
    large = [one for one in found if one.gib_peak > LIMIT_GIB]
    return said + [f"Missed: {TASKS[one.name].what} takes {one.gib_peak:.1f} GiB." for one in large]


def write(text: str) -> None:
    """Replace the section, which is the last of the page."""
    before = PAGE.read_text().partition(f"\n{HEADING}\n")[0]
    with whole_file(PAGE) as temporary:
        temporary.write_text(f"{before.rstrip()}\n\n{text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=TASKS, help="measure one in this process, print it as JSON, write no page")
    parser.add_argument("--runs", type=int, default=RUNS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(vars(measure(options.only, options.runs))))
        return
    load = os.getloadavg()[0]
    found = [measured_apart(name, options.runs) for name in TASKS]
    text = section(found, load)
    print(text)
    write(text)
    if missed(found):
        raise SystemExit("\n".join(missed(found)))


if __name__ == "__main__":
    main()
