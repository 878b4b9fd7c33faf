"""Every problem of a screen at once, with what mends it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import pandas as pd

from scperturb_modules import _keys
from scperturb_modules._errors import DataError
from scperturb_modules._keys import ScreenKeys
from scperturb_modules.pp._check_labels import LABEL_GUARDS
from scperturb_modules.pp._check_object import OBJECT_GUARDS
from scperturb_modules.pp._check_values import EFFECT_GUARDS, LOG_GUARDS, VALUE_GUARDS
from scperturb_modules.pp._facts import ERROR, NOTE, OK, WARNING, Facts, Finding, Guard
from scperturb_modules.pp._labels import refuse_view

if TYPE_CHECKING:
    from anndata import AnnData

LEVELS = (ERROR, WARNING, NOTE, OK)
"""Levels of a check, the gravest first."""


def validate(
    adata: AnnData,
    *,
    perturbation_key: str = _keys.PERTURBATION,
    control: str = "control",
    layer: str | None = None,
    batch_key: str | None = None,
    cell_type_key: str | None = None,
    split_key: str = _keys.SPLIT,
    control_fallback: Literal["pooled"] | None = None,
    check_log: bool = True,
) -> pd.DataFrame:
    """Look for everything that would make results wrong, and say what mends it.

    Writes the table to ``uns["scperturb_modules"]["checks"]``, unless there are errors; changes nothing else.

    Parameters
    ----------
    adata
        Cells x genes, log1p of counts per 10,000 in ``X`` or ``layer``; sparse, dense or backed; not a view.
    perturbation_key
        Column of ``obs`` with canonical labels, see :func:`standardize_perturbations`.
    control
        Label of the control cells.
    layer
        Layer to use instead of ``X``.
    batch_key
        Column of ``obs`` within which controls are matched.
    cell_type_key
        Column of ``obs`` with the context of a cell.
    split_key
        Column of ``obs`` with the parts train, val and test; may be absent.
    control_fallback
        ``"pooled"``: contexts without controls are a note instead of an error.
    check_log
        False if the values are on another scale on purpose: leaves out the guesses "not logged", "logged twice" and
        "library size".

    Returns
    -------
    DataFrame
        A row per check: ``check``, ``level`` (error, warning, note, ok), ``n`` (how many things), ``message`` and
        ``mend``.

    Raises
    ------
    DataError
        There are errors; the text holds them all.

    Notes
    -----
    Negative and non-finite values are looked for in all values in memory; the other checks of values see 2000 cells,
    always the same ones.

    Examples
    --------
    >>> import numpy as np, pandas as pd, anndata
    >>> obs = pd.DataFrame({"perturbation": ["control", "A"] * 2}, index=list("wxyz"))
    >>> screen = anndata.AnnData(np.log1p(np.eye(4, dtype=np.float32) * 1e4), obs=obs)
    >>> checks = validate(screen)
    >>> checks.set_index("check").loc["few_controls", "level"]
    'warning'
    """
    refuse_view(adata, "validate")
    keys = ScreenKeys(perturbation_key, control, layer, batch_key, cell_type_key, split_key)
    checks = check_screen(adata, keys, control_fallback=control_fallback, check_log=check_log)
    raise_on_errors(checks)
    adata.uns.setdefault(_keys.ROOT, {})[_keys.CHECKS] = checks
    return checks


def check_screen(
    adata: AnnData,
    keys: ScreenKeys | None = None,
    *,
    control_fallback: Literal["pooled"] | None = None,
    check_log: bool = True,
) -> pd.DataFrame:
    """The table of :func:`validate`, without writing or raising anything.

    A check that an earlier error makes pointless (no labels, no finite values) is not in the table.
    """
    facts = Facts(adata, keys or ScreenKeys(), pooled_controls=control_fallback == "pooled")
    done = _run(OBJECT_GUARDS, facts)
    if _failed(done, "empty", "keys"):
        return _table(done)
    done |= _run(LABEL_GUARDS, facts)
    done |= _run(VALUE_GUARDS, facts)
    if check_log and not _failed(done, "not_finite"):
        done |= _run(LOG_GUARDS, facts)
    if not _failed(done, *done):
        done |= _run(EFFECT_GUARDS, facts)
    return _table(done)


def raise_on_errors(checks: pd.DataFrame) -> None:
    """Raise one :class:`DataError` that holds every error of the table with its mend."""
    errors = checks[checks["level"] == ERROR]
    if errors.empty:
        return
    lines = [f"{row.message} {row.mend}".rstrip() for row in errors.itertuples()]
    if len(lines) == 1:
        raise DataError(lines[0])
    raise DataError("\n".join([f"{len(lines)} problems:", *(f"{i}. {line}" for i, line in enumerate(lines, 1))]))


def format_checks(checks: pd.DataFrame, *, width: int = 100) -> str:
    """The table as text, the gravest first; checks that passed are counted only.

    >>> import pandas as pd
    >>> row = {"check": "few_cells", "level": "warning", "n": 2, "message": "2 are few.", "mend": "Pass min_cells=."}
    >>> print(format_checks(pd.DataFrame([row])))
    WARNING  few_cells: 2 are few. Pass min_cells=.
    0 checks passed.
    """
    lines = []
    for level in LEVELS[:-1]:
        for row in checks[checks["level"] == level].itertuples():
            text = f"{level.upper():<8} {row.check}: {row.message} {row.mend}".rstrip()
            lines.append(textwrap.fill(text, width, subsequent_indent=" " * 9, break_on_hyphens=False))
    lines.append(f"{int((checks['level'] == OK).sum())} checks passed.")
    return "\n".join(lines)


def _run(guards: Mapping[str, Guard], facts: Facts) -> dict[str, Finding]:
    return {name: guard(facts) or Finding(OK, 0, "") for name, guard in guards.items()}


def _failed(done: Mapping[str, Finding], *names: str) -> bool:
    return any(done[name].level == ERROR for name in names)


def _table(done: Mapping[str, Finding]) -> pd.DataFrame:
    rows = [{"check": name, **finding._asdict()} for name, finding in done.items()]
    table = pd.DataFrame(rows, columns=["check", "level", "n", "message", "mend"])
    return table.astype({"n": "int64"})
