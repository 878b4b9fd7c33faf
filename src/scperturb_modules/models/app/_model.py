"""APP: attention over all genes from the context of a perturbation, on top of what singles and neighbours say."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch

from scperturb_modules import _keys as keys
from scperturb_modules._errors import ScreenWarning
from scperturb_modules.models._anchored import AnchoredModel
from scperturb_modules.models._anchored_module import Answer
from scperturb_modules.models._nodes import relations_of
from scperturb_modules.models.app._attention import total_variation
from scperturb_modules.models.app._inputs import make_shape
from scperturb_modules.models.app._module import AppModule, AppShape
from scperturb_modules.models.app._settings import AppSettings, settings_of

if TYPE_CHECKING:
    from anndata import AnnData


class APP(AnchoredModel):
    """Predict changes of expression from gene networks, attention over all genes, and measured singles.

    Genes get embeddings by message passing over networks; the perturbed genes of a condition make a context; attention
    from it over all genes, products of the genes' embeddings and the context of unmeasured genes tell the response. It
    is added to an anchor, the shrunken sum of measured singles (for unmeasured ones of their nearest neighbours in the
    priors), times a factor that is fitted on conditions which the network has not seen. Where the network has nothing
    to add, the factor is 0 and the prediction is the anchor.

    Parameters
    ----------
    adata
        A screen after :meth:`setup_anndata` or :meth:`setup_mudata`; ``X`` (or ``layer``) is log1p of counts per
        10,000. Only its training side is read. Or a training pseudobulk.
    priors
        Gene networks (edge tables with ``source``, ``target``, ``weight``, or ``spm.priors.GeneGraph``) and gene x
        feature tables: one, a list, or a mapping from names. Without any there is no message passing.
    preset
        ``"tool"``: everything above. ``"paper"``: the published network alone (message passing, additive attention,
        linear decoder; no anchor, no gate, one member).
    seed
        Of all draws; the same seed gives the same numbers.
    **settings
        Fields of :class:`~scperturb_modules.models.app.AppSettings`; they win over the preset. The ablations are among
        them: ``embedding="random"`` or ``"identity"`` (no message passing), ``attention="context"`` or ``"static"``,
        ``head="mlp"``, ``anchor="zero"``, ``gate=False``.

    Attributes
    ----------
    gates
        After training: regime to the fitted gate, with the number of left-out conditions, gain and standard error.
    attention_tv
        After training: mean total variation of attention between training perturbations, 0 to 1.
    nodes
        The genes that the network knows, and what is known of each.

    Notes
    -----
    The unit of learning is a condition in a context: its change of mean log1p expression against matched controls. The
    members of the ensemble are one batched module. ``n_members`` of them learn from every training condition; 2 x
    ``n_folds`` further ones leave out a fold of genes or of combinations each: their loss on what they left out chooses
    the epoch, and their predictions of it fit the gates.

    The equations of the paper are lost in its published text and its numbers are said by the paper itself to be
    made up; only the architecture is taken from it. Attention weights are no proof of regulation: compare them with
    those of permuted networks (:func:`scperturb_modules.tl.attention_enrichment`).

    Raises
    ------
    DataError
        A network shares no gene with the screen; settings that contradict each other.
    TypeError
        A setting that does not exist.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate("tiny", seed=0)
    >>> network = adata.uns["scperturb_modules"]["simulation"]["graph_partial"]
    >>> spm.APP.setup_anndata(adata)
    >>> model = spm.APP(adata, priors=[network], n_members=1, n_folds=2)
    >>> model.train(max_epochs=2)
    >>> model.predict(["G01+G02"]).shape
    (1, 80)
    """

    key: ClassVar[str] = "app"
    options: ClassVar[tuple[str, ...]] = ("preset", "seed", *(field.name for field in fields(AppSettings)))

    def __init__(
        self, adata: AnnData, *, priors: Any = None, preset: str = "tool", seed: int = 0, **settings: Any
    ) -> None:
        super().__init__(adata, priors=priors, seed=seed, preset=preset, settings=settings_of(preset, settings))
        self.attention_tv: float | None = None
        self.relation_weights: dict[str, float] = {}
        shape = self._shape()
        self.module = self._seeded(lambda: AppModule(shape, self.settings))
        if preset != "paper":
            self.module.spread_attention(self._batch(self._arrays, np.arange(len(self.data.rows))))
        self._finish()

    # -- building ----------------------------------------------------------------------------------------------------

    def _shape(self) -> AppShape:
        """What the module is built from."""
        parts = self.nodes, self.networks, self.sources, self._arrays, self._members, self.settings
        return make_shape(self.training, self.data, *parts)

    @property
    def _relation_names(self) -> list[str]:
        """Names of the networks as they are aggregated; a directed one counts twice."""
        return [name for network in self.networks.values() for name, _ in relations_of(network, self.nodes.names)]

    # -- training ----------------------------------------------------------------------------------------------------

    def _after_training(self) -> None:
        super()._after_training()
        self._attend_to_training()
        self._weigh_relations()

    def _attend_to_training(self) -> None:
        """How much attention depends on the perturbation; warn where it hardly does."""
        if self.module.attention is None:
            return
        _, attention = self._run(self._batch(self._arrays, np.array([row])) for row in range(len(self.data.rows)))
        self.attention_tv = total_variation(torch.stack([mean for mean, _ in attention]))
        if self.attention_tv < keys.LOW_ATTENTION_TV and self.settings.attention == "all":
            warnings.warn(
                f"APP: attention hardly depends on the perturbation (TV = {self.attention_tv:.3f}); do not read it as "
                "an explanation.",
                ScreenWarning,
                stacklevel=2,
            )

    def _weigh_relations(self) -> None:
        """Mean weight of each network, over members and connected genes."""
        with torch.no_grad():
            weights = self._members_only().nodes.relation_weights()
        if weights is not None:
            self.relation_weights = dict(zip(self._relation_names, weights.mean(dim=0).tolist(), strict=True))

    # -- prediction --------------------------------------------------------------------------------------------------

    def _explanation(self, answer: Answer) -> torch.Tensor | None:
        """(2, N) attention, mean and standard deviation over members."""
        if answer.attention is None:
            return None
        of_row = answer.attention[:, 0]
        return torch.stack([of_row.mean(dim=0), of_row.std(dim=0, correction=0)])

    def _record(self, explanations: Sequence[torch.Tensor], regimes: Sequence[str]) -> dict[str, Any]:
        if self.module.attention is None:
            return {}
        mean, sd = torch.stack(list(explanations), dim=1).cpu().numpy()
        return {
            "obsm": {keys.ATTENTION: mean, keys.ATTENTION_SD: sd},
            "tables": {
                keys.ATTENTION_NODES: np.array(self.nodes.names, dtype=str),
                keys.ATTENTION_TV: float(self.attention_tv or 0.0),
            },
        }

    def get_attention(self, conditions: Sequence[str], *, n_top: int | None = None) -> pd.DataFrame:
        """Attention of conditions over the genes of the networks, averaged over members.

        Parameters
        ----------
        conditions
            As in :meth:`predict`.
        n_top
            Keep the genes that are among so many of any condition; None: all.

        Returns
        -------
        DataFrame
            Rows as in :meth:`predict`, a column per gene, float32; rows sum to 1 over all genes. NaN in rows with a
            gene that is known nowhere.

        Raises
        ------
        ValueError
            The model has no attention (``attention="context"``).
        """
        if self.module.attention is None:
            raise ValueError('This model has no attention; build it with attention="all".')
        prediction = self.predict(conditions, store=False)
        nothing = np.full((prediction.n_obs, len(self.nodes.names)), np.nan, dtype=np.float32)
        weights = prediction.obsm.get(keys.ATTENTION, nothing)  # not there if the network knows no row
        table = pd.DataFrame(weights, index=prediction.obs_names, columns=list(self.nodes.names))
        if n_top is None:
            return table
        kept = np.unique(np.argsort(-table.dropna().to_numpy(), axis=1, kind="stable")[:, :n_top])
        return table.iloc[:, kept]

    def get_gene_embedding(self, *, member: int = 0) -> pd.DataFrame:
        """Embeddings of all genes of one member, nodes x d; members have coordinates of their own."""
        with torch.no_grad():
            h = self._members_only().gene_states().h
        return pd.DataFrame(h[member].cpu().numpy(), index=list(self.nodes.names))

    # -- saving ------------------------------------------------------------------------------------------------------

    def _facts(self) -> dict[str, str]:
        weights = [f"{name} {weight:.2f}" for name, weight in self.relation_weights.items()]
        facts = super()._facts() | {"weight of networks": ", ".join(weights) if len(weights) > 1 else ""}
        if self.attention_tv is not None:
            facts["attention"] = f"differs by {self.attention_tv:.2f} between perturbations (total variation)"
        return facts

    def _fitted(self) -> dict[str, Any]:
        return super()._fitted() | {"attention_tv": self.attention_tv, "relation_weights": self.relation_weights}

    def _restore(self, fitted: Mapping[str, Any]) -> None:
        super()._restore(fitted)
        self.attention_tv = fitted["attention_tv"]
        self.relation_weights = dict(fitted["relation_weights"])
