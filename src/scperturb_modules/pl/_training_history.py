"""The losses of a training run, epoch by epoch, and the epoch that was best on held-out conditions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from scperturb_modules._errors import NotTrainedError, name_some, require_key
from scperturb_modules.pl import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAIN, VALIDATION = "train_loss", "validation_loss"

_DASHES = ("-", "--", ":", "-.")

_SPREAD = 10.0
"""Values that spread by more than this factor are shown on a logarithmic axis."""


class Trained(Protocol):
    """What :func:`training_history` reads of a model."""

    @property
    def history(self) -> Mapping[str, pd.DataFrame] | None: ...


def training_history(
    history: Mapping[str, pd.DataFrame] | Trained, metrics: str | Sequence[str] | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw the training loss and the loss on held-out conditions against the epoch, or any metrics of the history.

    A dashed line marks the best epoch: the one with the lowest held-out loss. Where the held-out loss rises while the
    training loss still falls, the model learns its training conditions by heart.

    Parameters
    ----------
    history
        A trained model, or its ``history``: per metric a table of one column, indexed by epoch.
    metrics
        Names in the history, for example the terms of a loss; each is a line, and no best epoch is marked. None:
        ``train_loss`` and, where it is there, ``validation_loss``.
    ax
        Where to draw; None makes a figure. The axis is logarithmic where values are positive and spread more than
        tenfold.

    Returns
    -------
    Axes
        The axes drawn in.

    Raises
    ------
    NotTrainedError
        The model has no history yet.
    MissingKeyError
        There is no ``train_loss``, or no such metric.
    ValueError
        ``train_loss`` or a metric holds no finite value, or ``metrics`` is empty.

    Examples
    --------
    >>> import pandas as pd, scperturb_modules as spm
    >>> losses = {"train_loss": [1.0, 0.6, 0.4], "validation_loss": [1.1, 0.8, 0.9]}
    >>> ax = spm.pl.training_history({name: pd.DataFrame({name: values}) for name, values in losses.items()})
    >>> ax.get_legend().get_texts()[-1].get_text()
    'best epoch: 1'
    """
    from matplotlib.ticker import MaxNLocator

    found = _wanted(_metrics(history), metrics)
    ax = _style.axes_or_new(ax, width=6.0, height=4.0)
    handles = _losses(ax, found) if metrics is None else _lines(ax, found)
    values = pd.concat(list(found.values()))
    if values.min() > 0 and values.max() > _SPREAD * values.min():
        _style.log_scale(ax, "y")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set(xlabel="Epoch", ylabel="Loss\nlower is better" if metrics is None else "Value")
    _style.head(ax, handles, [])
    _style.quiet(ax)
    return ax


def _wanted(recorded: Mapping[str, pd.DataFrame], metrics: str | Sequence[str] | None) -> dict[str, pd.Series]:
    """The values of each metric to draw; of those that are asked for none may be without a number."""
    names = [TRAIN] if metrics is None else [metrics] if isinstance(metrics, str) else list(dict.fromkeys(metrics))
    if not names:
        raise ValueError(f"metrics is empty; name some of {name_some(recorded, most=12)}")
    mend = "Train with model.train(), whose plan logs train_loss at each epoch, or name metrics=[...] of these."
    for name in names:
        require_key(name, recorded, "history", mend=mend if metrics is None else "")
    found = {name: _series(recorded[name]) for name in names}
    empty = [name for name, values in found.items() if values.empty]
    if empty:
        raise ValueError(f"history[{empty[0]!r}] holds no finite value; the training failed from the first epoch")
    if metrics is None and VALIDATION in recorded:
        found[VALIDATION] = _series(recorded[VALIDATION])
    return found


def _losses(ax: Axes, found: Mapping[str, pd.Series]) -> list[Any]:
    """Both losses and the best epoch; returns the entries of a legend."""
    handles = [_line(ax, found[TRAIN], "training conditions", _style.PALETTE[0])]
    held_out = found.get(VALIDATION)
    if held_out is not None and len(held_out):
        handles.append(_line(ax, held_out, "held-out conditions", _style.PALETTE[1]))
        best = int(held_out.index[int(np.argmin(held_out))])
        ax.plot(best, held_out[best], marker="o", color=_style.PALETTE[1], ms=6)
        handles.append(ax.axvline(best, color="black", lw=1, ls="--", zorder=1, label=f"best epoch: {best}"))
    return handles


def _lines(ax: Axes, found: Mapping[str, pd.Series]) -> list[Any]:
    """A line per metric, told apart by colour, then by dashes."""
    looks = itertools.cycle((color, dash) for dash in _DASHES for color in _style.PALETTE)
    return [_line(ax, found[name], name, color, style=dash) for name, (color, dash) in zip(found, looks, strict=False)]


def _metrics(history: Mapping[str, pd.DataFrame] | Trained) -> Mapping[str, pd.DataFrame]:
    if isinstance(history, Mapping):
        return history
    recorded = history.history
    if recorded is None:
        raise NotTrainedError("This model has no history yet. Call model.train() first.")
    return recorded


def _series(table: pd.DataFrame) -> pd.Series:
    """The finite values by epoch; an epoch without validation has none."""
    values = pd.Series(np.asarray(table.iloc[:, 0], dtype=np.float64), index=table.index)
    return values[np.isfinite(values)]


def _line(ax: Axes, values: pd.Series, label: str, color: str, *, style: str = "-") -> Any:
    # one epoch alone makes no line
    marker = "o" if len(values) == 1 else None
    return ax.plot(values.index, values, color=color, lw=1.6, ls=style, marker=marker, label=label)[0]
