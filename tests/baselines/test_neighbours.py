"""Neighbours and NearestPrior against the sums written out, and what must not reach a prediction."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from scperturb_modules import baselines
from scperturb_modules.baselines._folds import gene_folds
from scperturb_modules.baselines._nearest import Neighbours
from scperturb_modules.priors import GeneGraph, _fusion, as_sources, gene_embedding, gene_sets, reactome
from scperturb_modules.priors._fusion import learn, no_fusion

GENES = [f"G{i:02d}" for i in range(36)]
SEEDS = pytest.mark.parametrize("seed", range(4))


def draw_priors(rng, kind, genes=GENES):
    """A table that tells the kind of most genes, a network within kinds, sets of nothing."""
    place = rng.normal(size=(4, 5))[kind] + 0.4 * rng.normal(size=(len(genes), 5))
    table = pd.DataFrame(place, index=genes).drop(genes[5::9])
    pairs = [(a, b) for i, a in enumerate(genes) for j, b in enumerate(genes[:i]) if kind[i] == kind[j]]
    edges = pd.DataFrame([pair for pair in pairs if rng.random() < 0.4], columns=["source", "target"])
    edges["weight"] = rng.uniform(0.2, 1, len(edges))
    sets = {f"S{i}": rng.choice(genes, 6, replace=False).tolist() for i in range(8)}
    return {"table": table, "net": GeneGraph.from_table(edges, name="net"), "sets": gene_sets(sets)}


def draw(seed):
    """Singles of two contexts, some genes in both; the last genes in none."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(4, size=len(GENES))
    number = np.sort(np.concatenate([rng.permutation(30)[:25], rng.permutation(30)[:9]]))
    delta = rng.normal(size=(4, 50))[kind[number]] + 0.7 * rng.normal(size=(len(number), 50))
    return tuple(GENES[i] for i in number), delta + 0.3 * rng.normal(size=50), draw_priors(rng, kind)


@pytest.fixture(scope="module")
def drawn():
    return {seed: draw(seed) for seed in range(4)}


def slow_similarity(view, genes, others):
    """(n, m) cosines, pair by pair."""
    values = np.zeros((len(genes), len(others)))
    for i, gene in enumerate(genes):
        for j, other in enumerate(others):
            if gene in view.genes and other in view.genes:
                one, two = (np.asarray(part.todense() if hasattr(part, "todense") else part).ravel()
                            for part in (view.of([gene]), view.of([other])))  # fmt: skip
                values[i, j] = max(one @ two, 0.0)
    return values


class Slow:
    """Learns anew for each question, from the singles that may be seen."""

    def __init__(self, genes, delta, priors, seed=0):
        self.genes, self.delta = np.array(genes, dtype=object), delta
        self.views = {name: one.views for name, one in as_sources(priors).items()}
        self.folds = gene_folds(genes, seed=seed)
        self.alike = {
            (name, view): pd.DataFrame(slow_similarity(profiles, GENES, GENES), GENES, GENES)
            for name, views in self.views.items()
            for view, profiles in views.items()
        }

    def between(self, name, view, rows, columns):
        return self.alike[name, view].loc[list(rows), list(columns)].to_numpy()

    def fusion(self, kept):
        genes = self.genes[kept]
        similar = {
            name: {view: self.between(name, view, genes, genes) for view in views} for name, views in self.views.items()
        }
        return learn(similar, self.delta[kept] @ self.delta[kept].T, genes)

    def predict(self, gene, fusion, kept, mean):
        parts, weights = [], []
        for fit in fusion.sources:
            similar = self.between(fit.source, fit.view, [gene], self.genes[kept])[0]
            evidence = (similar / fit.scale) ** fit.power
            if evidence.sum() > 0:
                top = evidence @ self.delta[kept] + fit.pseudo_count * fusion.base * mean
                parts.append(top / (evidence.sum() + fit.pseudo_count))
                weights.append(fit.weight)
        base = fusion.base * mean
        if not parts:
            return base, False
        return np.average([base, *parts], axis=0, weights=[fusion.base_weight, *weights]), True

    def new(self, gene):
        kept = np.arange(len(self.genes))
        return self.predict(gene, self.fusion(kept), kept, self.delta.mean(axis=0))

    def without(self, gene, mean):
        fold = np.array([self.folds[one] for one in self.genes])
        fusion = self.fusion(np.flatnonzero(fold != self.folds[gene]))
        return self.predict(gene, fusion, np.flatnonzero(self.genes != gene), mean)


def neighbours(genes, delta, priors, seed=0):
    return Neighbours(genes, delta, as_sources(priors), seed)


def all_of(one, mean):
    """Every left-out prediction and every new one."""
    measured = dict.fromkeys(one.genes)
    return np.array([one.predict_without(gene, mean).delta for gene in measured if one.covers(gene)])


@SEEDS
def test_a_new_gene_gets_the_sum_written_out(seed, drawn):
    genes, delta, priors = drawn[seed]
    assert len(set(genes)) < len(genes), "the contexts share genes"
    fast, slow = neighbours(genes, delta, priors), Slow(genes, delta, priors)
    assert fast.predict("TP53") is None and fast.predict_without("TP53", delta[0]) is None
    for gene in filter(fast.covers, GENES):
        expected, near = slow.new(gene)
        predicted = fast.predict(gene)
        np.testing.assert_allclose(predicted.delta, expected, rtol=1e-6, atol=1e-8)
        assert predicted.has_neighbours == near


@SEEDS
@pytest.mark.parametrize("folds", [0, 7])
def test_a_training_single_is_predicted_from_the_other_genes_alone(seed, folds, drawn):
    genes, delta, priors = drawn[seed]
    fast, slow = neighbours(genes, delta, priors, folds), Slow(genes, delta, priors, folds)
    mean = np.random.default_rng(seed).normal(size=50)
    for gene in list(dict.fromkeys(genes))[::4]:
        if fast.covers(gene):
            expected, near = slow.without(gene, mean)
            predicted = fast.predict_without(gene, mean)
            np.testing.assert_allclose(predicted.delta, expected, rtol=1e-6, atol=1e-8)
            assert predicted.has_neighbours == near


@pytest.mark.parametrize("poison", [np.nan, 1e3, 1e12])
def test_the_own_measurements_never_enter(poison, drawn):
    """Of a gene in one context and of a gene in two, to the last bit."""
    genes, delta, priors = drawn[0]
    mean = delta.mean(axis=0)
    clean = neighbours(genes, delta, priors)
    twice = [gene for gene in dict.fromkeys(genes) if genes.count(gene) == 2 and clean.covers(gene)]
    once = [gene for gene in dict.fromkeys(genes) if genes.count(gene) == 1 and clean.covers(gene)]
    for gene in (*twice[:3], *once[:3]):
        own = np.array(genes) == gene
        poisoned = np.where(own[:, None], poison * np.random.default_rng(1).normal(size=delta.shape), delta)
        dirty = neighbours(genes, poisoned, priors)
        before, after = (one.predict_without(gene, mean) for one in (clean, dirty))
        np.testing.assert_array_equal(before.delta, after.delta)
        assert before.has_neighbours and after.has_neighbours
        if np.isfinite(poison):  # the test can see a leak
            other = next(one for one in once[::-1] if one != gene)
            assert not np.array_equal(
                clean.predict_without(other, mean).delta, dirty.predict_without(other, mean).delta
            )


def test_the_draw_of_singles_has_the_seed_of_the_baseline(monkeypatch, make_training, fit):
    monkeypatch.setattr(_fusion, "MOST_LEARNT_FROM", 20)
    genes, delta, priors = draw(1)
    changes = {gene: row[:40] for gene, row in zip(genes, delta, strict=True)}
    rows = np.array([changes[gene] for gene in sorted(changes)])
    for seed in (0, 3):
        model = fit(baselines.NearestPrior, make_training(changes), priors=priors, seed=seed)
        assert model.settings["neighbours"]["all"] == neighbours(tuple(sorted(changes)), rows, priors, seed).facts()


def test_of_very_many_singles_only_those_drawn_are_learned_from(monkeypatch, drawn):
    monkeypatch.setattr(_fusion, "MOST_LEARNT_FROM", 20)
    genes, delta, priors = drawn[1]
    seed = 3
    rows = _fusion.learnt_from(len(genes), seed=seed)
    assert len(rows) == 20
    few = neighbours(genes, delta, priors, seed)
    slow = Slow(genes, delta, priors, seed)
    assert few.fusion.base == pytest.approx(slow.fusion(rows).base)
    assert [one.weight for one in few.fusion.sources] == pytest.approx(
        [one.weight for one in slow.fusion(rows).sources]
    )
    fold = np.array([slow.folds[gene] for gene in genes])
    for number, fusion in few._fusion_without_fold.items():
        expected = slow.fusion(np.array([row for row in rows if fold[row] != number]))
        assert fusion.base == pytest.approx(expected.base)
    # others are neighbours none the less
    rest = np.setdiff1d(np.arange(len(genes)), rows)
    changed = delta.copy()
    changed[rest] *= 2
    other = neighbours(genes, changed, priors, seed)
    assert other.fusion == few.fusion
    assert not np.allclose(other.predict("G33").delta, few.predict("G33").delta)
    mean = np.zeros(50)
    np.testing.assert_array_equal(all_of(few, mean), all_of(neighbours(genes, delta, priors, seed), mean))
    assert neighbours(genes, delta, priors, 4).fusion != few.fusion


def test_fewer_than_ten_covered_genes_are_no_lesson():
    """Of eleven, leaving out a fold of two or three leaves too few: the mean of the others is the answer."""
    rng = np.random.default_rng(0)
    delta, mean = rng.normal(size=(22, 50)) + rng.normal(size=50), rng.normal(size=50)
    genes = tuple(sorted(GENES[:11] * 2))
    for n_known, learned in ((11, True), (10, True), (9, False)):
        table = pd.DataFrame(rng.normal(size=(n_known + 4, 3)), index=[*GENES[:n_known], *GENES[-4:]])
        one = neighbours(genes, delta, table)
        assert (one.fusion != no_fusion()) == learned, "genes count, not singles"
        left_out = one.predict_without("G00", mean)
        np.testing.assert_array_equal(left_out.delta, mean)
        assert not left_out.has_neighbours
        if not learned:
            np.testing.assert_array_equal(one.predict("G34").delta, delta.mean(axis=0))


def test_a_gene_that_is_like_no_training_gene_gets_the_fitted_mean(make_training, fit):
    """Known by a prior that knows no training gene."""
    rng = np.random.default_rng(0)
    known = GENES[:20]
    common = rng.normal(size=40)
    training = make_training({gene: 0.7 * common + rng.normal(size=40) for gene in known})
    priors = {
        "table": pd.DataFrame(rng.normal(size=(24, 4)), index=GENES[:24]),
        "elsewhere": pd.DataFrame({"source": GENES[24:34], "target": GENES[25:35]}),
    }
    model = fit(baselines.NearestPrior, training, priors=priors)
    pred = model.predict(["G30", "G22"])
    fitted = fit(baselines.MeanFitted, training)
    assert 0.2 < fitted.settings["factor"]["all"] < 0.98
    np.testing.assert_allclose(pred.layers["delta"][0], fitted.predict(["G30"]).layers["delta"][0], rtol=1e-12)
    assert pred.obs["anchor"].tolist() == ["mean", "neighbours"] and set(pred.obs["status"]) == {"ok"}
    assert list(model.settings["neighbours"]["all"]["sources"]) == ["table"]


def test_a_context_with_controls_only_learns_from_the_singles_of_all_others(make_training, fit):
    genes, delta, priors = draw(2)
    context = ["ab"[genes[:i].count(gene)] for i, gene in enumerate(genes)]
    changes = {f"{gene}|{where}": row[:40] for gene, where, row in zip(genes, context, delta, strict=True)}
    model = fit(baselines.NearestPrior, make_training(changes, contexts=("a", "b", "c")), priors=priors)
    slow = Slow(genes, delta[:, :40], priors)
    for gene in ("G31", "G32", genes[0]):
        got = model.predict([f"{gene}|c"]).layers["delta"][0]
        np.testing.assert_allclose(got, slow.new(gene)[0], rtol=1e-6, atol=1e-8)


def every_kind(rng):
    kind = rng.integers(4, size=len(GENES))
    given = draw_priors(rng, kind)
    table = given["table"]
    with_gaps = table.astype(np.float32)
    with_gaps.iloc[3, 1] = np.nan
    counts = pd.DataFrame(rng.integers(9, size=(36, 3)), index=GENES).astype("Int64")
    counts.iloc[7, 2] = pd.NA
    names = {f"S{i}": rng.choice(GENES, 9, replace=False).tolist() for i in range(6)}
    nested = pd.DataFrame({"parent": ["S0", "S0", "S1"], "child": ["S1", "S2", "S3"]})
    edges = pd.DataFrame({"source": GENES[:-1], "target": GENES[1:], "weight": rng.uniform(0.1, 1, 35)})
    directed = GeneGraph.from_table(edges.assign(weight=-edges["weight"]), name="tf", directed=True, signed=True)
    return {
        "go/bp": given["sets"],
        "net": given["net"],
        "regulons": directed,
        "edges": edges,
        "pathways": reactome(None, names, nested),
        "esm": gene_embedding(table.rename(columns=str), name="esm"),
        "table": with_gaps,
        "counts": counts,
    }


def test_priors_of_every_kind_are_saved_to_the_last_bit(make_training, fit, tmp_path):
    rng = np.random.default_rng(0)
    priors = every_kind(rng)
    training = make_training({gene: rng.normal(size=40) for gene in GENES[:30]}, se2=0.1)
    asked = [*GENES[28:], "G00+G33", "TP53"]
    for baseline in (baselines.NearestPrior, baselines.AdditiveShrunk):
        model = fit(baseline, training, priors=priors, seed=2)
        model.save(tmp_path / baseline.name)
        loaded = baselines.Baseline.load(tmp_path / baseline.name)
        assert loaded.settings == model.settings
        np.testing.assert_array_equal(loaded.predict(asked).layers["delta"], model.predict(asked).layers["delta"])
        assert loaded.predict(asked).obs["anchor"].tolist() == model.predict(asked).obs["anchor"].tolist()
    assert list(model.settings["neighbours"]["all"]["sources"]) == list(priors)


def test_what_was_learned_is_said_in_plain_values(make_training, fit):
    genes, delta, priors = draw(3)
    changes = {gene: row[:40] for gene, row in zip(genes, delta, strict=True)}
    pairs = {"G00+G01": 5.0, "G02+G03": np.arange(40.0)}  # what is learned is learned from singles
    model = fit(baselines.NearestPrior, make_training(changes | pairs), priors=priors)
    said = model.settings["neighbours"]["all"]
    assert json.loads(json.dumps(said)) == said
    rows = np.array([changes[gene] for gene in sorted(changes)])
    slow = Slow(sorted(changes), rows, priors)
    fusion = slow.fusion(np.arange(len(rows)))
    assert (said["base"], said["base_weight"]) == pytest.approx((fusion.base, fusion.base_weight))
    for fit_of in fusion.sources:
        mine = said["sources"][fit_of.source]
        assert (mine["view"], mine["power"], mine["pseudo_count"]) == (fit_of.view, fit_of.power, fit_of.pseudo_count)
        assert (mine["weight"], mine["error"]) == pytest.approx((fit_of.weight, fit_of.error), rel=1e-6, abs=1e-9)
