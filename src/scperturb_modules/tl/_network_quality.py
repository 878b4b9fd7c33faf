"""How good a network has to be: the same benchmark under worse and worse copies of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from scperturb_modules._errors import DataError
from scperturb_modules.metrics import PRIMARY, compare
from scperturb_modules.metrics._bootstrap import MIN_CLUSTERS
from scperturb_modules.priors import GeneGraph, as_graph, degrade, named_priors
from scperturb_modules.tl._benchmark import benchmark
from scperturb_modules.tl._contenders import Predictors
from scperturb_modules.tl._frame import join_results
from scperturb_modules.tl._summary import KEY, REGIME, UNIT, blocks, losses

if TYPE_CHECKING:
    from anndata import AnnData

    from scperturb_modules.tl._board import Benchmark

NONE, REMOVE, ADD, PERMUTE = "none", "remove", "add", "permute"

_ROUNDING = 1e-12
"""Equal losses, averaged over copies, differ by no more than this."""

COLUMNS = [
    *KEY, "is_baseline", "change", "amount", "n_copies", "mean", "ci_low", "ci_high", "copy_sd", "intact_gain",
    "intact_low", "intact_high", "p", "n", "gain_vs", "gain", "gain_low", "gain_high", "n_failed",
]  # fmt: skip


def network_quality(
    adata: AnnData,
    predictors: Predictors,
    graph: GeneGraph | pd.DataFrame,
    *,
    remove: Sequence[float] = (0.1, 0.25, 0.5),
    add: Sequence[float] = (0.1, 0.25, 0.5),
    permute_labels: bool = True,
    n_copies: int = 5,
    priors: Any = None,
    seed: int = 0,
    **settings: Any,
) -> pd.DataFrame:
    """Run a benchmark with a network, and again with copies of it that lost edges, gained wrong ones or wrong names.

    Every copy goes to the same predictors on the same splits, so that all errors are paired by condition.

    Parameters
    ----------
    adata, predictors
        As in :func:`benchmark`. With baselines such as ``MeanShift`` among the predictors, the table and the picture
        show what is left to be had without the network.
    graph
        The network: a :class:`scperturb_modules.priors.GeneGraph` or an edge table.
    remove, add
        Shares of its edges to delete, and to add in wrong places; see :func:`scperturb_modules.priors.degrade`.
    permute_labels
        Also the same network under permuted gene names: the decisive control.
    n_copies
        Random copies per change and amount. Their seeds are ``seed``, ``seed + 1``, ...; under one seed, what a small
        share deletes a larger share deletes too.
    priors
        Other priors, passed to every predictor as they are.
    seed
        Of splits, predictors and the first copy.
    **settings
        Further arguments of :func:`benchmark`; ``metrics`` is the primary one unless given. ``n_seeds`` trains every
        predictor so often on every copy, the network itself among them.

    Returns
    -------
    DataFrame
        A row per ``split_kind``, ``regime``, ``metric``, ``model``, ``change`` (``"none"``, ``"remove"``, ``"add"``,
        ``"permute"``) and ``amount``. A condition's loss is averaged over the copies first. ``mean``, ``ci_low``,
        ``ci_high``, ``gain_vs``, ``gain``, ``gain_low``, ``gain_high`` and ``n`` are those of
        :meth:`Benchmark.summary`, and ``copy_sd`` is the standard deviation of that gain over the copies.
        ``intact_gain`` is the gain of the predictor with the intact network over itself with the copy (above 0: the
        copy is worse), with ``intact_low``, ``intact_high`` (95 %, paired over conditions) and ``p`` of the
        permutation test. ``n_failed`` runs failed and are scored as "no change". ``attrs["network"]`` names the
        network.

    Raises
    ------
    DataError
        A share out of range, more edges to add than are absent, or a name in ``priors`` that is the network's.
    ValueError
        ``n_copies`` is less than 1; and whatever :func:`benchmark` raises.

    See Also
    --------
    network_verdict : What the table says, in sentences.
    scperturb_modules.pl.network_quality : The picture of it.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate("tiny", seed=0)
    >>> spm.pp.split(adata, "unseen_single", seed=0)
    >>> graph = adata.uns["scperturb_modules"]["simulation"]["graph"]
    >>> models = [spm.baselines.NearestPrior, spm.baselines.MeanShift]
    >>> frame = spm.tl.network_quality(adata, models, graph, remove=[0.5], add=[], n_copies=1, n_boot=100)
    >>> sorted(set(frame["change"]))
    ['none', 'permute', 'remove']
    """
    if n_copies < 1:
        raise ValueError(f"n_copies={n_copies} must be at least 1.")
    network, others = as_graph(graph), named_priors(priors)
    if network.name in others:
        raise DataError(f"priors already has {network.name!r}; leave the network out of it, it is passed as graph.")
    # before the first run, so that a share out of range costs no time
    copies = _copies(network, remove, add, permute_labels, range(seed, seed + n_copies))
    settings = {"metrics": [PRIMARY], "seed": seed, **settings}
    whole = benchmark(adata, predictors, priors={**others, network.name: network}, **settings)
    tables = [_compared([whole], whole).assign(change=NONE, amount=0.0)]
    for change, amount, graphs in copies:
        boards = [benchmark(adata, predictors, priors={**others, network.name: one}, **settings) for one in graphs]
        tables.append(_compared(boards, whole).assign(change=change, amount=amount))
    frame = pd.concat(tables, ignore_index=True)[COLUMNS]
    frame.attrs["network"] = network.name
    return frame


def network_verdict(frame: pd.DataFrame) -> str:
    """Whether the network helps, in sentences: its error against that of the same network under permuted labels.

    Parameters
    ----------
    frame
        What :func:`network_quality` returned, with permuted labels.

    Returns
    -------
    str
        A sentence per regime and predictor, on the primary metric. *yes*: the 95 % interval of the gain lies above 0;
        *cannot tell*: fewer than 10 conditions; else *not shown*. Predictors whose errors are the same do not
        use the network; they are named together.

    Raises
    ------
    DataError
        The table has no permuted labels.

    Examples
    --------
    >>> import pandas as pd
    >>> row = {"split_kind": "unseen_single", "regime": "single_unseen", "metric": "l2_top1000", "change": "permute"}
    >>> row |= {"model": "APP", "intact_gain": 0.12, "intact_low": 0.08, "intact_high": 0.15, "p": 0.001, "n": 40}
    >>> print(network_verdict(pd.DataFrame([row | {"n_copies": 5, "n_failed": 0}])))
    The network helps APP on single_unseen: yes. Error 12.0 % lower than under permuted labels (95 % CI 8.0 to 15.0,
    n = 40 conditions, 5 permutations).
    """
    permuted = frame[(frame["change"] == PERMUTE) & (frame["metric"] == PRIMARY)]
    if permuted.empty:
        raise DataError("The table has no permuted labels; call network_quality(..., permute_labels=True).")
    lines = []
    for (split, regime), block in blocks(permuted, REGIME):
        where = regime if permuted["split_kind"].nunique() == 1 else f"{regime} ({split})"
        is_same = block["intact_gain"].abs() < _ROUNDING
        lines += [_sentence(row, where) for _, row in block[~is_same].sort_values("model").iterrows()]
        if is_same.any():
            lines.append(f"Not affected on {where}: {', '.join(sorted(block.loc[is_same, 'model']))}.")
    return "\n".join(lines)


def _sentence(row: pd.Series, where: str) -> str:
    gain, low, high = (f"{100 * row[name]:.1f}" for name in ("intact_gain", "intact_low", "intact_high"))
    size = f"n = {row['n']} conditions, {row['n_copies']} permutations"
    if row["n"] < MIN_CLUSTERS:
        said = f"cannot tell. {row['n']} conditions are fewer than {MIN_CLUSTERS}."
    elif row["intact_low"] > 0:
        said = f"yes. Error {gain} % lower than under permuted labels (95 % CI {low} to {high}, {size})."
    else:
        said = f"not shown. Gain over permuted labels {gain} % (95 % CI {low} to {high}, {size})."
    failed = f" {row['n_failed']} of its runs failed and count as no change." if row["n_failed"] else ""
    return f"The network helps {row['model']} on {where}: {said}{failed}"


def _copies(
    network: GeneGraph, remove: Sequence[float], add: Sequence[float], permute_labels: bool, seeds: Sequence[int]
) -> list[tuple[str, float, list[GeneGraph]]]:
    """Every change with its amount and one copy per seed."""
    found = [(REMOVE, float(share), [degrade(network, remove=share, seed=seed) for seed in seeds]) for share in remove]
    found += [(ADD, float(share), [degrade(network, add=share, seed=seed) for seed in seeds]) for share in add]
    if permute_labels:
        found.append((PERMUTE, 1.0, [degrade(network, permute_labels=True, seed=seed) for seed in seeds]))
    return found


def _compared(boards: Sequence[Benchmark], whole: Benchmark) -> pd.DataFrame:
    """The summary over copies, and the gain of the intact network over them."""
    # a copy takes the place of a training seed: conditions are averaged over both in the same way
    frames = [board.frame.assign(model_seed=number) for number, board in enumerate(boards)]
    pooled = replace(boards[0], frame=join_results(frames), errors=pd.concat([board.errors for board in boards]))
    summary = pooled.summary().rename(columns={"seed_sd": "copy_sd"}).drop(columns="p")
    failed = pooled.errors["predictor"].value_counts()
    draws = {name: int(whole.settings[name]) for name in ("n_boot", "seed")}
    gains = _gains(losses(whole.frame), losses(pooled.frame), **draws)
    table = summary.merge(gains, how="left", on=KEY, validate="one_to_one")
    return table.assign(n_copies=len(boards), n_failed=table["model"].map(failed).fillna(0).astype(int))


def _gains(whole: pd.DataFrame, copy: pd.DataFrame, **draws: int) -> pd.DataFrame:
    """What every predictor gains by the intact network, over itself with a copy."""
    pairs = whole.merge(copy, on=[*KEY, *UNIT], suffixes=("", "_copy")).dropna(subset=["loss", "loss_copy"])
    lines = []
    for key, block in blocks(pairs, KEY):
        gain = compare(block["loss"], block["loss_copy"], block["condition"], **draws)
        lines.append((*key, gain.gain, gain.low, gain.high, gain.p))
    return pd.DataFrame(lines, columns=[*KEY, "intact_gain", "intact_low", "intact_high", "p"])
