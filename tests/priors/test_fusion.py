"""What is learned of priors against plain loops over training singles, and against what was planted."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest

from scperturb_modules.priors import _fusion
from scperturb_modules.priors._fusion import Fusion, SourceFit, learn, learnt_from, mean_factor, no_fusion, soft_best

SEEDS = pytest.mark.parametrize("seed", range(6))


# --- the reference: predictions of each single from the others, gene by gene


class Slow:
    """One source after the other, one single after the other, one number after the other."""

    def __init__(self, effects, genes):
        self.effects, self.genes = effects, genes
        self.others = [[q for q, other in enumerate(genes) if other != gene] for gene in genes]
        size = [math.sqrt(sum(x * x for x in effect)) for effect in effects]
        least = 0.25 * float(np.median(size)) or 1.0
        self.size = [max(one, least) for one in size]
        self.mean = [
            np.mean([effects[q] for q in others], axis=0) if others else np.zeros(effects.shape[1])
            for others in self.others
        ]
        gain = sum(m @ d / s for m, d, s in zip(self.mean, effects, self.size, strict=True))
        cost = sum(m @ m / s for m, s in zip(self.mean, self.size, strict=True))
        self.base = min(max(gain / cost, 0.0), 1.0) if cost > 0 else 0.0

    def error(self, p, prediction):
        return sum((a - b) ** 2 for a, b in zip(self.effects[p], prediction, strict=True)) / self.size[p]

    def errors(self, similarity, power, count, scale):
        found = []
        for p, others in enumerate(self.others):
            top, bottom = count * self.base * self.mean[p], count
            for q in others:
                evidence = (similarity[p, q] / scale) ** power
                top, bottom = top + evidence * self.effects[q], bottom + evidence
            found.append(self.error(p, top / bottom))
        return found

    def fit(self, views):
        best = None
        for view, similarity in views.items():
            largest = [max((similarity[p, q] for q in others), default=0.0) for p, others in enumerate(self.others)]
            positive = [value for value in largest if value > 0]
            if not positive:
                continue
            scale = float(np.median(positive))
            for power in (1, 2, 4):
                for count in (0.1, 0.3, 1.0, 3.0, 10.0):
                    errors = self.errors(similarity, power, count, scale)
                    if best is None or sum(errors) < sum(best[1]):
                        best = {"view": view, "power": power, "pseudo_count": count, "scale": scale}, errors
        return best

    def learn(self, similar):
        base = [self.error(p, self.base * mean) for p, mean in enumerate(self.mean)]
        found = {name: self.fit(views) for name, views in similar.items()}
        found = {name: fit for name, fit in found.items() if fit is not None}
        weights = slow_weights([base, *(errors for _, errors in found.values())])
        sources = tuple(
            SourceFit(source=name, **fit, weight=weight, error=sum(errors) / sum(base))
            for (name, (fit, errors)), weight in zip(found.items(), weights[1:], strict=True)
        )
        return Fusion(self.base, weights[0], sources)


def slow_weights(errors):
    n = len(errors[0])
    best = min(errors, key=sum)
    weights = []
    for one in errors:
        excess = [a - b for a, b in zip(one, best, strict=True)]
        mean = sum(excess) / n
        spread = math.sqrt(sum((x - mean) ** 2 for x in excess) / (n - 1))
        weights.append(math.exp(-mean / (spread / math.sqrt(n))) if mean > 0 else 1.0)
    return [weight / sum(weights) for weight in weights]


# --- random singles


def cosine(places):
    directions = places / np.linalg.norm(places, axis=1, keepdims=True)
    return np.maximum(directions @ directions.T, 0.0)


def draw(seed, *, n=22, repeats=True):
    """Singles of a few kinds, in two cell types for some genes, and sources: true, half known, of nothing, noisy."""
    rng = np.random.default_rng(seed)
    n_genes = n - 5 if repeats else n
    gene = np.concatenate([np.arange(n_genes), rng.choice(n_genes, n - n_genes, replace=False)])
    kind = rng.integers(4, size=n_genes)
    effects = rng.normal(size=(4, 30))[kind[gene]] + rng.uniform(0.3, 2) * rng.normal(size=(n, 30))
    effects = (effects + 0.4 * rng.normal(size=30)) * rng.uniform(0.2, 3, size=(n, 1))
    place = rng.normal(size=(4, 6))[kind]
    good, noisy, nothing = (
        cosine(one)[np.ix_(gene, gene)]
        for one in (
            place + 0.3 * rng.normal(size=place.shape),
            place + rng.normal(size=place.shape),
            rng.normal(size=place.shape),
        )
    )
    known = (rng.random(n_genes) < 0.6)[gene]
    half = np.where(np.outer(known, known), good, 0.0)
    similar = {
        "true": {"walk": half, "spectral": noisy},
        "half": {"features": half},
        "decoy": {"sets": nothing},
        "empty": {"features": np.eye(n)},
    }
    return similar, effects, [f"G{i:02d}" for i in gene]


def fitted(similar, effects, genes):
    return learn(similar, effects @ effects.T, genes)


def assert_same(got, expected, rtol=1e-6):
    assert [one.source for one in got.sources] == [one.source for one in expected.sources]
    for one, other in zip(got.sources, expected.sources, strict=True):
        mine, theirs = asdict(one), asdict(other)
        assert [mine.pop(key) for key in ("view", "power")] == [theirs.pop(key) for key in ("view", "power")]
        mine.pop("source"), theirs.pop("source")
        assert mine == pytest.approx(theirs, rel=rtol, abs=1e-9)
    assert (got.base, got.base_weight) == pytest.approx((expected.base, expected.base_weight), rel=rtol, abs=1e-9)


def moved(similar, order):
    part = np.ix_(order, order)
    return {name: {view: values[part] for view, values in views.items()} for name, views in similar.items()}


# --- tests


@SEEDS
@pytest.mark.parametrize("repeats", [True, False])
def test_learning_is_the_loop_over_singles_views_powers_and_counts(seed, repeats):
    similar, effects, genes = draw(seed, repeats=repeats)
    assert_same(fitted(similar, effects, genes), Slow(effects, genes).learn(similar))


@SEEDS
def test_the_factor_of_the_mean_is_that_of_least_squares(seed):
    _, effects, genes = draw(seed)
    slow = Slow(effects, genes)
    factor = mean_factor(effects @ effects.T, genes)
    assert 0 < factor < 1 and factor == pytest.approx(slow.base, rel=1e-12)

    def error(one):
        return sum(slow.error(p, one * mean) for p, mean in enumerate(slow.mean))

    assert error(factor) < min(error(factor - 1e-3), error(factor + 1e-3))


def test_the_factor_is_from_0_to_1():
    effects = np.tile(np.linspace(-1, 2, 12), (8, 1))
    assert mean_factor(effects @ effects.T, list("ABCDEFGH")) == pytest.approx(1.0)
    # the many singles of one gene are three times the only other one
    many = effects[:1] * np.append(np.full(70, 3.0), 1.0)[:, None]
    assert mean_factor(many @ many.T, ["A"] * 70 + ["B"]) == 1.0
    opposite = effects * np.where(np.arange(8) % 2, 1, -1)[:, None]
    assert mean_factor(opposite @ opposite.T, list("ABCDEFGH")) == 0.0
    assert mean_factor(np.zeros((8, 8)), list("ABCDEFGH")) == 0.0
    assert mean_factor(effects @ effects.T, ["A"] * 8) == 0.0, "no gene has another"


@SEEDS
def test_the_prediction_is_the_weighted_mean_over_the_sources_that_know_the_gene(seed):
    similar, effects, genes = draw(seed)
    fusion = fitted(similar, effects, genes)
    rng = np.random.default_rng(seed)
    n, asked = len(genes), 12
    shares = {one.source: {one.view: rng.random((asked, n)) * (rng.random((asked, n)) < 0.4)} for one in fusion.sources}
    shares["true"][fusion.sources[0].view][::2] = 0.0
    shares["half"]["features"][::3] = 0.0
    shares["decoy"]["sets"][:3] = 0.0
    on_effects, on_mean = fusion.row_weights(shares, n_singles=n)
    mean = effects.mean(axis=0)
    for g in range(asked):
        parts, weights = [], []
        for one in fusion.sources:
            evidence = (shares[one.source][one.view][g] / one.scale) ** one.power
            if evidence.sum() > 0:
                base = one.pseudo_count * fusion.base * mean
                parts.append((evidence @ effects + base) / (evidence.sum() + one.pseudo_count))
                weights.append(one.weight)
        expected = fusion.base * mean
        if parts:
            told = fusion.base_weight * expected + sum(w * part for w, part in zip(weights, parts, strict=True))
            expected = told / (fusion.base_weight + sum(weights))
        np.testing.assert_allclose(on_effects[g] @ effects + on_mean[g] * mean, expected, rtol=1e-9, atol=1e-12)
    assert not on_effects[0].any() and on_mean[0] == fusion.base, "every source abstains"


def test_weights_are_of_sum_one_and_the_best_weighs_most():
    rng = np.random.default_rng(0)
    errors = rng.uniform(1, 2, size=(4, 50)) + np.array([0.0, 0.1, 0.3, 5.0])[:, None]
    weights = soft_best(errors)
    assert weights.sum() == pytest.approx(1.0) and (np.diff(weights) < 0).all()
    np.testing.assert_allclose(weights, slow_weights(errors.tolist()), rtol=1e-12)
    # always worse by the same: no doubt
    np.testing.assert_array_equal(soft_best(np.array([[2.0, 3.0, 4.0], [1.0, 2.0, 3.0]])), [0.0, 1.0])
    # one standard error worse
    excess = np.array([-1.0, 1.0, -1.0, 1.0])
    excess += excess.std(ddof=1) / 2
    two = soft_best(np.array([excess + 5, np.full(4, 5.0)]))
    assert two[0] / two[1] == pytest.approx(math.exp(-1))


def planted(seed, n=40):
    """Kinds of genes with a response each; places that know the kind, and others that do not."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % 5
    effects = rng.normal(size=(5, 60))[kind] + 0.8 * rng.normal(size=(n, 60)) + 0.5 * rng.normal(size=60)
    true = rng.normal(size=(5, 6))[kind] + 0.3 * rng.normal(size=(n, 6))
    decoys = [true[rng.permutation(n)] for _ in range(3)]
    return effects, true, decoys, [f"G{i:02d}" for i in range(n)]


def test_a_decoy_weighs_less_than_a_source_that_knows():
    for seed in range(20):
        effects, true, decoys, genes = planted(seed)
        fusion = fitted({"decoy": {"features": cosine(decoys[0])}, "true": {"features": cosine(true)}}, effects, genes)
        decoy, good = fusion.sources
        assert good.weight > 0.9 and decoy.weight < 0.05 and fusion.base_weight < 0.1
        assert good.error < 0.8 < decoy.error


def test_decoys_alone_cost_little():
    """Predictions of new genes are as near as those of the mean times its factor."""
    ratio = []
    for seed in range(20):
        effects, _, decoys, genes = planted(seed, n=80)
        similar = {f"decoy{i}": {"features": cosine(one)} for i, one in enumerate(decoys)}
        seen, new = slice(None, 40), slice(40, None)
        fusion = fitted(
            {name: {"features": one["features"][seen, seen]} for name, one in similar.items()},
            effects[seen],
            genes[seen],
        )
        asked = {name: {"features": one["features"][new, seen]} for name, one in similar.items()}
        on_effects, on_mean = fusion.row_weights(asked, n_singles=40)
        mean = effects[seen].mean(axis=0)
        predicted, base = on_effects @ effects[seen] + np.outer(on_mean, mean), fusion.base * mean
        error, of_base = (np.linalg.norm(effects[new] - one, axis=1).mean() for one in (predicted, base))
        ratio.append(error / of_base)
    assert np.mean(ratio) < 1.02


@SEEDS
def test_units_of_similarity_and_of_effects_do_not_matter(seed):
    similar, effects, genes = draw(seed)
    plain = fitted(similar, effects, genes)
    wide = similar | {"true": {view: 3 * values for view, values in similar["true"].items()}}
    scaled = fitted(wide, effects, genes)
    first = scaled.sources[0]
    assert first.scale == pytest.approx(3 * plain.sources[0].scale)
    back = SourceFit(**(asdict(first) | {"scale": first.scale / 3}))
    assert_same(Fusion(scaled.base, scaled.base_weight, (back, *scaled.sources[1:])), plain)
    for unit in (3.0, 1e-9, 1e6):
        assert_same(fitted(similar, unit * effects, genes), plain)


@SEEDS
def test_the_order_of_singles_does_not_matter(seed):
    similar, effects, genes = draw(seed)
    order = np.random.default_rng(seed).permutation(len(genes))
    there = fitted(moved(similar, order), effects[order], [genes[i] for i in order])
    assert_same(there, fitted(similar, effects, genes), rtol=1e-7)


@pytest.mark.parametrize("seed", range(12))
def test_what_is_equal_but_for_rounding_is_equal(seed):
    """Cosines of genes with one profile are 1 but for rounding, so that all powers and both copies are as good."""
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.arange(8), 3)
    directions = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    similarity = cosine(directions[kind] * rng.uniform(0.5, 2, size=(24, 1)))
    similarity[similarity < 0.5] = 0.0
    assert len(np.unique(similarity)) > 2, "the test would see no rounding"
    effects = rng.normal(size=(8, 40))[kind] + 0.5 * rng.normal(size=(24, 40))
    genes = [f"G{i:02d}" for i in range(24)]
    similar = {"one": {"features": similarity}, "copy": {"features": 3 * similarity}}
    for order in (np.arange(24), rng.permutation(24)):
        first, second = fitted(moved(similar, order), effects[order], [genes[i] for i in order]).sources
        assert (first.power, first.pseudo_count) == (second.power, second.pseudo_count)
        assert first.power == 1, "the first that was tried"
        assert first.weight == second.weight


def test_the_smallest_and_the_largest_count_are_chosen_where_they_are_best():
    rng = np.random.default_rng(0)
    kind = np.repeat(np.arange(8), 3)
    effects = 3 * rng.normal(size=(8, 30))[kind]
    genes = [f"G{i:02d}" for i in range(24)]
    alike = 1.0 * np.equal.outer(kind, kind)
    for values, count in ((alike, 0.1), (1 - alike, 10.0)):
        assert fitted({"s": {"v": values}}, effects, genes).sources[0].pseudo_count == count


def test_a_source_that_joins_nobody_is_left_out():
    similar, effects, genes = draw(0)
    fusion = fitted(similar, effects, genes)
    assert [one.source for one in fusion.sources] == ["true", "half", "decoy"]
    # only cells of one gene are alike
    same = np.equal.outer(np.array(genes), np.array(genes)).astype(float)
    assert same.sum() > len(genes)
    assert fitted({"same": {"sets": same}}, effects, genes).sources == ()
    assert fitted({"no view": {}}, effects, genes) == Fusion(fusion.base, 1.0, ())
    assert fitted({}, effects, genes) == Fusion(fusion.base, 1.0, ())


def test_nothing_of_a_gene_enters_the_prediction_of_its_other_singles():
    """A gene in two cell types, alike to nobody but itself."""
    _, effects, genes = draw(1)
    similarity = 1.0 * np.equal.outer(np.array(genes), np.array(genes))
    similarity[0, 1] = similarity[1, 0] = 0.5
    (only,) = fitted({"s": {"v": similarity}}, effects, genes).sources
    assert only.scale == 0.5


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("kind", ["random", "zero", "same", "one gene"])
def test_few_singles_and_effects_of_nothing(n, kind):
    """Finite, and no warning, which is an error here."""
    rng = np.random.default_rng(0)
    effects = {"zero": np.zeros((n, 9)), "same": np.ones((n, 9))}.get(kind, rng.normal(size=(n, 9)))
    genes = ["A"] * n if kind == "one gene" else ["A", "B", "C"][:n]
    similar = {"s": {"v": rng.random((n, n))}, "none": {"v": np.zeros((n, n))}}
    fusion = fitted(similar, effects, genes)
    assert len(fusion.sources) == (kind != "one gene")
    numbers = [fusion.base, fusion.base_weight, *(v for one in fusion.sources for v in list(asdict(one).values())[2:])]
    assert np.isfinite(numbers).all()
    assert fusion.base_weight + sum(one.weight for one in fusion.sources) == pytest.approx(1.0)
    on_effects, on_mean = fusion.row_weights(similar, n_singles=n)
    assert np.isfinite(on_effects).all() and np.isfinite(on_mean).all()


@pytest.mark.parametrize("weight", [0.0, 5e-324, 1e-309, 1e-300])
def test_a_source_of_hardly_any_weight_makes_no_nan(weight):
    """The only one that knows a gene, where another was better beyond all doubt."""
    rng = np.random.default_rng(0)
    fits = [SourceFit(name, "v", 1, 0.1, 1.0, w, 0.5) for name, w in (("sure", 1.0 - weight), ("not", weight))]
    fusion = Fusion(0.5, 0.0, tuple(fits))
    on_effects, on_mean = fusion.row_weights(
        {"sure": {"v": np.zeros((3, 8))}, "not": {"v": rng.random((3, 8))}}, n_singles=8
    )
    assert np.isfinite(on_effects).all() and np.isfinite(on_mean).all()
    assert (on_effects >= 0).all() and (on_effects.sum(axis=1) <= 1).all()


def test_sure_sources_are_learned_without_nan():
    """Twins without noise: the weights of all others are the smallest numbers there are, or none."""
    rng = np.random.default_rng(1)
    n = 300
    kind = np.repeat(np.arange(n // 2), 2)
    other = np.abs(rng.normal(size=(n, n)))
    similar = {"twins": {"v": 1.0 * np.equal.outer(kind, kind)}, "other": {"v": other + other.T}}
    for noise in (1e-3, 0.02, 0.03, 0.032, 0.035):
        effects = np.eye(n // 2)[kind] * (1 + noise * rng.normal(size=(n, 1)))
        fusion = fitted(similar, effects, [str(i) for i in range(n)])
        asked = {"twins": {"v": np.zeros((1, n))}, "other": {"v": other[:1]}}
        on_effects, on_mean = fusion.row_weights(asked, n_singles=n)
        assert np.isfinite(on_effects).all() and np.isfinite(on_mean).all()


def test_without_anything_learned_it_is_the_mean_single():
    on_effects, on_mean = no_fusion().row_weights({}, n_singles=7)
    np.testing.assert_array_equal(on_effects, np.zeros((1, 7)))
    np.testing.assert_array_equal(on_mean, [1.0])


def test_of_very_many_singles_some_are_drawn(monkeypatch):
    monkeypatch.setattr(_fusion, "MOST_LEARNT_FROM", 20)
    np.testing.assert_array_equal(learnt_from(20, seed=0), np.arange(20))
    drawn = learnt_from(50, seed=0)
    assert len(set(drawn.tolist())) == 20 and (np.diff(drawn) > 0).all() and drawn.max() < 50
    np.testing.assert_array_equal(drawn, learnt_from(50, seed=0))
    assert drawn.tolist() != learnt_from(50, seed=1).tolist()
