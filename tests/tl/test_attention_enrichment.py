import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, MissingKeyError, ScreenWarning
from scperturb_modules.tl import attention_enrichment

GENES = [f"G{i:02d}" for i in range(40)]
ROWS = ["G00", "G01", "G02+G03", "G04|K562", "G05+OUTSIDE"]


def random_attention(seed, *, rows=ROWS, genes=GENES, ties=False):
    rng = np.random.default_rng(seed)
    weights = rng.gamma(0.5, size=(len(rows), len(genes)))
    if ties:
        weights = np.ceil(weights * 2)
    return pd.DataFrame(weights / weights.sum(1, keepdims=True), index=rows, columns=genes).astype(np.float32)


def as_prediction(table):
    from anndata import AnnData

    prediction = AnnData(np.zeros((len(table), 2)), obs=pd.DataFrame(index=table.index))
    prediction.obsm[keys.ATTENTION] = table.to_numpy(np.float32, copy=True)
    prediction.uns[keys.ROOT] = {keys.ATTENTION_NODES: table.columns.to_numpy(str)}
    return prediction


def perturbed(row):
    return set(row.split("|")[0].split("+"))


def slow_scores(table, row, members):
    """Mass, fold and AUROC of one condition and set, written out."""
    nodes = [gene for gene in table.columns if gene not in perturbed(row)]
    weights = table.loc[row, nodes].astype(float)
    inside = np.array([gene in members for gene in nodes])
    own = sum(float(table.loc[row, gene]) for gene in perturbed(row) if gene in table)
    mass = weights[inside].sum() / (1 - own)
    return mass, mass / inside.mean(), roc_auc_score(inside, weights)


@pytest.fixture
def tables():
    return random_attention(0), [random_attention(seed) for seed in range(1, 6)]


@pytest.mark.parametrize("ties", [False, True])
def test_every_number_equals_a_slow_plain_form(ties):
    attention = random_attention(0, ties=ties)
    null = [random_attention(seed, ties=ties) for seed in range(1, 6)]
    sets = {"low": GENES[:9], "high": [*GENES[20:33], "NOWHERE"]}
    table = attention_enrichment(attention, null, sets, by="set").set_index(["condition", "set"])
    assert list(table.index[: len(ROWS) * 2]) == [(row, name) for row in ROWS for name in sets]
    for row in ROWS:
        for name, members in sets.items():
            line = table.loc[(row, name)]
            mass, fold, auroc = slow_scores(attention, row, members)
            np.testing.assert_allclose(line[["mass", "fold", "auroc"]].astype(float), [mass, fold, auroc], atol=1e-9)
            others = np.array([slow_scores(one, row, members) for one in null])
            np.testing.assert_allclose(line["null_mass_mean"], others[:, 0].mean())
            np.testing.assert_allclose(line["null_mass_sd"], others[:, 0].std(ddof=1))
            np.testing.assert_allclose(line["z"], (mass - others[:, 0].mean()) / others[:, 0].std(ddof=1))
            np.testing.assert_allclose(line["null_auroc_mean"], others[:, 2].mean())
            assert line["p_value"] == (1 + (others[:, 0] >= mass).sum()) / 6
            assert line["p_auroc"] == (1 + (others[:, 2] >= auroc - 1e-12).sum()) / 6
            assert line["n_genes"] == len(set(members) & set(GENES) - perturbed(row))
            assert line["n_absent"] == (name == "high")
            assert line["status"] == "ok"


def test_the_summary_compares_means_over_conditions_network_by_network(tables):
    attention, null = tables
    members = GENES[10:20]
    table = attention_enrichment(attention, null, {"set": members}, by="set")
    total = table.iloc[-1]
    assert (total["condition"], total["set"], total["n_conditions"]) == ("__all__", "set", len(ROWS))

    def mean_mass(one):
        return np.mean([slow_scores(one, row, members)[0] for row in ROWS])

    masses = np.array([mean_mass(one) for one in null])
    np.testing.assert_allclose(total["mass"], mean_mass(attention))
    np.testing.assert_allclose(total["z"], (mean_mass(attention) - masses.mean()) / masses.std(ddof=1))
    np.testing.assert_allclose(total["auroc"], table["auroc"].iloc[:-1].mean())
    assert total["p_value"] == (1 + (masses >= mean_mass(attention)).sum()) / 6


def test_attention_planted_on_neighbours_is_found_and_its_permuted_copy_is_not():
    rng = np.random.default_rng(0)
    edges = pd.DataFrame(
        [(row, gene) for row in GENES[:8] for gene in rng.choice(GENES[10:], 4, replace=False)],
        columns=["source", "target"],
    )

    def attending(graph, seed):
        weights = np.random.default_rng(seed).uniform(0.5, 1.5, (8, len(GENES)))
        for line, row in zip(weights, GENES[:8], strict=True):
            line[np.isin(GENES, graph.loc[graph["source"] == row, "target"])] *= 5
        return pd.DataFrame(weights / weights.sum(1, keepdims=True), index=GENES[:8], columns=GENES)

    def relabelled(seed):
        targets = np.random.default_rng(seed).permutation(GENES[10:])
        return edges.assign(target=edges["target"].map(dict(zip(GENES[10:], targets, strict=True))))

    null = [attending(relabelled(seed), seed) for seed in range(1, 11)]
    found = attention_enrichment(attending(edges, 0), null, edges).iloc[-1]
    assert found["auroc"] == 1.0
    assert found["z"] > 5 and found["p_value"] == 1 / 11 and found["fold"] > 2
    by_chance = attention_enrichment(attending(relabelled(99), 99), null, edges).iloc[-1]
    assert abs(by_chance["z"]) < 3 and by_chance["p_value"] > 1 / 11


def test_neighbours_are_those_of_all_perturbed_genes_in_either_direction(tables):
    edges = pd.DataFrame(
        {"source": ["G02", "G11", "G02", "G03", "G30"], "target": ["G10", "G03", "G03", "AWAY", "G31"]}
    )
    table = attention_enrichment(*tables, edges).set_index("condition")
    line = table.loc["G02+G03"]
    assert (line["set"], line["n_genes"], line["n_absent"]) == ("neighbours", 2, 1)
    np.testing.assert_allclose(line["mass"], slow_scores(tables[0], "G02+G03", ["G10", "G11"])[0])
    # conditions without a neighbour are kept, and say why they have no number
    assert table.loc["G00", "status"] == "no_genes" and np.isnan(table.loc["G00", "mass"])
    assert table.loc["__all__", "n_conditions"] == 1
    np.testing.assert_allclose(table.loc["__all__", "mass"], line["mass"])


def test_genes_of_a_condition_are_found_with_and_without_its_context(tables):
    table = attention_enrichment(*tables, {"G04": ["G10"], "G01": ["G11", "G12"]}, by="condition")
    table = table.set_index("condition")
    np.testing.assert_allclose(table.loc["G04|K562", "mass"], slow_scores(tables[0], "G04|K562", ["G10"])[0])
    precise = attention_enrichment(*tables, {"G04": ["G10"], "G04|K562": ["G11"]}, by="condition")
    mass = precise.set_index("condition").loc["G04|K562", "mass"]
    np.testing.assert_allclose(mass, slow_scores(tables[0], "G04|K562", ["G11"])[0])
    assert table.loc["__all__", "n_conditions"] == 2


def test_the_perturbed_genes_own_attention_changes_nothing(tables):
    attention, null = tables
    selfish = attention.astype(float)
    selfish.loc["G00"] *= 0.1
    selfish.loc["G00", "G00"] += 0.9
    # the rest keeps its proportions, so the shares outside the perturbed gene stay
    sets = {"set": ["G00", *GENES[10:20]]}
    one, other = (attention_enrichment(table, null, sets, by="set").loc[0] for table in (attention, selfish))
    np.testing.assert_allclose(one["mass"], other["mass"], rtol=1e-5)
    assert one["auroc"] == other["auroc"] and one["n_genes"] == 10


def test_predictions_and_other_orders_of_rows_and_nodes_give_the_same(tables):
    attention, null = tables
    sets = {"set": GENES[10:20]}
    expected = attention_enrichment(attention, null, sets, by="set")
    shuffled = [as_prediction(table.loc[ROWS[::-1], GENES[::-1]]) for table in null]
    found = attention_enrichment(as_prediction(attention), shuffled, sets, by="set")
    pd.testing.assert_frame_equal(found, expected)


def test_a_prediction_with_a_gene_known_nowhere_has_a_row_without_attention(tables):
    attention, null = tables
    sets = {"set": GENES[10:20]}
    predictions = [as_prediction(table) for table in (attention, *null)]
    for one in predictions:
        one.obsm[keys.ATTENTION][ROWS.index("G01")] = np.nan
    table = attention_enrichment(predictions[0], predictions[1:], sets, by="set").set_index("condition")
    assert table.loc["G01", "status"] == "no_attention" and table.loc["__all__", "n_conditions"] == len(ROWS) - 1
    whole = attention_enrichment(attention, null, sets, by="set").set_index("condition")
    np.testing.assert_allclose(
        table.loc["G00", ["mass", "auroc"]].astype(float), whole.loc["G00", ["mass", "auroc"]].astype(float)
    )


def test_few_nulls_give_no_z_and_say_so(tables):
    attention, null = tables
    sets = {"set": GENES[10:20]}
    with pytest.warns(ScreenWarning, match="2 permuted networks give no z; fit models on at least 3"):
        table = attention_enrichment(attention, null[:2], sets, by="set")
    assert table["z"].isna().all() and set(table["status"]) == {"few_null"}
    assert table["null_mass_mean"].notna().all() and table["p_value"].min() >= 1 / 3
    with pytest.warns(ScreenWarning, match="0 permuted networks"):
        table = attention_enrichment(attention, [], sets, by="set")
    assert table["auroc"].notna().all() and table[["z", "p_value", "null_auroc_mean"]].isna().all(axis=None)


def test_edge_statuses(tables):
    attention, null = tables
    all_in_own = attention.astype(float) * 0
    all_in_own["G00"] = 1.0
    sets = {"none": ["NOWHERE"], "own": ["G00"], "all": GENES, "some": GENES[10:20]}
    table = attention_enrichment(all_in_own, null, sets, by="set").set_index(["condition", "set"])
    assert table.loc["G00", "status"].to_dict() == {
        "none": "no_genes",
        "own": "no_genes",
        "all": "all_genes",
        "some": "no_attention",
    }
    assert table.loc["G00", ["mass", "z", "fold", "auroc", "p_value"]].isna().all(axis=None)
    assert table.loc[("__all__", "none"), "status"] == "no_genes"
    total = table.loc[("__all__", "some")]
    assert total["n_conditions"] == 4
    # the null is averaged over the same four conditions, though it could be tested in all
    of_four = [slow_scores(one, row, GENES[10:20])[0] for one in null for row in ROWS[1:]]
    np.testing.assert_allclose(total["null_mass_mean"], np.mean(of_four))
    same = attention_enrichment(attention, [attention] * 3, {"some": GENES[10:20]}, by="set")
    assert set(same["status"]) == {"constant_null"} and same["z"].isna().all() and (same["p_value"] == 1).all()


def test_tables_cut_to_their_top_nodes_are_compared_alike(tables):
    attention, null = tables
    short = attention.where(attention.rank(axis=1) > len(GENES) - 12, 0.0)
    sets = {"set": GENES[10:20]}
    with pytest.raises(DataError, match="n_top=12"):
        attention_enrichment(short, null, sets, by="set")
    found = attention_enrichment(short, null, sets, by="set", n_top=12)
    pd.testing.assert_frame_equal(found, attention_enrichment(attention, null, sets, by="set", n_top=12))
    whole = attention_enrichment(attention, null, sets, by="set")
    assert (found["mass"] < whole["mass"]).all()
    assert np.isclose(found["mass"][0], short.loc["G00", GENES[10:20]].sum() / (1 - short.loc["G00", "G00"]))
    with pytest.raises(ValueError, match="n_top=0 keeps no node"):
        attention_enrichment(attention, null, sets, by="set", n_top=0)


def test_what_the_gene_sets_are_is_never_guessed(tables):
    sets = {"G00": GENES[10:20]}
    with pytest.raises(ValueError, match="by=None does not say what the names in gene_sets are"):
        attention_enrichment(*tables, sets)
    with pytest.raises(ValueError, match="by='neighbours' does not say"):
        attention_enrichment(*tables, sets, by="neighbours")
    with pytest.raises(ValueError, match="goes with by='neighbours', not by='set'"):
        attention_enrichment(*tables, pd.DataFrame({"source": ["G00"], "target": ["G01"]}), by="set")
    with pytest.raises(ValueError, match="a mapping from names to genes"):
        attention_enrichment(*tables, ["G00"], by="set")
    with pytest.raises(ValueError, match="give a list of genes"):
        attention_enrichment(*tables, {"set": "G00"}, by="set")
    with pytest.raises(MissingKeyError, match="none of the 5 conditions.*it has 'WNT'"):
        attention_enrichment(*tables, {"WNT": ["G01"]}, by="condition")
    with pytest.raises(DataError, match="No perturbed gene of 5 conditions"):
        attention_enrichment(*tables, pd.DataFrame({"source": ["ENSG1"], "target": ["ENSG2"]}))
    with pytest.raises(MissingKeyError, match="edge table has 'a', 'b'"):
        attention_enrichment(*tables, pd.DataFrame({"a": ["G00"], "b": ["G01"]}))
    with pytest.raises(DataError, match="empty"):
        attention_enrichment(*tables, {}, by="set")


def test_bad_tables_name_what_is_wrong(tables):
    attention, null = tables
    sets = {"set": GENES[10:20]}

    def enrich(table, other=null):
        return attention_enrichment(table, other, sets, by="set")

    with pytest.raises(DataError, match="null\\[1\\] lacks 1 conditions: 'G00'"):
        enrich(attention, [null[0], null[1].drop(index="G00"), null[2]])
    with pytest.raises(DataError, match="null\\[0\\] has other nodes.*'G39'"):
        enrich(attention, [null[0].drop(columns="G39"), *null[1:]])
    with pytest.raises(DataError, match="the attention holds no attention in 1 rows: 'G01'"):
        enrich(attention.assign(G10=attention["G10"].where(attention.index != "G01", -0.1)))
    with pytest.raises(DataError, match="sum to 1 in each row"):
        enrich(attention * 40)
    with pytest.raises(DataError, match="repeated rows: 'G00'"):
        enrich(pd.concat([attention, attention.iloc[:1]]))
    with pytest.raises(DataError, match="is empty"):
        enrich(attention.iloc[:0])
    with pytest.raises(ValueError, match="null is one table"):
        enrich(attention, null[0])
    blind = as_prediction(attention)
    del blind.obsm[keys.ATTENTION]
    with pytest.raises(MissingKeyError, match="'attention'.* does not exist.*Predict with a model that has attention"):
        enrich(blind)
