"""The next experiments: the linear model against a slow one, greedy choice, constraints, words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

import scperturb_modules as spm
from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.tl.design._pick import Centres, Constraints, Fixed, Information, pick
from scperturb_modules.tl.design._rank_next import OBJECTIVES, rank_next
from scperturb_modules.tl.design._regression import COMMON, OWN, ChangeRegression, singles_and_pairs

COLUMNS = ["rank", "condition", "score", "reason", "effect", "interaction", "uncertainty", "nearest", "batch"]


@pytest.fixture(scope="module")
def screen():
    return spm.datasets.simulate(seed=100, n_genes=120, n_perturbable=16, n_pairs=60, n_cells=30, n_controls=200)


@pytest.fixture(scope="module")
def measured(screen):
    return spm.pp.pseudobulk(screen, cells="training")


@pytest.fixture(scope="module")
def held_out(measured):
    """Half of the pairs."""
    return [name for name in measured.obs_names if "+" in name][::2]


@pytest.fixture(scope="module")
def model(measured, held_out):
    return trained(measured[~measured.obs_names.isin(held_out)].copy())


def trained(training, baseline=spm.baselines.Additive, **arguments):
    made = baseline(training, **arguments)
    made.train()
    return made


def regression_of(training, candidates, priors=None):
    tested = singles_and_pairs(training)
    units = [(gene, None) for name in candidates for gene in name.split("+")]
    return ChangeRegression(tested, units, priors)


def positions(regression, names):
    return regression.positions([(name.split("+"), (name, None)) for name in names])


def design_matrix(regression, names):
    """Features of conditions written out, and the prior variance of every coefficient is 1."""
    units = [unit for unit, _ in regression._units]
    genes = regression._features[:-1]
    own = np.eye(len(units))
    x = np.hstack([np.sqrt(1 - OWN) * genes, np.sqrt(OWN) * own])
    z = np.hstack([x, np.full((len(x), 1), np.sqrt(COMMON))]) / np.sqrt(1 + COMMON)
    rows = []
    for name in names:
        at = [units.index(gene) for gene in name.split("+")]
        linear = sum(regression._size[i] * x[i] for i in at)
        product = np.zeros(z.shape[1] ** 2)
        if len(at) == 2:
            a, b = z[at]
            product = (np.outer(a, b) + np.outer(b, a)).ravel()
            size = regression._size[at].sum()
            product = np.sqrt(regression._scale) * size * product / np.linalg.norm(product)
        rows.append(np.concatenate([linear, product]))
    return np.array(rows), x.shape[1]


def posterior(regression, names):
    """Coefficients by the textbook: weights of a Gaussian prior, noise per condition."""
    tested = [condition for condition, _ in regression.data.rows]
    features, n_linear = design_matrix(regression, tested)
    weight = 1 / (regression.data.se2.sum(axis=1) + 1e-9 * regression.new_noise)
    # the features outnumber the conditions: use the form in conditions
    gram = features @ features.T + np.diag(1 / weight)
    inverse = np.linalg.inv(gram)
    asked, _ = design_matrix(regression, names)
    mean = features.T @ inverse @ regression.data.delta
    covariance = np.eye(features.shape[1]) - features.T @ inverse @ features
    return asked, mean, covariance, n_linear


def test_the_linear_model_equals_features_written_out(measured, held_out):
    training = measured[~measured.obs_names.isin(held_out)].copy()
    regression = regression_of(training, held_out)
    asked, mean, covariance, n_linear = posterior(regression, held_out)
    at = positions(regression, held_out)
    whole = regression.changes(at)
    np.testing.assert_allclose(whole.mean, asked @ mean, atol=1e-8)
    np.testing.assert_allclose(whole.variance, np.einsum("nf,fg,ng->n", asked, covariance, asked), atol=1e-6)
    pairs_only = asked.copy()
    pairs_only[:, :n_linear] = 0
    interaction = regression.interactions(at)
    np.testing.assert_allclose(interaction.mean, pairs_only @ mean, atol=1e-8)
    expected = np.einsum("nf,fg,ng->n", pairs_only, covariance, pairs_only)
    np.testing.assert_allclose(interaction.variance, expected, atol=1e-6)


def test_the_scale_of_interactions_is_their_mean_excess_over_noise(measured):
    regression = regression_of(measured, [])
    data = regression.data
    total, sizes = 0.0, 0.0
    for name, row in ((name, i) for i, (name, _) in enumerate(data.rows) if "+" in name):
        a, b = (data.index[gene, None] for gene in name.split("+"))
        total += np.sum((data.delta[row] - data.delta[a] - data.delta[b]) ** 2)
        total -= np.sum(data.se2[row] + data.se2[a] + data.se2[b])
        sizes += sum(regression._size[regression._position[gene, None]] for gene in name.split("+")) ** 2
    assert regression.n_pairs == 60
    assert regression._scale == pytest.approx(total / sizes)


def test_information_is_greedy_and_takes_out_what_was_chosen(measured, held_out, model):
    table = rank_next(model, held_out, objective="information", budget=6)
    regression = regression_of(model.training, held_out)
    asked, _, covariance, _ = posterior(regression, held_out)
    chosen = []
    for _ in range(6):
        variance = np.einsum("nf,fg,ng->n", asked, covariance, asked)
        score = 0.5 * np.log1p(variance / regression.new_noise)
        score[chosen] = -1
        best = int(np.argmax(score))
        assert table["condition"][len(chosen)] == held_out[best]
        assert table["score"][len(chosen)] == pytest.approx(score[best], rel=1e-5)
        chosen.append(best)
        told = covariance @ asked[best]
        covariance = covariance - np.outer(told, told) / (variance[best] + regression.new_noise)


def test_the_sum_of_information_is_that_of_the_whole_choice():
    """Scores of a greedy choice add up to ``.5 logdet(I + C / s2)``."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(7, 4))
    covariance = root @ root.T
    worth = Information(np.diag(covariance), lambda at: covariance[:, at], 0.3)
    chosen, scores = pick(worth, [("x",)] * 7, Constraints(), budget=None, cost=None)
    assert sorted(chosen) == list(range(7))
    assert sum(scores) == pytest.approx(0.5 * np.linalg.slogdet(np.eye(7) + covariance / 0.3)[1])


def test_near_duplicates_are_not_both_chosen_first():
    covariance = np.array([[2.0, 1.99, 0.0], [1.99, 2.0, 0.0], [0.0, 0.0, 0.5]])
    worth = Information(np.diag(covariance), lambda at: covariance[:, at], 0.01)
    assert pick(worth, [("a",), ("b",), ("c",)], Constraints(), budget=2, cost=None)[0] == [0, 2]


def test_a_tested_pair_tells_less_than_a_novel_one(measured, model, held_out):
    tested = [name for name in model.training.obs_names if "+" in name]
    pair = tested[0]
    novel = trained(model.training[model.training.obs_names != pair].copy())
    after, before = (rank_next(one, [*held_out, pair]).set_index("condition") for one in (model, novel))
    assert after.loc[pair, "score"] < 0.7 * before.loc[pair, "score"]
    assert rank_next(model, [*held_out, *tested])["condition"][0] in held_out
    assert after.loc[pair, "reason"].endswith("measured already")
    assert after.loc[pair, "nearest"].startswith(f"{pair} (1.00)")
    assert "measured already" not in before.loc[pair, "reason"]


def test_centres_cover_what_is_far_from_all():
    points = np.array([[0.1, 0], [5.0, 0], [5.1, 0], [0, 3.0]])
    chosen, scores = pick(Centres(points, np.zeros((1, 2))), [("x",)] * 4, Constraints(), budget=3, cost=None)
    assert chosen == [2, 3, 0] or chosen == [2, 3, 1]
    np.testing.assert_allclose(scores[:2], [5.1, 3.0])


def test_learned_interactions_agree_with_the_truth(screen, model, held_out):
    change = spm.datasets.simulated_truth(screen)
    true = [np.linalg.norm(change.loc[n] - change.loc[n.split("+")].sum()) for n in held_out]
    table = rank_next(model, held_out, objective="interaction").set_index("condition")
    assert spearmanr(table.loc[held_out, "score"], true)[0] > 0.45
    assert table["reason"].str.endswith("learned from 30 tested pairs").all()
    assert (table["score"] >= table["interaction"]).all()


class Gated:
    """Sums of the measured singles, and for one pair something more."""

    def __init__(self, base, pair, gate):
        self.training, self.base, self.pair, self.gate = base.training, base, pair, gate

    def train(self):
        pass

    def predict(self, conditions=None):
        prediction = self.base.predict(conditions)
        at = [name == self.pair for name in prediction.obs_names]
        prediction.layers[keys.DELTA][at] += 3.0
        prediction.obs[keys.GATE] = self.gate
        return prediction


def test_a_model_with_an_open_gate_is_believed(model, held_out):
    pair = held_out[7]
    n_genes = model.training.n_vars
    table = rank_next(Gated(model, pair, 0.5), held_out, objective="interaction")
    assert table["condition"][0] == pair
    assert table["interaction"][0] == pytest.approx(3 * np.sqrt(n_genes))
    assert table["interaction"][1:].max() < 1e-6
    assert table["reason"][0].startswith("largest expected interaction")
    assert table["reason"].str.endswith("predicted by the model").all()


def test_a_closed_gate_is_not(model, held_out):
    closed = rank_next(Gated(model, held_out[7], 0.0), held_out, objective="interaction")
    plain = rank_next(model, held_out, objective="interaction")
    assert closed["condition"].tolist() == plain["condition"].tolist()
    np.testing.assert_allclose(closed["interaction"], plain["interaction"])


def test_the_spread_of_an_ensemble_is_taken_off_interactions_and_tells_what_is_uncertain(model, held_out):
    class Ensemble(Gated):
        def predict(self, conditions=None):
            prediction = super().predict(conditions)
            prediction.layers[keys.SD] = np.full(prediction.shape, 2.0)
            return prediction

    n_genes = model.training.n_vars
    table = rank_next(Ensemble(model, held_out[7], 1.0), held_out, objective="interaction")
    assert table["interaction"][0] == pytest.approx(np.sqrt((9 - 4) * n_genes))
    np.testing.assert_allclose(table["uncertainty"], 2 * np.sqrt(n_genes))
    uncertain = rank_next(Ensemble(model, held_out[7], 1.0), held_out, objective="uncertainty")
    se2 = np.median(singles_and_pairs(model.training).se2, axis=0)
    np.testing.assert_allclose(uncertain["score"], np.sum(4 / (4 + se2)))


def test_effect_is_the_size_of_the_prediction(model, held_out):
    table = rank_next(model, held_out, objective="effect")
    size = np.linalg.norm(model.predict(table["condition"].tolist()).layers[keys.DELTA], axis=1)
    np.testing.assert_allclose(table["effect"], size)
    np.testing.assert_allclose(table["score"], np.sort(size)[::-1])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_table_whatever_the_order_of_candidates(model, held_out, objective, tmp_path):
    table = rank_next(model, held_out, objective=objective, budget=7, batch_size=3)
    assert table.columns.tolist() == COLUMNS
    assert table["rank"].tolist() == list(range(1, 8))
    assert table["batch"].tolist() == [1, 1, 1, 2, 2, 2, 3]
    swapped = ["+".join(reversed(name.split("+"))) for name in reversed(held_out)]
    pd.testing.assert_frame_equal(table, rank_next(model, swapped, objective=objective, budget=7, batch_size=3))
    table.to_csv(tmp_path / "plan.csv", index=False)
    pd.testing.assert_frame_equal(table, pd.read_csv(tmp_path / "plan.csv"), check_dtype=False)


def test_random_choice_has_a_seed(model, held_out):
    one, same, other = (rank_next(model, held_out, objective="random", seed=seed)["condition"] for seed in (1, 1, 2))
    assert one.tolist() == same.tolist() != other.tolist()


def test_without_candidates_all_untested_pairs_of_tested_singles(model):
    table = rank_next(model, objective="effect")
    singles = [name for name in model.training.obs_names if "+" not in name]
    assert len(table) == 16 * 15 // 2 - 30
    assert {gene for name in table["condition"] for gene in name.split("+")} == set(singles)


def test_priors_add_new_singles(screen, model):
    prior = spm.datasets.simulated_prior(screen)
    table = rank_next(model, priors=prior).set_index("condition")
    assert len(table) == 16 * 15 // 2 - 30 + 120 - 16
    singles = table[~table.index.str.contains("+", regex=False)]
    assert singles["interaction"].isna().all() and table.drop(singles.index)["interaction"].notna().all()
    assert singles["reason"].str.contains("single|like|related").all()
    assert "+" not in singles["nearest"].iloc[0]


def test_a_prior_tells_which_genes_are_alike(screen, model):
    """Two new genes with the same features: what one tells, the other need not."""
    prior = spm.datasets.simulated_prior(screen)
    new = [gene for gene in prior.index if gene not in model.training.obs_names][:6]
    prior.loc[new[1]] = prior.loc[new[0]]
    regression = regression_of(model.training, new, prior)
    at = positions(regression, new)
    assert regression.likeness(at, at)[0, 1] == pytest.approx(1 - OWN)
    assert regression.likeness(at, at)[0, 0] == pytest.approx(1)


def test_each_context_for_itself():
    screen = spm.datasets.simulate(
        "two_cell_types", seed=0, n_genes=60, n_perturbable=6, n_pairs=6, n_cells=20, n_controls=60
    )
    training = spm.pp.pseudobulk(screen, cells="training", cell_type_key="cell_type")
    table = rank_next(trained(training), objective="interaction")
    assert len(table) == 2 * (15 - 6)
    assert table["condition"].str.endswith(("|type1", "|type2")).all()
    assert (rank_next(trained(training), ["G01+G02|type1"])["condition"] == ["G01+G02|type1"]).all()


def test_constraints(model, held_out):
    genes = sorted({gene for name in held_out for gene in name.split("+")})
    few = rank_next(model, held_out, constraints={"max_per_gene": 1})
    used = [gene for name in few["condition"] for gene in name.split("+")]
    assert len(used) == len(set(used)) and len(few) > 3
    with_gene = rank_next(model, held_out, constraints={"include": [genes[0]]})
    assert sorted(with_gene["condition"]) == [name for name in held_out if genes[0] in name.split("+")]
    without = rank_next(model, held_out, constraints={"exclude": [genes[0], held_out[-1]]})
    wanted = [name for name in held_out[:-1] if genes[0] not in name.split("+")]
    assert sorted(without["condition"]) == sorted(wanted)


def test_costs_are_a_total_and_what_does_not_fit_is_passed_over():
    genes = [("a",), ("b",), ("c",), ("d",)]
    worth = Fixed(np.array([4.0, 3.0, 2.0, 1.0]))
    cost = np.array([5.0, 6.0, 4.0, 1.0])
    assert pick(worth, genes, Constraints(max_cost=10), budget=None, cost=cost)[0] == [0, 2, 3]


def test_a_table_of_candidates_with_costs(model, held_out):
    given = pd.DataFrame({"condition": held_out, "cost": np.arange(1.0, len(held_out) + 1)})
    table = rank_next(model, given, objective="effect", constraints={"max_cost": 12})
    assert table["cost"].sum() <= 12
    assert (table.set_index("condition")["cost"] == given.set_index("condition")["cost"][table["condition"]]).all()


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ({"most": 3}, "constraints has no 'most'; use include, exclude, max_per_gene, max_cost"),
        ({"include": "G001"}, r"is one text; give a list: \['G001'\]"),
        ({"max_per_gene": 0}, "allows nothing"),
        ({"max_cost": 3.0}, "needs costs: pass candidates as a table"),
        ({"include": ["nobody"]}, "1 of constraints\\['include'\\] are in no candidate: 'nobody'"),
        ({"exclude": ["nobody"]}, "1 of constraints\\['exclude'\\] are in no candidate: 'nobody'"),
    ],
)
def test_impossible_constraints(model, held_out, constraints, message):
    with pytest.raises(DataError, match=message):
        rank_next(model, held_out, constraints=constraints)


def test_constraints_that_leave_nothing(model, held_out):
    gene = held_out[0].split("+")[0]
    with pytest.raises(DataError, match="leave none of 30 candidates"):
        rank_next(model, held_out, constraints={"include": [gene], "exclude": [gene]})
    costs = pd.DataFrame({"condition": held_out, "cost": 5.0})
    with pytest.raises(DataError, match="the cheapest candidate costs 5"):
        rank_next(model, costs, constraints={"max_cost": 3})


@pytest.mark.parametrize(
    ("candidates", "options", "message"),
    [
        (["G001+G002+G003"], {}, "three genes or more: 'G001\\+G002\\+G003'"),
        (["A+B", "B+A"], {}, "1 candidates are named twice: 'A\\+B'"),
        ("A+B", {}, "is one text"),
        ([], {}, "There is no candidate"),
        (["A+B"], {"budget": 0}, "budget=0"),
        (["A"], {"objective": "interaction"}, "1 of 1 candidates are single genes"),
        (pd.DataFrame({"condition": ["A+B"], "cost": [0.0]}), {}, "1 costs are not positive"),
    ],
)
def test_bad_candidates(model, candidates, options, message):
    with pytest.raises(DataError, match=message):
        rank_next(model, candidates, **options)


def test_other_errors(model, held_out):
    with pytest.raises(ValueError, match="objective='gain' is unknown"):
        rank_next(model, held_out, objective="gain")
    with pytest.raises(MissingKeyError, match="candidates\\['condition'\\]"):
        rank_next(model, pd.DataFrame({"pair": held_out}))
    with pytest.raises(DataError, match="has no attribute 'training'"):
        rank_next(object(), held_out)


def test_without_a_tested_pair_effect_sizes_are_left(measured):
    singles = measured[~measured.obs_names.str.contains("+", regex=False)].copy()
    table = rank_next(trained(singles), objective="interaction")
    assert table["reason"].str.endswith("from effect sizes, as no pair was tested").all()
    assert table["reason"].str.contains("no pair was tested yet").all()
    assert (table["interaction"] < 1e-9).all() and (table["score"] > 0).all()
