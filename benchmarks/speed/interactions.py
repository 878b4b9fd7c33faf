"""Seconds of Theil-Sen slopes of doubles, beside scikit-learn with the same number of pairs of genes.

Run ``python benchmarks/speed/interactions.py``; writes the section on genetic interactions of
``docs/benchmarks/speed.md``. As many doubles as Norman et al. (2019) measured, 5,000 genes, one thread. scikit-learn
takes one double after the other, so a few of them are timed and the mean is taken for all; in between ours takes all
of them, so that both meet the same load. Limit: at least 50 times as fast, in the median over these rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import TheilSenRegressor
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from scperturb_modules._files import whole_file
from scperturb_modules.metrics._theil_sen import MAX_PAIRS, theil_sen

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "speed.md"
HEADING = "## Genetic interactions"
DOUBLES, GENES = 131, 5_000
LIMIT = 50
ROUNDS = 3

Slopes = np.ndarray
Changes = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Round:
    """Seconds and processor seconds per double of both, and how far their slopes of one double are apart."""

    ours: tuple[float, float]
    theirs: tuple[float, float]
    apart: float


def changes() -> Changes:
    """Changes in a third of the genes, noise in all, and doubles that add up in part."""
    rng = np.random.default_rng(0)
    noise = 0.03 * rng.normal(size=(3, DOUBLES, GENES))
    first, second = 0.3 * rng.normal(size=(2, DOUBLES, GENES)) * (rng.random((2, DOUBLES, GENES)) < 0.3)
    c1, c2 = rng.uniform(0.2, 1.2, (2, DOUBLES, 1))
    return first + noise[0], second + noise[1], c1 * first + c2 * second + noise[2]


def timed(call: Callable[[], Slopes], n_doubles: int) -> tuple[Slopes, tuple[float, float]]:
    """What it returns, and seconds and processor seconds per double."""
    start, busy = time.perf_counter(), time.process_time()
    found = call()
    return found, ((time.perf_counter() - start) / n_doubles, (time.process_time() - busy) / n_doubles)


def measure(data: Changes, double: int) -> Round:
    """All doubles by ours, then this one by scikit-learn."""
    first, second, both = data
    model = TheilSenRegressor(fit_intercept=False, n_subsamples=2, max_subpopulation=MAX_PAIRS, random_state=0)
    ours, our_time = timed(lambda: theil_sen(first, second, both), DOUBLES)
    singles = np.column_stack([first[double], second[double]])
    theirs, their_time = timed(lambda: model.fit(singles, both[double]).coef_, 1)
    return Round(our_time, their_time, float(np.abs(ours[double] - theirs).max()))


def ratios(rounds: Sequence[Round], kind: int) -> list[float]:
    """How many times as fast, of each round; in seconds (0) or processor seconds (1)."""
    return [one.theirs[kind] / one.ours[kind] for one in rounds]


def section(rounds: Sequence[Round], load: float) -> str:
    """Times of both and their ratio, as Markdown."""
    head = ["Theil-Sen slopes", "ms per double", "processor time, ms per double", f"{DOUBLES} doubles, s"]
    rows = []
    for name, spent in (
        ("ours, all doubles", [one.ours for one in rounds]),
        (f"scikit-learn, {len(rounds)} doubles", [one.theirs for one in rounds]),
    ):
        seconds, processor = (statistics.median(column) for column in zip(*spent, strict=True))
        rows.append([name, f"{1e3 * seconds:,.1f}", f"{1e3 * processor:,.1f}", f"{DOUBLES * seconds:,.1f}"])
    table = "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows))
    cores = os.cpu_count() or 1
    busy = "busy with other work, so that times are too long" if load > 0.5 * cores else "idle"
    wall, processor_ratios = ratios(rounds, 0), ratios(rounds, 1)
    verdict = "It is kept." if kept(rounds) else "It is missed."
    return (
        f"{HEADING}\n\nMade by `benchmarks/speed/interactions.py`; nothing here is edited by hand. {DOUBLES} doubles, "
        f"{GENES:,} genes, {MAX_PAIRS:,} pairs of genes for both, one thread, {cores} cores without a GPU. The machine "
        f"was {busy} (load average {load:.1f}). Median of {len(rounds)} rounds, each all doubles by ours and then one "
        f"by scikit-learn; its time for all {DOUBLES} is that of one times {DOUBLES}.\n\n{table}\n\nOurs is "
        f"{statistics.median(wall):,.0f} times as fast (rounds: {min(wall):,.0f} to {max(wall):,.0f}), in processor "
        f"time {statistics.median(processor_ratios):,.0f} times; the limit is {LIMIT}. {verdict} Slopes differ by at "
        f"most {max(one.apart for one in rounds):.4f}, because the two draw different pairs and scikit-learn stops at "
        f"a step of 0.001, ours at 1e-10.\n"
    )


def kept(rounds: Sequence[Round]) -> bool:
    return statistics.median(ratios(rounds, 0)) >= LIMIT


def write(text: str) -> None:
    """Replace the section, which is the last of the page."""
    before = PAGE.read_text().partition(f"\n{HEADING}\n")[0]
    with whole_file(PAGE) as temporary:
        temporary.write_text(f"{before.rstrip()}\n\n{text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="doubles that scikit-learn gets")
    parser.add_argument("--print", action="store_true", help="write no page")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    data = changes()
    with threadpool_limits(1):
        rounds = [measure(data, double) for double in range(options.rounds)]
    text = section(rounds, load)
    print(text)
    if not options.print:
        write(text)
    if not kept(rounds):
        raise SystemExit(f"Less than {LIMIT} times as fast as scikit-learn.")


if __name__ == "__main__":
    main()
