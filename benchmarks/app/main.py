"""What APP is worth on simulated screens: `make bench-app`.

Fits are kept under ``results/app``, one file each, so that an interrupted run goes on where it was; delete that
folder to begin anew. Writes ``docs/benchmarks/app.md``, its tables beside it and its figures under ``docs/_static``;
nothing on the page is edited by hand.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import chain

import plan
from ablations import ablations, network_quality, sizes
from figures import draw_quality, draw_unseen
from rich.console import Console
from runs import ROOT, Experiment, run_all
from sections import Section, interactions, nothing, unseen

from scperturb_modules._files import whole_file

PAGES = ROOT / "docs" / "benchmarks"

HEAD = """# APP on simulated screens

Made by `make bench-app`; nothing here is edited by hand. The default settings of `spm.APP` were chosen on screens of
seeds from 100 on; these are screens, splits and models of the seeds 0 to 4 (`spm.datasets.simulate`, 600 genes, 40
perturbed genes, 100 cells per condition). Errors are L2 distances over all genes on the log1p scale, as
`spm.tl.evaluate` gives them, of test conditions pooled over the seeds. A gain of 5 means an error 5 % lower; intervals
are 95 % bootstrap intervals of paired comparisons, a condition of one seed being one unit. They do not hold the
variation from one training run to another: the smallest and the largest gain of a seed stand beside them.

*Anchor*: `AdditiveShrunk` with the same priors, to which APP adds its network. These screens have interactions that
follow rules, and networks that hold the truth with gaps; a gain here says that the model can find what is there, not
that your screen holds it."""

SECTIONS: tuple[tuple[tuple[Experiment, ...], Callable[[], Section]], ...] = (
    (plan.INTERACTIONS, interactions),
    ((plan.UNSEEN,), unseen),
    ((*plan.ADDITIVE, plan.DECOY_UNSEEN, *plan.DECOY_PAIRS), nothing),
    ((plan.FULL_UNSEEN, plan.FULL_PAIRS), ablations),
    (plan.QUALITY, network_quality),
    ((*plan.INTERACTIONS, plan.UNSEEN), sizes),
)
FIGURES = (((plan.UNSEEN,), draw_unseen), (plan.QUALITY, draw_quality))


def write_page() -> None:
    """Write every section whose fits are all there."""
    parts, short = [], []
    for needed, make in SECTIONS:
        if all(one.is_done for one in needed):
            section = make()
            parts.append(section.text)
            short += [f"- {section.short}"] if section.short else []
            for name, table in section.tables.items():
                with whole_file(PAGES / f"{name}.csv") as path:
                    table.to_csv(path, index=False)
    for needed, draw in FIGURES:
        if all(one.is_done for one in needed):
            draw(ROOT / "docs" / "_static")
    with whole_file(PAGES / "app.md") as path:
        path.write_text("\n\n".join([HEAD, "\n".join(short), *parts]) + "\n")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="fit nothing, write the page of the fits that are there")
    console = Console()
    if not parser.parse_args(argv).page:
        for experiments in plan.ORDER:
            run_all(experiments, console.print)
            write_page()
    write_page()
    missing = sorted({one.path(0).name for one in chain(*plan.ORDER) if not one.is_done})
    console.print(f"{len(missing)} experiments are not complete." if missing else "The page is complete.")


if __name__ == "__main__":
    main()
