"""Seconds of training APP and of its predictions on a simulated screen of 224 conditions x 2,000 genes.

Run ``python benchmarks/speed/app.py``; writes ``docs/benchmarks/speed.md``. Limits, on 2 cores: 60 seconds of training
with one member, 3 times as long with five; 10 ms for the prediction of one new pair with one member, 30 ms with five.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from anndata import AnnData

import scperturb_modules as spm
from scperturb_modules._files import whole_file

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "speed.md"
SCREEN = {"n_genes": 2000, "n_perturbable": 100, "n_pairs": 124, "n_cells": 20, "n_modules": 20}
MEMBERS = (1, 5)
LIMIT_TRAINING, LIMIT_RATIO = 60.0, 3.0
LIMIT_PREDICTION = {1: 0.010, 5: 0.030}
CALLS = 50
MANY = 1000


@dataclass(frozen=True)
class Spent:
    """Times of one model, in seconds."""

    n_members: int
    n_all_members: int
    training: float
    process: float
    fitting: float
    n_epochs: int
    one: float
    network: float
    many: float


def training_side(seed: int = 0) -> tuple[AnnData, object]:
    """Training pseudobulk of the screen, and its network."""
    adata = spm.datasets.simulate("default", seed=seed, **SCREEN)
    return spm.pp.pseudobulk(adata, cells="training"), adata.uns["scperturb_modules"]["simulation"]["graph_partial"]


def new_pairs(training: AnnData, n: int) -> list[str]:
    """The first pairs of perturbed genes that were not measured."""
    measured = set(training.obs["perturbation"].astype(str))
    singles = sorted(label for label in measured if "+" not in label)
    pairs = ("+".join(pair) for pair in combinations(singles, 2))
    return [pair for pair in pairs if pair not in measured][:n]


def median_seconds(call: Callable[[], object]) -> float:
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


@contextmanager
def timed_network(model: spm.APP) -> Iterator[list[float]]:
    """Collect the seconds of each answer of the network."""
    answer, times = model._network_answer, []

    def timed(rows: Sequence[tuple[str, str | None]]) -> object:
        start = time.perf_counter()
        found = answer(rows)
        times.append(time.perf_counter() - start)
        return found

    model._network_answer = timed
    yield times
    del model._network_answer


def measure(training: AnnData, network: object, n_members: int, max_epochs: int) -> Spent:
    """Train, save, load, predict."""
    start, process = time.perf_counter(), time.process_time()
    model = spm.APP(training, priors=[network], n_members=n_members)
    model.train(max_epochs=max_epochs, progress=False, accelerator="cpu")
    spent, process = time.perf_counter() - start, time.process_time() - process
    fit = model.fit_result
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        loaded = spm.load(Path(folder) / "model")
    pairs = new_pairs(training, MANY)
    with timed_network(loaded) as answers:
        one = median_seconds(lambda: loaded.predict(pairs[:1], store=False))
        network_seconds = float(np.median(answers))
    start = time.perf_counter()
    assert loaded.predict(pairs, store=False).n_obs == MANY
    many = time.perf_counter() - start
    return Spent(
        n_members, model.module.n_members, spent, process, fit.seconds, fit.n_epochs, one, network_seconds, many
    )


def page(found: Sequence[Spent], load: float) -> str:
    """Times against their limits, as Markdown."""
    first, last = found[0], found[-1]
    ratio = last.training / first.training
    head = [
        "members that predict", "members trained", "training, s", "of it processor time, s", "epochs", "s per epoch",
        "one pair, ms", "of it the network, ms", f"{MANY} pairs, s",
    ]  # fmt: skip
    rows = [
        [
            one.n_members, one.n_all_members, f"{one.training:.1f}", f"{one.process:.1f}", one.n_epochs,
            f"{one.fitting / one.n_epochs:.2f}", f"{1e3 * one.one:.1f}", f"{1e3 * one.network:.1f}", f"{one.many:.2f}",
        ]
        for one in found
    ]  # fmt: skip
    table = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in (head, ["---"] * len(head), *rows))
    return (
        "# Speed\n\n## APP\n\nMade by `make bench-speed`; nothing here is edited by hand. A simulated screen of 224 "
        f"conditions x 2,000 genes, one network, default settings otherwise; {torch.get_num_threads()} threads on "
        f"{os.cpu_count()} cores without a GPU. {load_in_words(load)}\n\n{table}\n\n"
        f"{last.n_members} members take {ratio:.1f} times as long as {first.n_members} (limit: {LIMIT_RATIO:.0f}): "
        f"those that leave out a fold are the same for both. Limits: {LIMIT_TRAINING:.0f} s of training with "
        f"one member; for a prediction, the median of {CALLS} calls for one new pair on a loaded model, "
        f"{1e3 * LIMIT_PREDICTION[1]:.0f} ms with one member and {1e3 * LIMIT_PREDICTION[5]:.0f} ms with five. "
        f"{' '.join(missed(found)) or 'All are kept.'}\n"
    )


def load_in_words(load: float) -> str:
    """How busy the machine was before the first fit: wall times of a busy one say little."""
    cores = os.cpu_count() or 1
    busy = "busy with other work, so that wall times are too long" if load > 0.5 * cores else "idle"
    return f"The machine was {busy} (load average {load:.1f})."


def missed(found: Sequence[Spent]) -> list[str]:
    """Sentences on limits that are not kept."""
    said = []
    if found[0].training > LIMIT_TRAINING:
        said.append(f"Missed: training takes {found[0].training:.0f} s.")
    if found[-1].training > LIMIT_RATIO * found[0].training:
        said.append("Missed: the ratio.")
    for one in found:
        if one.one > LIMIT_PREDICTION[one.n_members]:
            said.append(f"Missed: a prediction with {one.n_members} members takes {1e3 * one.one:.0f} ms.")
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, help="train so many epochs at most, and write no page")
    chosen = parser.parse_args().epochs
    load = os.getloadavg()[0]
    training, network = training_side()
    measure(training, network, 1, 1)  # the first fit of a process also imports
    found = []
    for n_members in MEMBERS:
        found.append(measure(training, network, n_members, chosen or 100))
        print(found[-1], flush=True)
    text = page(found, load)
    print(text)
    if chosen is None:
        with whole_file(PAGE) as temporary:
            temporary.write_text(text)
        if missed(found):
            raise SystemExit("\n".join(missed(found)))


if __name__ == "__main__":
    main()
