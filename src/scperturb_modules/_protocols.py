"""What the benchmark expects of anything that predicts: the models, the baselines, and the user's own.

A leaf module: imports nothing of the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from anndata import AnnData


@runtime_checkable
class Predictor(Protocol):
    """An object that is trained once and then predicts any condition.

    A class of such objects also has the classmethod ``setup_anndata(adata, *, perturbation_key, control, layer,
    batch_key, cell_type_key, split_key)`` and is built by ``cls(adata, priors=..., seed=...)``. The benchmark gives
    it cells of the training side only, so it cannot reach a test cell.
    """

    def train(self) -> Any:
        """Fit on the training side of the AnnData given to the constructor."""
        ...

    def predict(self, conditions: Sequence[str] | None = None) -> AnnData:
        """Predict conditions, named ``A+B`` or ``A+B|context``; the form is described in ``docs/formats.md``."""
        ...
