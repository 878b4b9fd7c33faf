"""The losses of a training run, epoch by epoch, and the epoch that was best on held-out conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from scperturb_modules._errors import NotTrainedError, require_key
from scperturb_modules.pl import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAIN, VALIDATION = "train_loss", "validation_loss"

_SPREAD = 10.0
"""Losses that spread by more than this factor are shown on a logarithmic axis."""


class Trained(Protocol):
    """What :func:`training_history` reads of a model."""

    @property
    def history(self) -> Mapping[str, pd.DataFrame] | None: ...


def training_history(history: Mapping[str, pd.DataFrame] | Trained, *, ax: Axes | None = None) -> Axes:
    """Draw the training loss and the loss on held-out conditions against the epoch.

    A dashed line marks the best epoch: the one with the lowest held-out loss. Where the held-out loss rises while the
    training loss still falls, the model learns its training conditions by heart.

    Parameters
    ----------
    history
        A trained model, or its ``history``: per metric a table of one column, indexed by epoch. ``train_loss`` and
        ``validation_loss`` are drawn, what else it holds is not. Without ``validation_loss`` no best epoch is marked.
    ax
        Where to draw; None makes a figure. The loss axis is logarithmic where losses spread more than tenfold.

    Returns
    -------
    Axes
        The axes drawn in.

    Raises
    ------
    NotTrainedError
        The model has no history yet.
    MissingKeyError
        There is no ``train_loss``.
    ValueError
        ``train_loss`` holds no finite value.

    Examples
    --------
    >>> import pandas as pd, scperturb_modules as spm
    >>> losses = {"train_loss": [1.0, 0.6, 0.4], "validation_loss": [1.1, 0.8, 0.9]}
    >>> ax = spm.pl.training_history({name: pd.DataFrame({name: values}) for name, values in losses.items()})
    >>> ax.get_legend().get_texts()[-1].get_text()
    'best epoch: 1'
    """
    from matplotlib.ticker import MaxNLocator

    metrics = _metrics(history)
    require_key(TRAIN, metrics, "history", mend="Train with model.train(); its plan logs train_loss at each epoch.")
    train = _series(metrics[TRAIN])
    if train.empty:
        raise ValueError(f"history[{TRAIN!r}] holds no finite value; the training failed from the first epoch")
    held_out = _series(metrics[VALIDATION]) if VALIDATION in metrics else train.iloc[:0]
    ax = _style.axes_or_new(ax, width=6.0, height=4.0)
    handles = [_line(ax, train, "training conditions", _style.PALETTE[0])]
    if len(held_out):
        handles.append(_line(ax, held_out, "held-out conditions", _style.PALETTE[1]))
        best = int(held_out.index[int(np.argmin(held_out))])
        ax.plot(best, held_out[best], marker="o", color=_style.PALETTE[1], ms=6)
        handles.append(ax.axvline(best, color="black", lw=1, ls="--", zorder=1, label=f"best epoch: {best}"))
    losses = pd.concat([train, held_out])
    if losses.min() > 0 and losses.max() > _SPREAD * losses.min():
        _style.log_scale(ax, "y")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set(xlabel="Epoch", ylabel="Loss\nlower is better")
    _style.legend_above(ax, handles)
    _style.quiet(ax)
    return ax


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


def _line(ax: Axes, losses: pd.Series, label: str, color: str) -> Any:
    # one epoch alone makes no line
    marker = "o" if len(losses) == 1 else None
    return ax.plot(losses.index, losses, color=color, lw=1.6, marker=marker, label=label)[0]
