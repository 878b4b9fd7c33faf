"""BioDSNN: what pathways and networks add to measured singles, and how single cells differ in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import Row, row_name
from scperturb_modules._errors import DataError, name_some, require_key
from scperturb_modules.baselines._side import rows_asked
from scperturb_modules.models._anchored_module import Answer
from scperturb_modules.models._left_out import Judged
from scperturb_modules.models._rows import Arrays
from scperturb_modules.models._setup import screen_of
from scperturb_modules.models.biodsnn._inputs import loss_arrays, make_shape
from scperturb_modules.models.biodsnn._knowledge import Knowledge
from scperturb_modules.models.biodsnn._module import BioDsnnModule
from scperturb_modules.models.biodsnn._pathways import pathway_attention
from scperturb_modules.models.biodsnn._settings import ABLATIONS, BioDsnnSettings, settings_of
from scperturb_modules.models.biodsnn._streaming import StreamingModel
from scperturb_modules.models.biodsnn._uncertainty import scale_factors

if TYPE_CHECKING:
    from anndata import AnnData


class BioDSNN(StreamingModel):
    """Predict changes of expression and genetic interactions from pathways, networks and measured singles.

    Two streams. The *knowledge stream* says what a condition does on average: perturbed genes are embedded over the
    networks, measured genes over co-expression, and a transformer layer lets genes attend to those with which they
    share a pathway. What it says is added to an anchor, the shrunken sum of measured singles (for unmeasured ones of
    their nearest neighbours in the priors), times a factor that is fitted on conditions which the network has not
    seen; where it has nothing to add, the prediction is the anchor. The *data stream* says how single cells differ: an
    autoencoder regenerates the non-zero values of control cells, and the change of a cell depends on its state.

    Parameters
    ----------
    adata
        A screen of one cell type and one modality after :meth:`setup_anndata` or :meth:`setup_mudata`; ``X`` (or
        ``layer``) is log1p of counts per 10,000. Only its training side is read. Or a training pseudobulk, with
        ``use_coexpression=False, use_vae=False, modulation_rank=0``: what is learned of cells is left out.
    priors
        Networks (GO similarity, protein interactions; edge tables or ``spm.priors.GeneGraph``), pathways
        (``spm.priors.reactome``; without them gene sets stand in), gene x feature tables: one, a list, or a mapping
        from names. Without any there is no network, and genes attend to those with which they correlate.
    preset
        ``"tool"``: everything above. ``"paper"``: the published network with its equations repaired (cell-level loss,
        no anchor, no gate, one member).
    seed
        Of all draws; the same seed gives the same numbers.
    **settings
        Fields of :class:`~scperturb_modules.models.biodsnn.BioDsnnSettings`; they win over the preset. The ablations
        are among them: ``use_vae=False``, ``use_attention=False``, ``use_mask=False``, ``use_knowledge=False``, and
        ``anchor="zero", gate=False``; :meth:`ablations` has all of them.

    Attributes
    ----------
    gates
        After training: regime to the fitted gate, with the number of left-out conditions, gain and standard error.
    nodes
        The genes that the network knows, and what is known of each.
    knowledge
        Co-expression of the training cells, and the pathways of the mask.
    mask
        Which measured genes may attend to which, and why (``mask.report``).

    Notes
    -----
    Tan, Xie et al. 2024 (Briefings in Bioinformatics). Their network is rebuilt with its equations repaired; the guide
    lists what was wrong. Attention weights are no proof of regulation.

    Raises
    ------
    DataError
        The screen has several cell types; a network or the pathways share no gene with the screen; there are no cells
        to learn from; settings that contradict each other.
    TypeError
        A setting that does not exist.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate("tiny", seed=0)
    >>> network = adata.uns["scperturb_modules"]["simulation"]["graph_partial"]
    >>> modules = adata.var.groupby("module").groups
    >>> pathways = spm.priors.gene_sets({f"module {name}": list(genes) for name, genes in modules.items()})
    >>> spm.BioDSNN.setup_anndata(adata)
    >>> model = spm.BioDSNN(adata, priors=[network, pathways], n_folds=2, use_vae=False, modulation_rank=0)
    >>> model.train(max_epochs=2)
    >>> model.predict(["G01+G02"]).shape
    (1, 80)
    """

    key: ClassVar[str] = "biodsnn"
    options: ClassVar[tuple[str, ...]] = ("preset", "seed", *(field.name for field in fields(BioDsnnSettings)))

    @classmethod
    def setup_anndata(cls, adata: AnnData, *, modality_key: str | None = None, **kwargs: Any) -> None:
        """Record which columns hold what; arguments are those of :meth:`PerturbationModel.setup_anndata`.

        Parameters
        ----------
        adata
            The screen.
        modality_key
            Column of ``obs`` that says how a cell was perturbed (knock-out, interference, activation); what it says of
            control cells does not count.
        **kwargs
            ``perturbation_key``, ``control``, ``layer``, ``batch_key``, ``cell_type_key``, ``split_key``.

        Raises
        ------
        DataError
            Cells were perturbed in several ways: one model is of one.
        MissingKeyError
            A named column does not exist.
        """
        if modality_key is not None:
            screen = keys.ScreenKeys()
            labels = adata.obs.get(kwargs.get("perturbation_key", screen.perturbation_key))
            control = kwargs.get("control", screen.control)
            _refuse_several_modalities(adata if labels is None else adata[(labels != control).to_numpy()], modality_key)
        super().setup_anndata(adata, **kwargs)

    @classmethod
    def ablations(cls, **settings: Any) -> dict[str, Any]:
        """The model and its ablations by name, for :func:`scperturb_modules.tl.benchmark`.

        Parameters
        ----------
        **settings
            Of all of them, such as ``n_folds=3``.

        Examples
        --------
        >>> import scperturb_modules as spm
        >>> list(spm.BioDSNN.ablations())
        ['BioDSNN', 'noVAE', 'noAttention', 'noMask', 'noKnowledge', 'noAnchor']
        """
        named: dict[str, Mapping[str, Any]] = {cls.__name__: {}, **ABLATIONS}
        return {name: partial(cls, **(settings | dict(changed))) for name, changed in named.items()}

    def __init__(
        self, adata: AnnData, *, priors: Any = None, preset: str = "tool", seed: int = 0, **settings: Any
    ) -> None:
        chosen = settings_of(preset, settings)
        super().__init__(adata, priors=priors, seed=seed, preset=preset, settings=chosen)
        self._refuse_several_contexts()
        self._is_loaded = self._side.registry is not None
        screen = None if self._side.cells is None else screen_of(self._side.cells)
        self.knowledge = self._know(screen, priors)
        self.mask = self.knowledge.mask(self.data.var_names, chosen)
        self.sd_factors: dict[str, float] = {}
        # of a saved model they are looked at when it is trained further
        self._cells = None if self._is_loaded or not self._needs_cells else self._group_cells(screen)
        parts = self.nodes, self.networks, self.sources, self.knowledge, self.mask, self._arrays, self._members
        shape = make_shape(self.data, *parts, self._stream_shape(), chosen)
        self.module = self._seeded(lambda: BioDsnnModule(shape, chosen))
        self._finish()

    # -- building ----------------------------------------------------------------------------------------------------

    def _refuse_several_contexts(self) -> None:
        contexts = [context for context in self.data.contexts if context is not None]
        if len(contexts) > 1:
            key = self.training.uns[keys.ROOT][keys.SETUP].get("cell_type_key", keys.CELL_TYPE)
            raise DataError(
                f"BioDSNN is a model of one cell type, and the screen has {len(contexts)}: {name_some(contexts)}. Fit "
                f'one model for each: adata[adata.obs["{key}"] == name].copy(), or use APP.'
            )

    def _know(self, screen: AnnData | None, priors: Any) -> Knowledge:
        """Learned from cells and priors once; a saved model has it with its training pseudobulk."""
        if self._is_loaded:
            return Knowledge.from_uns(self.training.uns[keys.ROOT].get(keys.LEARNED, {}))
        return Knowledge.learn(screen, priors, self.settings, seed=self.seed)

    def _learned(self) -> dict[str, Any]:
        return self.knowledge.to_uns()

    def _training_arrays(self) -> Arrays:
        return super()._training_arrays() | loss_arrays(self.data)

    # -- training ----------------------------------------------------------------------------------------------------

    def _after_left_out(self, judged: Sequence[Judged]) -> None:
        super()._after_left_out(judged)
        if self.settings.uncertainty:
            self.sd_factors = scale_factors(judged, lambda one: self._gate_of(one).factor, self._arrays["se"])

    # -- prediction --------------------------------------------------------------------------------------------------

    def _explanation(self, answer: Answer) -> NDArray | None:
        """(G,) predicted standard deviation: of the members' errors, and between members."""
        if answer.log_variance is None:
            return None
        between = answer.residual[:, 0].double().var(dim=0, correction=0)
        return (answer.log_variance[:, 0].double().exp().mean(dim=0) + between).sqrt().cpu().numpy()

    def _record(self, explanations: Sequence[Any], regimes: Sequence[str]) -> dict[str, Any]:
        if self.module.uncertain is None:
            return {}
        factors = [self.sd_factors.get(regime, np.nan) for regime in regimes]
        return {"layers": {keys.SD: np.array(factors)[:, None] * np.stack(list(explanations))}}

    def get_pathway_attention(self, conditions: Sequence[str], *, store: bool = True) -> pd.DataFrame:
        """How much of their attention the genes of each pathway pay to each other, and how a perturbation changes it.

        Parameters
        ----------
        conditions
            As in :meth:`predict`.
        store
            Whether to write the table into the object that the model was built from, as
            ``uns["scperturb_modules"]["biodsnn"]["pathway_attention"]``.

        Returns
        -------
        DataFrame
            A row for each condition and pathway with two measured genes or more: ``condition``, ``pathway``, ``name``,
            ``n_genes``, ``attention`` (0 to 1, mean over the pathway's genes, heads and members) and ``change`` (minus
            that of the unperturbed cell); for each condition the largest changes first. ``spm.pl.pathway_attention``
            draws it.

        Raises
        ------
        NotTrainedError
            :meth:`train` was not called.
        DataError
            A gene of a condition is known nowhere.
        ValueError
            The model has no pathways, no attention or no mask.
        """
        self._require_trained("get_pathway_attention()")
        pathways, rows = self.knowledge.pathways, rows_asked(conditions, self.test_names, self.training)
        if pathways is None or not (self.settings.use_attention and self.settings.use_mask):
            raise ValueError(
                "This model has no attention over pathways; pass spm.priors.reactome(...) or gene sets among the "
                "priors, with use_knowledge, use_attention and use_mask."
            )
        self._refuse_unknown(rows)
        edges = self.module.encoder.mixing.edges.cpu().numpy()  # type: ignore[operator]
        weights = np.array([self._attention(row) for row in rows]).reshape(len(rows), 2, len(edges))
        names = [row_name(*row) for row in rows]
        # that of the unperturbed cell is the same beside every condition
        table = pathway_attention(
            np.vstack([weights[:, 0], weights[:1, 1]]), edges, pathways, self.data.var_names, names
        )
        if store and self._side.home is not None:
            self._side.home.uns.setdefault(keys.ROOT, {}).setdefault(self.key, {})[keys.PATHWAY_ATTENTION] = table
        return table

    def _attention(self, row: Row) -> NDArray[np.float64]:
        """(2, E) of a condition and of the unperturbed cell, mean over members."""
        module = self._members_only()
        with torch.no_grad():
            found = module.attention(module.read(self._batch(self._arrays_of([row]), np.arange(1)))[0])
        return found.double().mean(dim=0).cpu().numpy()

    def _refuse_unknown(self, rows: Sequence[Row]) -> None:
        strange = [row_name(*row) for row, unknown in zip(rows, self._unknown_rows(rows), strict=True) if unknown]
        if strange:
            raise DataError(
                f"{len(strange)} conditions have a gene that is known nowhere: {name_some(strange)}. Leave them out."
            )

    # -- saving ------------------------------------------------------------------------------------------------------

    def _facts(self) -> dict[str, str]:
        report = self.mask.report
        mask = (
            f"{report['genes_pathway']} genes by pathways, {report['genes_fallback']} by co-expression, "
            f"{report['genes_alone']} alone; {report['pairs']} pairs"
        )
        return super()._facts() | {"attention": mask if self.settings.use_attention and self.settings.use_mask else ""}

    def _fitted(self) -> dict[str, Any]:
        return super()._fitted() | {"sd_factors": self.sd_factors}

    def _restore(self, fitted: Mapping[str, Any]) -> None:
        super()._restore(fitted)
        self.sd_factors = dict(fitted["sd_factors"])


def _refuse_several_modalities(adata: AnnData, key: str) -> None:
    require_key(key, adata.obs, "adata.obs", mend="Name the column with the modality as modality_key=.")
    counts = adata.obs[key].astype(str).value_counts()
    if len(counts) > 1:
        named = [f"{name} ({count} cells)" for name, count in counts.items()]
        raise DataError(
            f"BioDSNN is a model of one modality, and {key!r} has {len(counts)}: {name_some(named)}. Fit one model for "
            f'each: adata[adata.obs["{key}"] == name].copy().'
        )
