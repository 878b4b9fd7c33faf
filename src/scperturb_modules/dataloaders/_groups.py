"""Groups of training cells with their matched controls, and the draw of some of them.

Nothing here depends on the order of cells in the AnnData or of categories: cells of a group are kept in the order of
their names, and draws are seeded by the group's labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from scperturb_modules._conditions import row_name
from scperturb_modules._errors import DataError, LeakError, name_some
from scperturb_modules._keys import ScreenKeys
from scperturb_modules.dataloaders._cells import CodedCells, code_cells, find_controls, fingerprint_of, identity_hash
from scperturb_modules.pp._screen import ScreenView, resolve_screen

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, eq=False)
class CellGroups:
    """Training cells by condition, cell type and batch; n groups.

    Codes count over all training cells of the screen, so groups of different ``rows`` of one screen share them.

    Attributes
    ----------
    labels
        (n,) str, name of the pseudobulk row that a group belongs to: ``condition`` or ``condition|cell type``.
    condition
        (n,) int64, position of the group's condition in ``conditions``.
    context
        (n,) int64, position of its context in ``cell_types`` and ``batches``.
    cells
        Row numbers of each group's cells, in the order of the cells' names; none is empty.
    controls
        Row numbers of the training controls of each context, in the order of their names; empty where no group needs
        them.
    conditions
        Names of the perturbed conditions, sorted.
    cell_types, batches
        Of each context, ``""`` throughout where the screen has no such column. A context is a pair of the two.
    entropy
        (n,) uint64, a hash of condition, cell type and batch that seeds the draws of a group.
    fingerprint
        SHA-256 of the names of all groups, their cells and controls.
    """

    labels: np.ndarray
    condition: np.ndarray
    context: np.ndarray
    cells: tuple[np.ndarray, ...]
    controls: tuple[np.ndarray, ...]
    conditions: np.ndarray
    cell_types: np.ndarray
    batches: np.ndarray
    entropy: np.ndarray
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(
        cls,
        adata: AnnData,
        keys: ScreenKeys,
        *,
        rows: np.ndarray | None = None,
        control_fallback: Literal["pooled"] | None = None,
    ) -> CellGroups:
        """Group the training cells of a screen.

        Parameters
        ----------
        adata
            A screen with canonical labels (``spm.pp.standardize_perturbations``).
        keys
            Its columns.
        rows
            Numbers of the cells to take the groups from, or a mask (N,); default: all training cells. Controls are
            the training controls of the whole screen in any case.
        control_fallback
            What a context without training controls is compared with: ``"pooled"`` takes the controls of its cell
            type in other batches, or all where there are none either; None refuses such data.

        Raises
        ------
        DataError
            A context has no training controls, or no perturbed training cell is there.
        LeakError
            A cell of the test part is among ``rows``.
        """
        if control_fallback not in (None, "pooled"):
            raise ValueError(f"control_fallback={control_fallback!r} is unknown; use 'pooled' or None.")
        view = resolve_screen(adata, keys)
        names = adata.obs_names.to_numpy().astype(str)
        by_name = np.argsort(names, kind="stable")
        table = code_cells(view, by_name[view.is_training[by_name]])
        wanted = _mask_of(rows, view, names)[table.rows] & (table.condition >= 0)
        if not wanted.any():
            raise DataError("There is no perturbed training cell; is every condition in the test part of the split?")
        controls = find_controls(table, wanted, pooled=control_fallback is not None)
        return _split_groups(table, wanted, controls, names)


def _mask_of(rows: np.ndarray | None, view: ScreenView, names: np.ndarray) -> np.ndarray:
    """(N,) bool of the cells asked for, none of which is a test cell."""
    if rows is None:
        return view.is_training
    mask = np.zeros(len(names), bool)
    mask[rows] = True
    leaked = mask & ~view.is_training
    if leaked.any():
        raise LeakError(
            f"{leaked.sum()} of the cells asked for are in the test part: {name_some(names[leaked])}. Pass rows of "
            "training cells only, adata.obs['split'] != 'test', or leave rows= out."
        )
    return mask


def _split_groups(
    table: CodedCells, wanted: np.ndarray, controls: tuple[np.ndarray, ...], names: np.ndarray
) -> CellGroups:
    """The groups of the wanted cells, sorted by condition, cell type and batch."""
    n_contexts = len(table.cell_types)
    codes = table.condition[wanted] * n_contexts + table.context[wanted]
    order = np.argsort(codes, kind="stable")  # stable: cells stay in the order of their names
    found, first = np.unique(codes[order], return_index=True)
    condition, context = np.divmod(found, n_contexts)
    cells = tuple(np.split(table.rows[wanted][order], first[1:]))
    names_of = (table.conditions[condition], table.cell_types[context], table.batches[context])
    identities = list(zip(*names_of, strict=True))
    return CellGroups(
        labels=np.array([row_name(name, cell_type or None) for name, cell_type, _ in identities], dtype=object),
        condition=condition,
        context=context,
        cells=cells,
        controls=controls,
        conditions=table.conditions,
        cell_types=table.cell_types,
        batches=table.batches,
        entropy=np.array([identity_hash(identity) for identity in identities], dtype=np.uint64),
        fingerprint=fingerprint_of(identities, cells, controls, names),
    )


def draw_cells(groups: CellGroups, group: int, *, n_cells: int, epoch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw K cells of a group and K controls of its context.

    Parameters
    ----------
    groups, group
        The groups, and the number of one.
    n_cells
        K. Fewer cells (or controls) than K are drawn with replacement, others without.
    epoch, seed
        Another of either is another draw; the same are the same cells, whatever else is drawn.

    Returns
    -------
    cell_index, control_index
        (K,) int64 row numbers.
    """
    rng = np.random.default_rng([seed, epoch, int(groups.entropy[group])])

    def draw(pool: np.ndarray) -> np.ndarray:
        return rng.choice(pool, n_cells, replace=len(pool) < n_cells)

    return draw(groups.cells[group]), draw(groups.controls[groups.context[group]])
