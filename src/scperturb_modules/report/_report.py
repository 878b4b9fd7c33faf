"""A benchmark as one HTML file that needs nothing but a browser."""

from __future__ import annotations

import base64
import hashlib
import os
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pandas as pd

from scperturb_modules._files import whole_file
from scperturb_modules.report import _certainty, _interactions, _left_out, _pictures, _reproduce, _scores
from scperturb_modules.report._answers import answers_of, headline, recommendation
from scperturb_modules.report._predictions import predictions
from scperturb_modules.report._source import Source, source_of
from scperturb_modules.report._words import GLOSSARY

if TYPE_CHECKING:
    from scperturb_modules.tl import Benchmark

_PARTS = "scperturb_modules.report"


def write_report(
    board: Benchmark | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    title: str = "Can these predictions be believed?",
    next_conditions: pd.DataFrame | str | os.PathLike[str] | None = None,
) -> None:
    """Write a benchmark as one self-contained HTML page: no network, no other file.

    The verdict comes first, then which predictor to use, the leaderboard, how sure the predictions are, every test
    condition, genetic interactions, what was left out, what to test next, and how to make the same numbers again.

    Parameters
    ----------
    board
        A ``Benchmark``, or the folder where ``Benchmark.save`` wrote one.
    path
        The HTML file; is written whole or not at all, and replaces an older one.
    title
        Heading of the page.
    next_conditions
        The table of what to perturb next, or its CSV file. None: ``next.csv`` of the folder, if it is there.

    Raises
    ------
    FileNotFoundError
        No benchmark is in the folder.

    Notes
    -----
    The same folder gives the same bytes: the date is that of the run. A ``Benchmark`` that was never saved has none,
    and gets the present date.

    Examples
    --------
    >>> import pathlib, tempfile, scperturb_modules as spm
    >>> adata = spm.datasets.simulate("tiny", seed=0)
    >>> board = spm.tl.benchmark(adata, [spm.baselines.NoChange, spm.baselines.MeanShift], n_folds=2, n_boot=100)
    >>> page = pathlib.Path(tempfile.mkdtemp()) / "report.html"
    >>> write_report(board, page)
    >>> page.read_text(encoding="utf-8")[:15]
    '<!doctype html>'
    """
    text = _page(_contents(source_of(board, next_conditions), title))
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _contents(source: Source, title: str) -> dict[str, Any]:
    """What the template shows, section by section."""
    answers = answers_of(source)
    pairs = _interactions.interactions_of(source, answers)
    table, left_out = predictions(source, answers)
    settings = source.board.settings
    return {
        "title": title,
        "headline": headline(answers),
        "written": source.written,
        "version": source.versions.get("scperturb_modules", ""),
        "published": "published" in set(source.board.frame["protocol"].astype(str)),
        "answers": answers,
        "use": recommendation(source, answers),
        "leaderboard": _scores.leaderboard(source, answers),
        "figures": [(answer, _pictures.of_answer(source, answer)) for answer in answers],
        "quality": _scores.quality(source) if len(source.board.replicates) else None,
        "certainty": _certainty.certainty_text(source, answers),
        "coverage": _certainty.coverage(source),
        "coverage_picture": _pictures.of_coverage(source, _certainty.worth_a_line(source, answers)),
        "abstaining": _certainty.abstaining(source),
        "predictions": table,
        "predictions_left_out": left_out,
        "interactions": None if pairs is None else _interactions.interaction_table(pairs),
        "interactions_text": "" if pairs is None else _interactions.interactions_text(pairs),
        "interactions_picture": None if pairs is None else _pictures.of_interactions(pairs),
        "runs": _left_out.failed_or_skipped(source),
        "special": _left_out.special_conditions(source),
        "next": _left_out.next_table(source.next_conditions),
        "python_call": _reproduce.python_call(settings),
        "command_line": _reproduce.command_line(settings),
        "facts": _reproduce.facts(source),
        "glossary": GLOSSARY,
    }


def _page(contents: dict[str, Any]) -> str:
    """The template filled in; every text of the data is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    script, style = (files(_PARTS).joinpath("templates", name).read_text("utf-8") for name in ("page.js", "page.css"))
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=PackageLoader(_PARTS), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("page.html")
    # our own files alone go in as they are; the browser runs no script but this one
    return page.render(contents, style=Markup(style), script=Markup(script), script_hash=own).strip() + "\n"
