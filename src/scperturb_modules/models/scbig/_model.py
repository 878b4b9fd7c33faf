"""SCBIG: gene programs that explain, and cells that can be generated."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from scperturb_modules import _keys as keys
from scperturb_modules.models._setup import screen_of
from scperturb_modules.models.scbig._explaining import ExplainingModel
from scperturb_modules.models.scbig._inputs import make_shape
from scperturb_modules.models.scbig._module import ScbigModule
from scperturb_modules.models.scbig._settings import ABLATIONS, ScbigSettings, settings_of
from scperturb_modules.models.scbig.programs import GenePrograms

if TYPE_CHECKING:
    from anndata import AnnData


class SCBIG(ExplainingModel):
    """Find gene programs in a screen, predict how perturbations change them, and generate perturbed cells.

    *Programs*: genes that vary together between cells, respond alike to perturbations and are near each other in the
    priors. *Means*: a network sees a condition as one token for each program; what it says is added to an anchor, the
    shrunken sum of measured singles (for unmeasured ones of their nearest neighbours in the priors), times a factor
    that is fitted on conditions which the network has not seen. *Cells*: an autoencoder whose tokens are the programs,
    and in its latent a flow, trained by conditional flow matching, from control cells to the cells of a condition. The
    flow says how cells of a condition differ from controls that were all moved alike; the mean of generated cells is
    the predicted mean.

    Parameters
    ----------
    adata
        A screen after :meth:`setup_anndata` or :meth:`setup_mudata`; ``X`` (or ``layer``) is log1p of counts per
        10,000. Only its training side is read. Or a training pseudobulk, with ``generate=False,
        relations=("response", "priors")``: what is learned of cells is left out.
    priors
        Networks (edge tables or ``spm.priors.GeneGraph``), gene sets, gene x feature tables such as embeddings: one, a
        list, or a mapping from names. They help to find programs, and say what genes without a measurement are like.
    preset
        ``"tool"``: everything above. ``"paper"``: the published method with its defects repaired (32 programs of equal
        sizes from priors alone, no anchor, no gate, predictions are means of decoded cells).
    seed
        Of all draws; the same seed gives the same numbers.
    **settings
        Fields of :class:`~scperturb_modules.models.scbig.ScbigSettings`; they win over the preset. :meth:`ablations`
        has those that leave a part out.

    Attributes
    ----------
    programs
        The gene programs: ``labels``, ``table()``, ``report``.
    gates
        After training: regime to the fitted gate, with the number of left-out conditions, gain and standard error.
    nodes
        The genes that the network knows, and what is known of each.

    Notes
    -----
    "Beyond Independent Genes: Learning Module-Inductive Representations for Gene Perturbation Prediction", arXiv
    2602.04901. Rebuilt from its equations; the guide lists what was wrong. A program is a statement about which genes
    go together, not about what regulates them.

    Raises
    ------
    DataError
        Too few genes for the programs; nothing to find programs from; there are no cells to learn from; settings that
        contradict each other.
    TypeError
        A setting that does not exist.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate("tiny", seed=0)
    >>> network = adata.uns["scperturb_modules"]["simulation"]["graph_partial"]
    >>> spm.SCBIG.setup_anndata(adata)
    >>> model = spm.SCBIG(adata, priors=network, n_programs=4, n_folds=2, autoencoder_steps=2, flow_steps=2)
    >>> model.train(max_epochs=2)
    >>> model.predict(["G01+G02"]).shape
    (1, 80)
    >>> sorted(set(model.gene_programs()["program"]))
    ['P1', 'P2', 'P3', 'P4']
    """

    key: ClassVar[str] = "scbig"
    options: ClassVar[tuple[str, ...]] = ("preset", "seed", *(field.name for field in fields(ScbigSettings)))

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
        >>> list(spm.SCBIG.ablations())[:3]
        ['SCBIG', 'randomPrograms', 'noTokens']
        """
        named: dict[str, Any] = {cls.__name__: {}, **ABLATIONS}
        return {name: partial(cls, **(settings | dict(changed))) for name, changed in named.items()}

    def __init__(
        self, adata: AnnData, *, priors: Any = None, preset: str = "tool", seed: int = 0, **settings: Any
    ) -> None:
        chosen = settings_of(preset, settings)
        super().__init__(adata, priors=priors, seed=seed, preset=preset, settings=chosen)
        is_loaded = self._side.registry is not None
        screen = None if self._side.cells is None else screen_of(self._side.cells)
        if is_loaded:
            self.programs = GenePrograms.from_uns(self.training.uns[keys.ROOT][keys.LEARNED][keys.PROGRAMS])
        else:
            self.programs = GenePrograms.learn(
                screen,
                self.data,
                self.training,
                networks=self.networks,
                tables=self.tables,
                settings=chosen,
                seed=self.seed,
            )
        # of a saved model they are looked at when it is trained further
        self._cells = None if is_loaded or not self._needs_cells else self._group_cells(screen)
        parts = self.data, self.nodes, self.sources, self.programs, self._arrays, self._members, self._cells
        shape = make_shape(*parts, chosen, seed=self.seed)
        self.module = self._seeded(lambda: ScbigModule(shape, chosen))
        self._finish()

    def _learned(self) -> dict[str, Any]:
        return {keys.PROGRAMS: self.programs.to_uns()}

    def _facts(self) -> dict[str, str]:
        sizes = self.programs.table()["n_genes"]
        return super()._facts() | {"programs": f"{len(sizes)} of {sizes.min()} to {sizes.max()} genes"}
