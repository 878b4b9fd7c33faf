"""What a predictor is given: the training side of a screen, and the rows that it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import Row
from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.baselines._prediction import names_of_test_part, resolve_rows
from scperturb_modules.baselines._training import contexts_of, control_label
from scperturb_modules.pp import pseudobulk

if TYPE_CHECKING:
    from anndata import AnnData


def is_pseudobulk(adata: AnnData) -> bool:
    """Whether an AnnData was made by ``spm.pp.pseudobulk``."""
    return keys.PSEUDOBULK in adata.uns.get(keys.ROOT, {})


def training_side(adata: AnnData) -> tuple[AnnData, list[str]]:
    """The training pseudobulk, and the names of the test conditions where the screen tells them.

    Parameters
    ----------
    adata
        A screen after ``setup_anndata``, or a training pseudobulk, which is returned as it is.

    Raises
    ------
    DataError
        A pseudobulk of all cells.
    MissingKeyError
        The screen is not set up.
    """
    stored = adata.uns.get(keys.ROOT, {})
    if is_pseudobulk(adata):
        if str(stored[keys.PSEUDOBULK]["cells"]) != "training":
            raise DataError(
                "This pseudobulk was measured on all cells, test cells too; make it by "
                'spm.pp.pseudobulk(adata, cells="training").'
            )
        return adata, []
    if keys.SETUP not in stored:
        raise MissingKeyError(
            "The screen is not set up: call setup_anndata(adata, ...) of this class before building it."
        )
    screen = keys.ScreenKeys.from_uns(stored[keys.SETUP])
    training = pseudobulk(adata, **vars(screen), cells="training")
    return training, names_of_test_part(adata, screen)


def rows_asked(conditions: Sequence[str] | None, test_names: Sequence[str], training: AnnData) -> tuple[Row, ...]:
    """The rows behind the argument ``conditions`` of ``predict``; None asks for the test part.

    Raises
    ------
    DataError
        A name without a gene or with a context that has no training controls.
    ValueError
        No conditions were given and the test part is unknown.
    TypeError
        One name instead of a list.
    """
    if conditions is None and not test_names:
        raise ValueError("The test conditions are unknown: pass conditions=[...], or build from a split screen.")
    if isinstance(conditions, str):
        raise TypeError(f"conditions is a list of names; write predict([{conditions!r}]).")
    names = test_names if conditions is None else conditions
    return resolve_rows(names, contexts_of(training), control=control_label(training))
