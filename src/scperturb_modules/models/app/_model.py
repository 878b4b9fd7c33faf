"""APP: attention over all genes from the context of a perturbation, on top of what singles and neighbours say."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import MEASURED, Row, genes_of, regimes_of
from scperturb_modules._errors import ScreenWarning
from scperturb_modules.baselines import Anchor
from scperturb_modules.baselines._prediction import Response
from scperturb_modules.baselines._training import control_label, named_rows
from scperturb_modules.dataloaders import ConditionDataModule, PseudobulkDataset
from scperturb_modules.models._base import NetworkAnswer, PerturbationModel
from scperturb_modules.models._gate import CLOSED, OPEN, TOO_FEW, Gate, fit_gates, gates_from_plain, gates_to_plain
from scperturb_modules.models.app._attention import total_variation
from scperturb_modules.models.app._folds import Members, deal_members
from scperturb_modules.models.app._inputs import Nodes, make_shape, relations_of
from scperturb_modules.models.app._left_out import predict_left_out, regime_unmeasured, rows_for_the_epoch
from scperturb_modules.models.app._module import AppModule, AppShape
from scperturb_modules.models.app._rows import Arrays, PartTable, row_arrays
from scperturb_modules.models.app._settings import AppSettings, settings_of
from scperturb_modules.nn import effect_weights
from scperturb_modules.priors import GeneSets

if TYPE_CHECKING:
    from anndata import AnnData


class APP(PerturbationModel):
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
        chosen = settings_of(preset, settings)
        super().__init__(adata, priors=priors, seed=seed)
        self.preset, self.settings = preset, chosen
        for name, value in asdict(chosen).items():
            setattr(self, name, value)
        self.returns_measured = chosen.anchor != "zero"
        self.gates: dict[str, Gate] = {}
        self.attention_tv: float | None = None
        self.relation_weights: dict[str, float] = {}
        self._predictor: AppModule | None = None
        self._control = control_label(self.training)
        self._parts = PartTable(self._anchor_of_choice(), self.settings.anchor)
        self.nodes = Nodes.of(self.data, self.networks, self.tables)
        self._node_of = self.nodes.number
        self._members = self._deal()
        self._arrays = self._training_arrays()
        self.module = self._seeded_module(self._shape())
        if preset != "paper":
            self.module.spread_attention(self._batch(self._arrays, np.arange(len(self.data.rows))))
        self._finish()

    # -- building ----------------------------------------------------------------------------------------------------

    def _anchor_of_choice(self) -> Anchor:
        return self.anchor_of if self.settings.anchor == "auto" else Anchor(self.data, None, seed=self.seed)

    def _deal(self) -> Members:
        """Members and folds; rows that the user's split calls ``val`` are left out by all."""
        parts = self.training.obs.get(keys.SPLIT)
        of_row = {} if parts is None else dict(zip(self.training.obs_names, parts.astype(str), strict=True))
        return deal_members(
            [condition for condition, _ in self.data.rows],
            self.data.genes,
            np.array([of_row.get(name) == keys.VAL for name in named_rows(self.data.rows)], dtype=bool),
            n_members=self.settings.n_members,
            n_folds=self.settings.n_folds,
            seed=self.seed,
        )

    def _training_arrays(self) -> Arrays:
        """Everything that is known of the training rows, by the keys of a batch."""
        arrays = self._arrays_of(self.data.rows, training=True)
        n_cells = self.training.obs.loc[named_rows(self.data.rows), keys.N_CELLS].to_numpy(dtype=np.float64)
        row_weight, gene_weight = effect_weights(self.data.delta, self.data.se2, n_cells, gamma=self.settings.gamma)
        return arrays | {
            "target": self.data.delta.astype(np.float32),
            "row_weight": row_weight,
            "gene_weight": gene_weight,
            "is_combination": (self.data.order > 1).astype(np.float32),
            "trains": self._members.trains.astype(np.float32),
            "held_out": rows_for_the_epoch(self.data, self._members).astype(np.float32),
        }

    def _arrays_of(self, rows: Sequence[Row], *, training: bool = False) -> Arrays:
        order = max((len(genes_of(condition, control=self._control)) for condition, _ in rows), default=1)
        return row_arrays(
            rows, self._parts, self._node_of, order=max(order, 2), control=self._control, training=training
        )

    def _shape(self) -> AppShape:
        """What the module is built from; networks and gene sets are features too, after the tables."""
        tables = dict(self.tables)
        for name in self.networks:
            source = self.sources[name]
            kind = "sets" if isinstance(source.prior, GeneSets) else "spectral"
            tables[f"{name} ({kind})"] = source.table
        return make_shape(
            self.training, self.data, self.nodes, self.networks, tables, self._arrays, self._members, self.settings
        )

    @property
    def _relation_names(self) -> list[str]:
        """Names of the networks as they are aggregated; a directed one counts twice."""
        return [name for network in self.networks.values() for name, _ in relations_of(network, self.nodes.names)]

    def _seeded_module(self, shape: AppShape) -> AppModule:
        """The module; its first weights depend on the seed alone, and the caller's random state stays as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return AppModule(shape, self.settings)

    def train(self, max_epochs: int = 100, **kwargs: Any) -> None:
        """Train; arguments are those of :meth:`PerturbationModel.train`.

        Gradients are clipped at a norm of 1 for each member on average: ``gradient_clip=`` is of all together.
        """
        kwargs.setdefault("gradient_clip", self.module.n_members**-0.5)
        super().train(max_epochs, **kwargs)

    # -- training ----------------------------------------------------------------------------------------------------

    def _datamodule(self, *, batch_size: int, num_workers: int) -> ConditionDataModule:
        trained = np.flatnonzero(self._members.trains.any(axis=1))
        judged = np.flatnonzero(self._arrays["held_out"].any(axis=1))
        return ConditionDataModule(
            self._dataset(trained),
            self._dataset(judged) if len(judged) else None,
            batch_size=batch_size,
            seed=self.seed,
            num_workers=num_workers,
        )

    def _dataset(self, rows: NDArray[np.intp]) -> PseudobulkDataset:
        # of the data, not of the arrays: the last bits of anchors may differ between machines
        fingerprint = str(self.training.uns[keys.ROOT][keys.PSEUDOBULK]["fingerprint"])
        return PseudobulkDataset({name: values[rows] for name, values in self._arrays.items()}, fingerprint=fingerprint)

    def _after_training(self) -> None:
        self.module.eval()
        self.gates = {}
        if self.settings.gate:
            self.gates = fit_gates(predict_left_out(self.module, self._arrays, self.data, self._members))
        self._predictor = None
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

    def _batch(self, arrays: Arrays, rows: NDArray[np.intp]) -> dict[str, torch.Tensor]:
        device = self.module.device  # looked up once: scvi-tools walks over all parameters for it
        return {name: torch.as_tensor(values[rows], device=device) for name, values in arrays.items()}

    def _run(self, batches: Iterable[dict[str, torch.Tensor]]) -> tuple[NDArray[np.float64], list[torch.Tensor]]:
        """Mean residual (P, G), and of each row attention (2, N), mean and standard deviation over members.

        Of the members that saw everything, and of P batches of one row each: among others, a row's last bits depend on
        its place and on how many genes they have, even in batches of one size.
        """
        module = self._members_only()
        residual, attention = [], []
        for batch in batches:
            with torch.no_grad():
                answer = module.respond(module.read(batch)[0])
            residual.append((answer.gate[..., None] * answer.residual).double().mean(dim=0).cpu().numpy())
            if answer.attention is not None:
                of_row = answer.attention[:, 0]
                attention.append(torch.stack([of_row.mean(dim=0), of_row.std(dim=0, correction=0)]))
        return np.concatenate(residual), attention

    def _members_only(self) -> AppModule:
        """The module without the fold members, which predict nothing but what they left out."""
        if self._predictor is None or self._predictor.device != self.module.device:
            self._predictor = self.module.subset(slice(0, self._members.n_members))
        return self._predictor

    def _network_answer(self, rows: Sequence[Row]) -> NetworkAnswer:
        residual, attention = self._run(self._batch(self._arrays_of([row]), np.arange(1)) for row in rows)
        regimes = [
            regime_unmeasured(self.data, self.data.index[row]) if regime == MEASURED else regime
            for row, regime in zip(rows, regimes_of(rows, self.data.index, control=self._control), strict=True)
        ]
        gates = np.array([self._gate_of(regime).factor for regime in regimes])
        status = [self._status(row, regime) for row, regime in zip(rows, regimes, strict=True)]
        return NetworkAnswer(
            residual=residual,
            gate=gates,
            status=tuple(status),
            **({} if self.module.attention is None else self._attention_record(attention)),
        )

    def _gate_of(self, regime: str) -> Gate:
        return self.gates.get(regime, CLOSED) if self.settings.gate else OPEN

    def _status(self, row: Row, regime: str) -> str:
        said = []
        for gene in genes_of(row[0], control=self._control):
            number = self._node_of[gene]
            if not self.nodes.connected[number] and self.networks:
                said.append(
                    "isolated" if self.nodes.measured[number] or not self.nodes.described[number] else "prior_only"
                )
        if self.settings.gate and not self._gate_of(regime).fitted:
            said.append(TOO_FEW)
        return ";".join(dict.fromkeys(said))

    def _attention_record(self, attention: Sequence[torch.Tensor]) -> dict[str, Any]:
        mean, sd = torch.stack(list(attention), dim=1).cpu().numpy()
        return {
            "obsm": {keys.ATTENTION: mean, keys.ATTENTION_SD: sd},
            "tables": {
                keys.ATTENTION_NODES: np.array(self.nodes.names, dtype=str),
                keys.ATTENTION_TV: float(self.attention_tv or 0.0),
            },
        }

    def _anchor_responses(self, rows: Sequence[Row]) -> list[Response]:
        if self.settings.anchor in ("auto", "mean"):
            return [self._parts.anchor.of(genes_of(one, control=self._control), context) for one, context in rows]
        return [self._plain_anchor(row) for row in rows]

    def _plain_anchor(self, row: Row) -> Response:
        """Sum of measured singles, and 0 for the others."""
        genes = genes_of(row[0], control=self._control)
        measured = [self._parts.measured(gene, row[1]) for gene in genes]
        known = [one for one in measured if one is not None]
        total = np.sum(known, axis=0) if known else np.zeros(len(self.data.var_names))
        total = self._parts.factor(genes, row[1]) * total + self._parts.offset(genes, row[1])
        return Response(total, "shrunken" if known else "zero")

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
        gates = [f"{regime} {gate.factor:.2f} (n = {gate.n})" for regime, gate in self.gates.items()]
        weights = [f"{name} {weight:.2f}" for name, weight in self.relation_weights.items()]
        facts = {"gates": ", ".join(gates), "weight of networks": ", ".join(weights) if len(weights) > 1 else ""}
        if self.attention_tv is not None:
            facts["attention"] = f"differs by {self.attention_tv:.2f} between perturbations (total variation)"
        return facts

    def _fitted(self) -> dict[str, Any]:
        return {
            "gates": gates_to_plain(self.gates),
            "attention_tv": self.attention_tv,
            "relation_weights": self.relation_weights,
        }

    def _restore(self, fitted: Mapping[str, Any]) -> None:
        self.gates = gates_from_plain(fitted["gates"])
        self.attention_tv = fitted["attention_tv"]
        self.relation_weights = dict(fitted["relation_weights"])
        self._predictor = None
