"""Conditions as arrays: their genes as nodes, and the parts of the anchor that each gene brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from scperturb_modules._conditions import Row, genes_of
from scperturb_modules.baselines import Anchor

Arrays = dict[str, NDArray]


class PartTable:
    """The parts of anchors, under the reading of ``anchor=`` that the user chose.

    Parameters
    ----------
    anchor
        The anchor of the training data.
    kind
        ``"auto"`` and ``"mean"``: as the anchor says; ``"additive"``: an unmeasured gene brings nothing; ``"zero"``:
        nothing is known of any.
    """

    def __init__(self, anchor: Anchor, kind: str) -> None:
        self.anchor, self.kind = anchor, kind
        self.n_genes = anchor.data.delta.shape[1]

    def measured(self, gene: str, context: str | None) -> NDArray | None:
        """(G,) shrunken single; None where it was not measured in the context."""
        if self.kind == "zero" or self.anchor.data.single(gene, context) is None:
            return None
        return self.anchor.part(gene, context).delta

    def expected(self, gene: str, context: str | None, *, without: int | None = None) -> NDArray:
        """(G,) what the gene would bring had it not been measured."""
        if self.kind in ("zero", "additive"):
            return np.zeros(self.n_genes)
        return self.anchor.part(gene, context, masked=True, without=without).delta

    def factor(self, genes: tuple[str, ...], context: str | None) -> float:
        """What the sum of the parts is multiplied by."""
        return 1.0 if self.kind == "zero" else self.anchor.factor(genes, context)

    def offset(self, genes: tuple[str, ...], context: str | None) -> NDArray:
        """(G,) what is added to the sum."""
        return np.zeros(self.n_genes) if self.kind == "zero" else self.anchor.offset(genes, context)


def row_arrays(
    rows: Sequence[Row],
    parts: PartTable,
    node_of: Mapping[str, int],
    *,
    order: int,
    control: str,
    training: bool,
) -> Arrays:
    """What the network is told of P rows.

    Parameters
    ----------
    rows
        (condition, context).
    parts
        Gives the parts of the anchor, multiplied by its factor.
    node_of
        Number of each gene among the nodes.
    order
        k, the most perturbed genes of a row.
    control
        Label of the control.
    training
        Training rows are seen as if they had not been measured: a single has no measured part, and what another gene
        would be expected to bring is worked out for every gene, since it may be hidden.

    Returns
    -------
    dict
        ``node`` (P, k) int64; ``present``, ``measured`` (P, k) float32; ``measured_part``, ``expected_part``
        (P, k, G) and ``offset`` (P, G) float32, the anchor being the sum of parts plus the offset; ``context`` (P,)
        int64.
    """
    data = parts.anchor.data
    n, shape = len(rows), (len(rows), order)
    arrays: Arrays = {
        "node": np.zeros(shape, np.int64),
        "present": np.zeros(shape, np.float32),
        "measured": np.zeros(shape, np.float32),
        "measured_part": np.zeros((*shape, parts.n_genes), np.float32),
        "expected_part": np.zeros((*shape, parts.n_genes), np.float32),
        "offset": np.zeros((n, parts.n_genes), np.float32),
        "context": np.array([data.contexts.index(context) for _, context in rows], np.int64).reshape(n),
    }
    for i, (condition, context) in enumerate(rows):
        genes = genes_of(condition, control=control)
        own = data.index.get((condition, context)) if training else None
        factor = parts.factor(genes, context)
        arrays["offset"][i] = parts.offset(genes, context)
        for k, gene in enumerate(genes):
            arrays["node"][i, k] = node_of[gene]
            arrays["present"][i, k] = 1
            measured = None if training and len(genes) == 1 else parts.measured(gene, context)
            if measured is not None:
                arrays["measured"][i, k] = 1
                arrays["measured_part"][i, k] = factor * measured
            if training or measured is None:
                arrays["expected_part"][i, k] = factor * parts.expected(gene, context, without=own)
    return arrays
