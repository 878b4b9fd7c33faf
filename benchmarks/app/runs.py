"""The runs behind the page of APP: which screens, which models, and one file per fit, so that none is made twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from joint import joint_sums

import scperturb_modules as spm
from scperturb_modules._files import whole_file
from scperturb_modules.metrics import PRIMARY

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "results" / "app"
SEEDS = tuple(range(5))  # settings were chosen on 100 to 103

APP, UNGATED = "APP", "APP, gate off"
JOINT = "JointSum"
BASELINES = (
    "NoChange",
    "MeanShift",
    "Additive",
    "AdditiveFitted",
    "AdditiveShrunk",
    "Linear",
    "NearestPrior",
    "EmbeddingLinear",
)

WORLDS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "60 pairs": ("default", {}),
    "200 pairs": ("default", {"n_pairs": 200}),
    "additive": ("additive_only", {}),
    "additive, small effects": ("additive_only", {"effect_scale": 1.0}),
    "additive, 200 pairs": ("additive_only", {"n_pairs": 200}),
    "additive, small effects, 200 pairs": ("additive_only", {"effect_scale": 1.0, "n_pairs": 200}),
}

Table = pd.DataFrame


def _degraded(**how: Any) -> Callable[[Mapping[str, Table], int], Table]:
    return lambda graphs, seed: spm.priors.degrade(graphs["graph_partial"], seed=seed, **how)


NETWORKS: Mapping[str, Callable[[Mapping[str, Table], int], Table]] = {
    "partial": lambda graphs, seed: graphs["graph_partial"],
    "whole": lambda graphs, seed: graphs["graph"],
    "decoy": lambda graphs, seed: graphs["graph_decoy"],
    "permuted": _degraded(permute_labels=True),
    "10 % removed": _degraded(remove=0.1),
    "25 % removed": _degraded(remove=0.25),
    "50 % removed": _degraded(remove=0.5),
    "10 % added": _degraded(add=0.1),
    "25 % added": _degraded(add=0.25),
    "50 % added": _degraded(add=0.5),
}

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "embedding random": {"embedding": "random"},
    "embedding identity": {"embedding": "identity"},
    "attention context": {"attention": "context"},
    "attention static": {"attention": "static"},
    "head mlp": {"head": "mlp"},
    "head linear": {"head": "linear"},
    "anchor zero": {"anchor": "zero", "gate": False, "n_folds": 5},
    "responses off": {"responses": False},
    "scale_parts off": {"scale_parts": False},
    "context sum": {"context": "sum"},
    "paper": {"preset": "paper"},
    "paper, embedding random": {"preset": "paper", "embedding": "random"},
    "paper, embedding identity": {"preset": "paper", "embedding": "identity"},
    "paper, attention context": {"preset": "paper", "attention": "context"},
    "paper, attention static": {"preset": "paper", "attention": "static"},
    "paper, head mlp": {"preset": "paper", "head": "mlp"},
}


@dataclass(frozen=True)
class Experiment:
    """One fit for each seed.

    Parameters
    ----------
    world, scheme, network, variant
        Names in :data:`WORLDS`, :func:`scperturb_modules.pp.split`, :data:`NETWORKS` and :data:`VARIANTS`.
    seeds
        Of screen, split and model alike.
    """

    world: str
    scheme: str
    network: str = "partial"
    variant: str = "full"
    seeds: tuple[int, ...] = field(default=SEEDS, compare=False)

    @property
    def references(self) -> tuple[Experiment, ...]:
        """The baselines on the same screens and networks, and the sharper sum where every single is measured."""
        joint = (replace(self, variant=JOINT, network="partial"),) if self.scheme == "combination" else ()
        return (replace(self, variant="baselines"), *joint)

    @property
    def is_done(self) -> bool:
        """Whether every seed was run."""
        return all(each.path(seed).exists() for each in (self, *self.references) for seed in self.seeds)

    def path(self, seed: int) -> Path:
        """File of one fit."""
        name = f"{self.world}--{self.scheme}--{self.network}--{self.variant}--{seed}"
        return CACHE / f"{name.replace(' ', '_').replace(',', '').replace('%', 'pc')}.json"


def run_all(experiments: Sequence[Experiment], tell: Callable[[str], None]) -> None:
    """Make what is not there yet, seed by seed, so that each screen is drawn once."""
    for seed in SEEDS:
        for one in experiments:
            if seed in one.seeds and not replace(one, seeds=(seed,)).is_done:
                done = _kept(one.path(seed), _run, one, seed)
                for reference in one.references:
                    _kept(reference.path(seed), _run_reference, reference, seed)
                said = f"{one.world}, {one.scheme}, {one.network}, {one.variant}, seed {seed}"
                tell(f"{said}: {done['seconds']:.0f} s")


def errors(one: Experiment) -> Table:
    """Error of APP and of the baselines on every test condition of all seeds.

    Columns: seed, regime, condition, model, error.
    """
    rows = [
        {"seed": seed, **row}
        for each in (one, *one.references)
        for seed, done in records(each)
        for row in done["errors"]
    ]
    return pd.DataFrame(rows)


def records(one: Experiment) -> Iterator[tuple[int, dict[str, Any]]]:
    """Seed and everything else that was written of it."""
    for seed in one.seeds:
        yield seed, json.loads(one.path(seed).read_text())


def _run(one: Experiment, seed: int) -> dict[str, Any]:
    screen = _screen(one.world, one.scheme, seed)
    network = NETWORKS[one.network](screen.graphs, seed)
    spent = time.perf_counter()
    model = spm.APP(screen.training, priors=[network], seed=seed, **VARIANTS[one.variant])
    model.train()
    spent = time.perf_counter() - spent
    answers = {APP: model.predict(screen.test, store=False)}
    if model.settings.gate:
        answers[UNGATED] = model.predict(screen.test, store=False, gate=False)
    return {
        "seconds": spent,
        "n_epochs": model.fit_result.n_epochs,
        "n_parameters": sum(parameter.numel() for parameter in model.module.parameters()),
        "gates": {regime: [gate.factor, gate.n] for regime, gate in model.gates.items()},
        "errors": [row for name, prediction in answers.items() for row in _scored(name, prediction, screen)],
    }


@dataclass(frozen=True)
class _Screen:
    training: ad.AnnData
    truth: ad.AnnData
    test: list[str]
    graphs: Mapping[str, Table]


@lru_cache(maxsize=1)
def _drawn(world: str, seed: int) -> ad.AnnData:
    preset, settings = WORLDS[world]
    return spm.datasets.simulate(preset, seed=seed, **settings)


@lru_cache(maxsize=1)
def _screen(world: str, scheme: str, seed: int) -> _Screen:
    adata = _drawn(world, seed)
    spm.pp.split(adata, scheme, seed=seed, n_folds=5, fold=0, overwrite=True)
    training = spm.pp.pseudobulk(adata, cells="training")
    truth = spm.pp.pseudobulk(adata)
    test = [str(name) for name in truth.obs_names[truth.obs["split"] == "test"]]
    return _Screen(training, truth, test, adata.uns["scperturb_modules"]["simulation"])


def _run_reference(one: Experiment, seed: int) -> dict[str, Any]:
    """With the seed of the model: the neighbours of its anchor are chosen in folds over genes."""
    screen = _screen(one.world, one.scheme, seed)
    network = NETWORKS[one.network](screen.graphs, seed)
    if one.variant == JOINT:
        return {"errors": list(_scored(JOINT, joint_sums(screen.training, screen.test), screen))}
    rows: list[dict[str, Any]] = []
    for name in BASELINES:
        model = getattr(spm.baselines, name)(screen.training, priors=[network], seed=seed)
        model.train()
        rows += _scored(name, model.predict(screen.test), screen)
    return {"errors": rows}


def _scored(name: str, prediction: ad.AnnData, screen: _Screen) -> Iterator[dict[str, Any]]:
    frame = spm.tl.evaluate(prediction, screen.truth, metrics=[PRIMARY])
    for row in frame.itertuples():
        yield {"regime": str(row.regime), "condition": row.condition, "model": name, "error": row.value}


def bend(world: str) -> list[dict[str, float]]:
    """How far true changes of pairs are from sums, for each seed: mean L2 norms over pairs.

    Of the pair's true change; of what is left of it beyond a multiple of the sum of its singles' true changes, one
    multiple for all pairs or its own; and of the sampling error of a measured mean.
    """
    return [_kept(CACHE / f"bend--{world.replace(' ', '_')}--{seed}.json", _bend, world, seed) for seed in SEEDS]


def _bend(world: str, seed: int) -> dict[str, float]:
    adata = _drawn(world, seed)
    truth = spm.datasets.simulated_truth(adata)
    names = [name for name in truth.index if "+" in name]
    pair, total = truth.loc[names].to_numpy(), np.array([truth.loc[name.split("+")].sum(axis=0) for name in names])
    product, square = (pair * total).sum(axis=1, keepdims=True), (total * total).sum(axis=1, keepdims=True)
    left = {"size": pair, "common": pair - product.sum() / square.sum() * total, "own": pair - product / square * total}
    norms = {name: float(np.linalg.norm(values, axis=1).mean()) for name, values in left.items()}
    return norms | {"noise": float(adata.uns["scperturb_modules"]["simulation"]["noise_floor"])}


def _kept(path: Path, make: Callable[[Any, int], dict[str, Any]], what: Any, seed: int) -> dict[str, Any]:
    """What is in the file; made and written first where there is none."""
    if not path.exists():
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(make(what, seed)))
    return json.loads(path.read_text())
