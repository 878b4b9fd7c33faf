import socket

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from scipy.stats import false_discovery_control, hypergeom, kstest

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.priors import gene_sets as make_sets
from scperturb_modules.priors import reactome
from scperturb_modules.tl._program_enrichment import program_enrichment

N_GENES = 300
GENES = [f"Gene{i:03d}" for i in range(N_GENES)]  # not in capitals, as those of the mouse
SIZES = {"P1": 140, "P2": 100, "P3": 60}


def with_programs(labels, genes=GENES):
    names = sorted({label for label in labels if label})
    adata = AnnData(np.zeros((2, len(genes)), dtype=np.float32), var=pd.DataFrame(index=genes))
    adata.var[keys.PROGRAM] = labels
    n_genes = [int((np.array(labels) == name).sum()) for name in names]
    programs = pd.DataFrame({"n_genes": n_genes, "top_genes": "", "name": ""}, index=names)
    adata.uns[keys.ROOT] = {keys.SCBIG: {keys.PROGRAMS: programs, "other": np.arange(3)}}
    return adata


@pytest.fixture
def labels():
    return np.random.default_rng(0).permutation(np.repeat(list(SIZES), list(SIZES.values())))


@pytest.fixture
def sets(labels):
    """One set planted in P2, one in P3, and eight without meaning; each with genes that were not measured."""
    rng = np.random.default_rng(1)
    drawn = {f"random {i}": rng.choice(GENES, 20 + 3 * i, replace=False) for i in range(8)}
    of = {name: np.array(GENES)[labels == name] for name in SIZES}
    drawn["planted in P2"] = np.r_[of["P2"][:18], of["P1"][:4]]
    drawn["planted in P3"] = of["P3"][:15]
    return {name: [*members, "Absent1", "Absent2"] for name, members in drawn.items()}


@pytest.fixture
def adata(labels):
    return with_programs(labels)


def stored(adata):
    return adata.uns[keys.ROOT][keys.SCBIG]


def test_every_number_equals_a_slow_plain_form(adata, labels, sets):
    table = program_enrichment(adata, sets)
    expected = {}
    for program in SIZES:
        inside = set(np.array(GENES)[labels == program])
        for name, members in sets.items():
            found = set(members) & set(GENES)
            p = hypergeom.sf(len(found & inside) - 1, N_GENES, len(found), len(inside))
            expected[program, name] = (sorted(found & inside), len(inside), len(found), p)
    q = dict(zip(expected, false_discovery_control([p for *_, p in expected.values()]), strict=True))
    assert len(table) == sum(bool(shared) for shared, *_ in expected.values())
    for line in table.itertuples():
        shared, n_program, n_set, p = expected[line.program, line.set]
        assert line.genes.split(";") == shared
        assert (line.overlap, line.n_program, line.n_set) == (len(shared), n_program, n_set)
        np.testing.assert_allclose([line.pvalue, line.fdr], [p, q[line.program, line.set]], rtol=1e-9)
        a, b, c = line.overlap + 0.5, n_set - line.overlap + 0.5, n_program - line.overlap + 0.5
        np.testing.assert_allclose(line.odds_ratio, a * (N_GENES - n_set - n_program + line.overlap + 0.5) / (b * c))
    assert table.groupby("program", sort=False)["pvalue"].agg(lambda p: p.is_monotonic_increasing).all()
    assert table["program"].drop_duplicates().tolist() == list(SIZES)


def test_sets_without_a_common_gene_count_as_tests(labels):
    sets = {f"in P1 {i}": np.array(GENES)[labels == "P1"][5 * i : 5 * i + 5] for i in range(20)}
    adata = with_programs(labels)
    table = program_enrichment(adata, sets)
    assert len(table) == 20 and table.attrs["n_sets"] == 20
    np.testing.assert_allclose(table["fdr"], table["pvalue"] * 60 / 20)  # of 3 programs x 20 sets
    assert (table["pvalue"] < 0.05).all() and set(stored(adata)[keys.PROGRAMS]["name"]) == {""}


def test_planted_sets_name_their_programs(adata, sets):
    table = program_enrichment(adata, sets)
    assert stored(adata)[keys.PROGRAMS]["name"].tolist() == ["", "planted in P2", "planted in P3"]
    assert (table.attrs["n_named"], table.attrs["n_programs"], table.attrs["n_genes"]) == (2, 3, N_GENES)
    pd.testing.assert_frame_equal(stored(adata)[keys.PROGRAM_ENRICHMENT], table)
    assert stored(adata)["other"].tolist() == [0, 1, 2]
    strict = program_enrichment(adata, sets, fdr=table["fdr"].min() * 1.01)
    assert strict.attrs["n_named"] == 1 and (stored(adata)[keys.PROGRAMS]["name"] != "").sum() == 1


def test_two_programs_may_have_one_name(labels):
    halves = np.where((labels == "P2") & (np.arange(N_GENES) % 2 == 0), "P4", labels)
    adata = with_programs(halves)
    program_enrichment(adata, {"both": np.array(GENES)[labels == "P2"]})
    assert stored(adata)[keys.PROGRAMS]["name"].tolist() == ["", "both", "", "both"]


def test_nothing_is_written_unless_asked_nor_through_a_view(adata, sets):
    before = stored(adata)[keys.PROGRAMS].copy()
    program_enrichment(adata, sets, store=False)
    pd.testing.assert_frame_equal(stored(adata)[keys.PROGRAMS], before)
    assert keys.PROGRAM_ENRICHMENT not in stored(adata)
    view = adata[:1].copy()
    program_enrichment(view, sets)
    pd.testing.assert_frame_equal(stored(adata)[keys.PROGRAMS], before)


def test_p_of_planted_programs_is_small_and_reproducible(adata, sets):
    table = program_enrichment(adata, sets, n_permutations=200, seed=3)
    assert table.attrs["permutation_p"] < 0.01
    best = table.groupby("program")["pvalue"].min()
    np.testing.assert_allclose(table.attrs["strength"], -np.log10(best).sum())
    assert table.attrs["strength"] > table.attrs["permutation_strength"]
    assert program_enrichment(adata, sets, n_permutations=200, seed=3).attrs == table.attrs
    assert np.isnan(program_enrichment(adata, sets).attrs["permutation_p"])


def test_p_of_random_programs_is_uniform(labels, sets):
    values = []
    for seed in range(60):
        adata = with_programs(np.random.default_rng(seed).permutation(labels))
        values.append(program_enrichment(adata, sets, n_permutations=49, seed=seed).attrs["permutation_p"])
    assert min(values) >= 1 / 50
    assert kstest(values, "uniform").pvalue > 0.05


def test_the_background_are_the_genes_in_programs(labels, sets):
    some = np.where(np.arange(N_GENES) < 250, labels, "")
    table = program_enrichment(with_programs(some), sets)
    kept = with_programs(some)[:, :250].copy()
    pd.testing.assert_frame_equal(table, program_enrichment(kept, sets))
    assert table.attrs["n_genes"] == 250


@pytest.mark.parametrize("form", ["file", "compressed", "GeneSets", "hierarchy"])
def test_sets_may_come_in_any_form(adata, sets, tmp_path, form):
    expected = program_enrichment(adata, sets)
    if form == "GeneSets":
        given = make_sets(sets)
    elif form == "hierarchy":
        relations = pd.DataFrame({"parent": ["random 0"], "child": ["random 0 child"]})
        given = reactome(None, {**sets, "random 0 child": sets["random 0"][:3]}, relations)
    else:
        given = tmp_path / ("sets.gmt.gz" if form == "compressed" else "sets.gmt")
        lines = pd.Series(["\t".join([name, "-", *members]) for name, members in sets.items()])
        given.write_bytes(compress("\n".join(lines), form))
        given = str(given)
    pd.testing.assert_frame_equal(program_enrichment(adata, given), expected)


def compress(text, form):
    import gzip

    return gzip.compress(text.encode()) if form == "compressed" else text.encode()


def test_sizes_are_those_among_measured_genes(adata, sets):
    table = program_enrichment(adata, sets, min_size=21, max_size=30)
    assert set(table["n_set"]) == {22, 23, 26, 29}
    with pytest.raises(DataError, match="no set has 100 to 500 of the genes; the largest has 41"):
        program_enrichment(adata, sets, min_size=100)


@pytest.mark.parametrize("genes", [[f"gene{i}" for i in range(40)], [str(i) for i in range(40)], list("αβ;-") * 10])
def test_names_of_any_kind(genes):
    genes = [f"{gene}{i}" if gene in "αβ;-" else gene for i, gene in enumerate(genes)]
    adata = with_programs(["P1"] * 30 + ["P2"] * 10, genes)
    sets = {"PLANTED": genes[30:], **{f"UPPER {i}": [gene.upper() for gene in genes[i::3]] for i in range(3)}}
    table = program_enrichment(adata, sets)
    assert stored(adata)[keys.PROGRAMS]["name"].tolist() == ["", "PLANTED"]
    assert table.set_index("set").loc["PLANTED", "overlap"] == 10


def test_no_network_is_asked(adata, sets, monkeypatch):
    def refuse(*_):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    program_enrichment(adata, sets)


def test_bad_input_is_one_error(adata, sets):
    bare = AnnData(np.zeros((1, 3), dtype=np.float32))
    with pytest.raises(MissingKeyError, match=r"var\['scbig_program'\] does not exist.*model\.gene_programs\(\)"):
        program_enrichment(bare, sets)
    bare.var[keys.PROGRAM] = "P1"
    with pytest.raises(MissingKeyError, match=r"\['programs'\] does not exist.*model\.gene_programs\(\)"):
        program_enrichment(bare, sets)
    with pytest.raises(DataError, match="0 of 300 genes found"):
        program_enrichment(adata, {"other": ["X", "Y"]})
    with pytest.raises(ValueError, match="fdr=5"):
        program_enrichment(adata, sets, fdr=5)
    with pytest.raises(ValueError, match="n_permutations=-1"):
        program_enrichment(adata, sets, n_permutations=-1)
    cut = adata[:, adata.var[keys.PROGRAM] != "P2"].copy()
    with pytest.raises(DataError, match="1 of 3 programs have no gene here: 'P2'"):
        program_enrichment(cut, sets)


def test_what_is_written_survives_a_file(adata, sets, tmp_path):
    table = program_enrichment(adata, sets)
    adata.write_h5ad(tmp_path / "screen.h5ad")
    again = read_h5ad(tmp_path / "screen.h5ad")
    read = stored(again)[keys.PROGRAM_ENRICHMENT].reset_index(drop=True)
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
    assert stored(again)[keys.PROGRAMS]["name"].tolist() == ["", "planted in P2", "planted in P3"]
    pd.testing.assert_frame_equal(program_enrichment(again, sets), table)
