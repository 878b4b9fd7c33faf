"""Which perturbed conditions are held out: pure functions of names, seed and fold.

This is version 1 of the algorithm. A stored split names its version, so the draw of a version never changes; a test
pins it by hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pandas as pd

from scperturb_modules._conditions import CONTROL, Row, genes_of, row_name
from scperturb_modules._errors import DataError, name_some

VERSION = "1"
HELD_OUT_SHARE = 0.25
"""Of the genes, the pairs of seen genes (as in GEARS, Roohani et al. 2023) or the rows (condition, context)."""
_VAL_FROM = 10
"""With so many training conditions at least one unit is taken for validation."""

# what a draw is for; each use has its own stream of random numbers
_TEST, _VAL, _TEST_PAIRS, _VAL_PAIRS, _FEW_SHOT, CONTROLS = range(6)

Name = TypeVar("Name", str, Row)
Groups = Mapping[str, object]


def shuffled(names: Iterable[Name], *key: int) -> list[Name]:
    """A random order of names that depends on the names and on ``key`` (seed, fold, stream) alone.

    Raw output of PCG64 is sorted, because NumPy promises to keep it for ever; ``Generator.permutation`` may change.

    >>> shuffled(["C", "A", "B"], 0, 0, 0) == shuffled(["A", "B", "C"], 0, 0, 0)
    True
    """
    ordered = sorted(names)
    draw = np.random.PCG64(list(key)).random_raw(len(ordered))
    return [ordered[i] for i in np.argsort(draw, kind="stable")]


def rounded(share: float, n: int) -> int:
    """A share of n things, halves up; Python's own rounding takes halves to the even number."""
    return int(share * n + 0.5)


@dataclass(frozen=True)
class Request:
    """What is to be split, and how.

    Parameters
    ----------
    rows
        Perturbed (condition, context), each once.
    groups
        Cluster of each perturbed gene, for ``unseen_cluster``.
    held_out
        Contexts, for ``unseen_context``; empty: the fold-th by name.
    few_shot
        Number of conditions of a held-out context that stay in training.
    """

    rows: frozenset[Row]
    seed: int = 0
    n_folds: int = 5
    fold: int = 0
    val_fraction: float = 0.1
    control: str = CONTROL
    groups: Groups | None = None
    held_out: tuple[str, ...] = ()
    few_shot: int = 0
    genes: dict[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        conditions = sorted({condition for condition, _ in self.rows})
        object.__setattr__(self, "genes", {name: genes_of(name, control=self.control) for name in conditions})

    @property
    def contexts(self) -> list[str]:
        return sorted({context for _, context in self.rows if context is not None})

    def combinations(self, rows: Iterable[Row]) -> set[str]:
        """Conditions of two genes or more."""
        return {condition for condition, _ in rows if len(self.genes[condition]) > 1}

    def genes_in(self, rows: Iterable[Row]) -> set[str]:
        return {gene for condition, _ in rows for gene in self.genes[condition]}

    def rows_of(self, conditions: Collection[str], rows: Iterable[Row]) -> set[Row]:
        return {row for row in rows if row[0] in conditions}

    def rows_with(self, genes: Iterable[str], rows: Iterable[Row]) -> set[Row]:
        """Rows that perturb any of the genes."""
        chosen = set(genes)
        return {row for row in rows if not chosen.isdisjoint(self.genes[row[0]])}

    def shuffle(self, names: Iterable[Name], stream: int) -> list[Name]:
        return shuffled(names, self.seed, self.fold, stream)

    def n_val(self, n_units: int, n_rows: int) -> int:
        """How many of the units of a scheme go to validation: never more than half."""
        least = 1 if n_rows >= _VAL_FROM and self.val_fraction > 0 else 0
        return min(max(rounded(self.val_fraction, n_units), least), n_units // 2)


def _test_combination(request: Request) -> set[Row]:
    """Half of the combinations, within each order and number of genes measured alone."""
    measured = {condition for condition, genes in request.genes.items() if len(genes) == 1}
    pairs = [(request.genes[condition], context) for condition, context in request.rows]
    if not any(len(genes) == 2 and all((gene, context) in request.rows for gene in genes) for genes, context in pairs):
        raise DataError("'combination' needs pairs whose two genes were also perturbed alone, and there is none.")

    def level(condition: str) -> tuple[int, int]:
        genes = request.genes[condition]
        return len(genes), -len(measured.intersection(genes))

    ordered = sorted(request.shuffle(request.combinations(request.rows), _TEST), key=level)
    return request.rows_of(set(ordered[::2]), request.rows)


def _val_combination(request: Request, training: set[Row]) -> set[Row]:
    ordered = request.shuffle(request.combinations(training), _VAL)
    return request.rows_of(set(ordered[: request.n_val(len(ordered), len(training))]), training)


def _test_unseen_gene(request: Request) -> set[Row]:
    genes = request.genes_in(request.rows)
    if len(genes) < 2:
        raise DataError(f"'unseen_gene' needs at least 2 perturbed genes, and there are {len(genes)}.")
    n_unseen = max(1, rounded(HELD_OUT_SHARE, len(genes)))
    return _hold_out_genes(request, set(request.rows), (_TEST, _TEST_PAIRS), n_unseen, HELD_OUT_SHARE)


def _val_unseen_gene(request: Request, training: set[Row]) -> set[Row]:
    n_unseen = request.n_val(len(request.genes_in(training)), len(training))
    return _hold_out_genes(request, training, (_VAL, _VAL_PAIRS), n_unseen, request.val_fraction)


def _hold_out_genes(
    request: Request, rows: set[Row], streams: tuple[int, int], n_unseen: int, pair_share: float
) -> set[Row]:
    """Every row of ``n_unseen`` genes, and a share of the combinations of the other genes."""
    unseen = request.shuffle(request.genes_in(rows), streams[0])[:n_unseen]
    touched = request.rows_with(unseen, rows)
    seen = request.shuffle(request.combinations(rows - touched), streams[1])
    return touched | request.rows_of(set(seen[: rounded(pair_share, len(seen))]), rows)


def _single_genes(request: Request) -> Groups:
    return {gene: gene for gene in request.genes_in(request.rows)}


def _given_groups(request: Request) -> Groups:
    if request.groups is None:
        raise DataError("'unseen_cluster' needs groups=, a mapping from gene to cluster.")
    grouped = pd.Series(dict(request.groups), dtype=object).dropna().index
    lacking = sorted(request.genes_in(request.rows).difference(grouped))
    if lacking:
        raise DataError(
            f"groups= lacks {len(lacking)} perturbed genes: {name_some(lacking)}. Give each a cluster; its own name "
            "makes a gene a cluster of its own."
        )
    return request.groups


def _clusters(request: Request, rows: Iterable[Row], groups: Groups) -> dict[str, list[str]]:
    """Genes of each cluster by its first gene: what the user calls the clusters does not matter."""
    by_cluster: dict[str, list[str]] = {}
    for gene in sorted(request.genes_in(rows)):
        by_cluster.setdefault(str(groups[gene]), []).append(gene)
    return {genes[0]: genes for genes in by_cluster.values()}


def _fold_of_clusters(request: Request, groups: Groups, kind: str) -> set[Row]:
    """Every row of the genes in the fold's clusters."""
    clusters = _clusters(request, request.rows, groups)
    if len(clusters) < 2:
        raise DataError(f"Folds over {kind} need at least 2 of them, and there is {len(clusters)}.")
    if not 2 <= request.n_folds <= len(clusters):
        raise DataError(
            f"{len(clusters)} {kind} cannot be divided into n_folds={request.n_folds} folds; pass n_folds= between 2 "
            f"and {len(clusters)}."
        )
    # the same order in every fold, so that each gene is held out exactly once
    chosen = shuffled(clusters, request.seed, 0, _TEST)[request.fold :: request.n_folds]
    return request.rows_with((gene for first in chosen for gene in clusters[first]), request.rows)


def _val_clusters(request: Request, training: set[Row], groups: Groups) -> set[Row]:
    clusters = _clusters(request, training, groups)
    chosen = request.shuffle(clusters, _VAL)[: request.n_val(len(clusters), len(training))]
    return request.rows_with((gene for first in chosen for gene in clusters[first]), training)


def _test_unseen_single(request: Request) -> set[Row]:
    return _fold_of_clusters(request, _single_genes(request), "perturbed genes")


def _val_unseen_single(request: Request, training: set[Row]) -> set[Row]:
    return _val_clusters(request, training, _single_genes(request))


def _test_unseen_cluster(request: Request) -> set[Row]:
    return _fold_of_clusters(request, _given_groups(request), "clusters of genes")


def _val_unseen_cluster(request: Request, training: set[Row]) -> set[Row]:
    return _val_clusters(request, training, _given_groups(request))


def _test_unseen_context(request: Request) -> set[Row]:
    contexts = request.contexts
    if len(contexts) < 2:
        raise DataError(
            f"'unseen_context' needs cell_type_key= with at least 2 contexts, and there are {len(contexts)}."
        )
    unknown = sorted(set(request.held_out) - set(contexts))
    if unknown:
        raise DataError(f"held_out= names {name_some(unknown)}; the contexts are {name_some(contexts, most=12)}.")
    if not request.held_out and request.fold >= len(contexts):
        raise DataError(f"fold={request.fold} does not exist: there are {len(contexts)} contexts, one for each fold.")
    test: set[Row] = set()
    for context in request.held_out or (contexts[request.fold],):
        own = [row for row in request.rows if row[1] == context]
        test.update(request.shuffle(own, _FEW_SHOT)[request.few_shot :])
    return test


def _val_unseen_context(request: Request, training: set[Row]) -> set[Row]:
    held_out = {context for _, context in request.rows - training}
    return _val_by_covariate(request, {row for row in training if row[1] not in held_out})


def _val_by_covariate(request: Request, training: set[Row]) -> set[Row]:
    n_val = request.n_val(len(training), len(training))
    # one context left: no condition can stay in training elsewhere, so any will do
    return _spared(request, training, _VAL, n_val) or set(request.shuffle(training, _VAL)[:n_val])


def _test_by_covariate(request: Request) -> set[Row]:
    test = _spared(request, request.rows, _TEST, max(1, rounded(HELD_OUT_SHARE, len(request.rows))))
    if not test:
        raise DataError("'by_covariate' needs cell_type_key= and conditions measured in more than one context.")
    return test


def _spared(request: Request, rows: Collection[Row], stream: int, most: int) -> set[Row]:
    """Up to ``most`` rows whose condition and whose context both remain in the other rows."""
    taken: set[Row] = set()
    left_of_condition = _count(condition for condition, _ in rows)
    left_of_context = _count(context for _, context in rows)
    for condition, context in request.shuffle(rows, stream):
        if len(taken) < most and min(left_of_condition[condition], left_of_context[context]) > 1:
            taken.add((condition, context))
            left_of_condition[condition] -= 1
            left_of_context[context] -= 1
    return taken


def _count(names: Iterable[str | None]) -> dict[str | None, int]:
    counts: dict[str | None, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


@dataclass(frozen=True)
class Scheme:
    """How test rows are drawn from all rows, and validation rows, of the same kind, from the training rows.

    ``partitions``: the folds hold out each unit once, so their test rows are read together.
    """

    test: Callable[[Request], set[Row]]
    val: Callable[[Request, set[Row]], set[Row]]
    partitions: bool = False


SCHEMES: dict[str, Scheme] = {
    "combination": Scheme(_test_combination, _val_combination),
    "unseen_gene": Scheme(_test_unseen_gene, _val_unseen_gene),
    "unseen_single": Scheme(_test_unseen_single, _val_unseen_single, partitions=True),
    "unseen_cluster": Scheme(_test_unseen_cluster, _val_unseen_cluster, partitions=True),
    "unseen_context": Scheme(_test_unseen_context, _val_unseen_context, partitions=True),
    "by_covariate": Scheme(_test_by_covariate, _val_by_covariate),
}


def held_out_rows(scheme: str, request: Request) -> set[Row]:
    """The rows that a scheme holds out.

    Raises
    ------
    DataError
        The scheme is impossible here; the message says what there is and which schemes work.
    """
    try:
        return _checked_rows(scheme, request)
    except DataError as error:
        working = name_some((name for name in SCHEMES if name != scheme and _works(name, request)), most=6)
        raise DataError(f"{error} {_inventory(request)} Schemes that work here: {working or 'none'}.") from None


def validation_rows(scheme: str, request: Request, test: set[Row]) -> set[Row]:
    """The training rows set aside for early stopping; none where these would be more than half of them."""
    training = set(request.rows) - test
    val = SCHEMES[scheme].val(request, training) if request.val_fraction > 0 else set()
    return val if 2 * len(val) <= len(training) else set()


def _checked_rows(scheme: str, request: Request) -> set[Row]:
    test = SCHEMES[scheme].test(request)
    if not test:
        raise DataError(f"{scheme!r} leaves no test condition.")
    if test == request.rows:
        raise DataError(f"{scheme!r} leaves no perturbed training condition in fold {request.fold}.")
    return test


def _works(scheme: str, request: Request) -> bool:
    try:
        return bool(_checked_rows(scheme, request))
    except DataError:
        return False


def _inventory(request: Request) -> str:
    order = [min(len(genes), 3) for genes in request.genes.values()]
    n_contexts = max(1, len(request.contexts))
    examples = name_some((row_name(*row) for row in sorted(request.rows)), most=3)
    return (
        f"The screen has {order.count(1)} singles, {order.count(2)} pairs and {order.count(3)} conditions of more "
        f"genes in {n_contexts} context{'s' if n_contexts > 1 else ''} ({examples})."
    )
