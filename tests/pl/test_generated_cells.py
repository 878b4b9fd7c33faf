import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import same_color
from scipy import sparse

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.pl._generated_cells import COLORS, CONTROL, GENERATED, REAL, generated_cells
from scperturb_modules.pl._plane import N_GENES

N_GENES_HERE = 12


def cells(labels, *, shift=0.0, seed=0, column="perturbation"):
    """Cells of normal noise; those of ``A`` lie 6 further in the first gene, plus ``shift``."""
    rng = np.random.default_rng(seed)
    labels = np.array(labels, dtype=object)
    values = rng.normal(size=(len(labels), N_GENES_HERE)) * np.linspace(2, 1, N_GENES_HERE) + 3
    values[:, 0] += np.where([label.split("|")[0] == "A" for label in labels], 6 + shift, 0)
    obs = pd.DataFrame({column: labels}, index=[f"c{i}" for i in range(len(labels))])
    return AnnData(values.astype(np.float32), obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(N_GENES_HERE)]))


@pytest.fixture
def real():
    return cells(["control"] * 80 + ["A"] * 40 + ["B"] * 30)


@pytest.fixture
def generated():
    made = cells(["B"] * 20 + ["A"] * 25, seed=1)
    made.obs["cell_type"] = "T"
    return made


def drawn(ax):
    """Places of each kind of cell, sorted, and their means."""
    clouds = [one for one in ax.collections if len(one.get_offsets()) != 1]
    points = np.concatenate([np.asarray(one.get_offsets()) for one in clouds])
    colors = np.concatenate([np.broadcast_to(one.get_facecolor(), (len(one.get_offsets()), 4)) for one in clouds])
    kinds = {}
    for kind, color in COLORS.items():
        is_kind = np.array([same_color(one[:3], color) for one in colors])
        kinds[kind] = np.array(sorted(map(tuple, points[is_kind]))).reshape(-1, 2)
    return kinds


def projected(real, generated, rows, made):
    """Slow form: principal components of the real cells, signs left open."""
    x = np.asarray(real.X[rows], dtype=float)
    mean = x.mean(axis=0)
    axes = np.linalg.svd(x - mean, full_matrices=False)[2][:2].T
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    return (x - mean) @ axes, (np.asarray(generated.X[made], dtype=float) - mean) @ axes


def test_generated_cells_are_projected_into_the_plane_of_the_real_ones(real, generated):
    axes = generated_cells(generated, real)
    assert list(axes) == ["B", "A"]
    there, made = projected(real, generated, np.arange(real.n_obs), np.arange(generated.n_obs))
    label, made_label = (one.obs["perturbation"].to_numpy() for one in (real, generated))
    for row, ax in axes.items():
        expected = {CONTROL: there[label == "control"], REAL: there[label == row], GENERATED: made[made_label == row]}
        for kind, found in drawn(ax).items():
            np.testing.assert_allclose(found, np.array(sorted(map(tuple, expected[kind]))), atol=1e-4)
        crosses = [one for one in ax.collections if len(one.get_offsets()) == 1]
        for cross, kind in zip(crosses, (REAL, GENERATED), strict=True):
            np.testing.assert_allclose(cross.get_offsets()[0], expected[kind].mean(axis=0), atol=1e-4)
            assert same_color(cross.get_facecolor()[0], COLORS[kind])
        assert all(one.get_rasterized() for one in ax.collections if len(one.get_offsets()) > 1)


def test_the_plane_separates_what_is_separated(real, generated):
    kinds = drawn(generated_cells(generated, real)["A"])
    assert kinds[REAL][:, 0].min() > kinds[CONTROL][:, 0].mean() and kinds[GENERATED][:, 0].mean() > 2


def test_neither_kind_hides_the_other(real, generated):
    ax = generated_cells(generated, real)["A"]
    both = max(ax.collections, key=lambda one: one.get_zorder() * (len(one.get_offsets()) > 1))
    is_real = np.array([same_color(one[:3], COLORS[REAL]) for one in both.get_facecolor()])
    assert len(is_real) == 65 and (np.diff(is_real.astype(int)) != 0).sum() > 5


def test_sparse_screens_and_genes_in_another_order_make_no_difference(real, generated):
    expected = {row: drawn(ax) for row, ax in generated_cells(generated, real).items()}
    other = real[:, ::-1].copy()
    other.X = sparse.csr_matrix(other.X)
    found = {row: drawn(ax) for row, ax in generated_cells(generated, other).items()}
    for row, kinds in expected.items():
        for kind, places in kinds.items():
            np.testing.assert_allclose(found[row][kind], places, atol=1e-4)


def test_keys_are_read_from_the_record(real, generated):
    expected = drawn(generated_cells(generated, real)["A"])
    odd = real.copy()
    odd.obs = odd.obs.rename(columns={"perturbation": "guide"}).replace("control", "ntc")
    odd.layers["log"] = odd.X.copy()
    odd.X[:] = 0
    record = {keys.SETUP: {"perturbation_key": "guide", "control": "ntc", "layer": "log"}}
    for holder in (odd, generated):
        holder.uns[keys.ROOT] = record
        found = drawn(generated_cells(generated, odd)["A"])
        for kind, places in expected.items():
            np.testing.assert_allclose(found[kind], places, atol=1e-4)
        del holder.uns[keys.ROOT]
    given = real.copy()
    given.obs = given.obs.replace("control", "ntc")
    assert len(drawn(generated_cells(generated, given, control="ntc")["A"])[CONTROL]) == 80


def test_controls_are_those_of_the_context(generated):
    real = cells(["control"] * 60 + ["A"] * 40)
    real.obs["line"] = ["T"] * 50 + ["B"] * 10 + ["T"] * 40
    real.uns[keys.ROOT] = {keys.SETUP: {"perturbation_key": "perturbation", "cell_type_key": "line"}}
    axes = generated_cells(generated, real)
    assert list(axes) == ["B|T", "A|T"]
    counts = {row: {kind: len(places) for kind, places in drawn(ax).items()} for row, ax in axes.items()}
    assert counts["A|T"] == {CONTROL: 50, REAL: 40, GENERATED: 25}
    assert counts["B|T"] == {CONTROL: 50, REAL: 0, GENERATED: 20}


def above(ax):
    return [text.get_text() for text in ax.texts]


def legend(axes):
    (found,) = [ax.get_legend() for ax in axes.values() if ax.get_legend() is not None]
    return [text.get_text() for text in found.get_texts()], found.get_title().get_text()


def test_titles_count_cells_and_what_is_left_out(real, generated):
    axes = generated_cells(generated, real, max_cells=22)
    assert set(above(axes["A"])) == {"A", "22 of 40 real, 22 of 25 generated"}
    assert set(above(axes["B"])) == {"B", "22 of 30 real, 20 generated"}
    assert {len(places) for places in drawn(axes["A"]).values()} == {22}
    unmeasured = generated_cells(generated, real[real.obs["perturbation"] != "B"])
    assert set(above(unmeasured["B"])) == {"B", "not measured, 20 generated"}
    assert legend(axes) == (["control", "real", "generated", "mean"], "")


def test_the_same_seed_draws_the_same(real, generated):
    first, again, other = (drawn(generated_cells(generated, real, max_cells=9, seed=s)["A"]) for s in (0, 0, 1))
    np.testing.assert_array_equal(first[REAL], again[REAL])
    assert not np.array_equal(first[REAL], other[REAL])


def test_conditions_asked_for_and_of_many_the_first(real):
    many = cells([f"K{i}" for i in range(9) for _ in range(5)])
    axes = generated_cells(many, real)
    assert list(axes) == [f"K{i}" for i in range(6)]
    assert legend(axes)[1] == "6 of 9\nconditions"
    assert list(generated_cells(many, real, conditions=["K8", "K1"])) == ["K8", "K1"]
    with pytest.raises(ValueError, match="generated holds no condition 'K99'"):
        generated_cells(many, real, conditions="K99")


def test_without_real_cells(generated):
    axes = generated_cells(generated)
    assert set(above(axes["A"])) == {"A", "25 generated"} and legend(axes)[0] == ["generated", "mean"]
    kinds = drawn(axes["A"])
    assert len(kinds[GENERATED]) == 25 and not len(kinds[CONTROL]) and not len(kinds[REAL])


def test_a_stored_embedding_is_drawn_as_it_is(real, generated):
    rng = np.random.default_rng(0)
    for adata in (real, generated):
        adata.obsm["X_umap"] = rng.normal(size=(adata.n_obs, 3)).astype(np.float32)
    ax = generated_cells(generated, real, basis="X_umap", conditions="A")["A"]
    expected = generated.obsm["X_umap"][generated.obs["perturbation"] == "A", :2]
    np.testing.assert_allclose(drawn(ax)[GENERATED], np.array(sorted(map(tuple, expected))))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("UMAP 1", "UMAP 2")


def test_labels_have_the_share_of_variance(real, generated):
    x = np.asarray(real.X[(real.obs["perturbation"] != "B").to_numpy()], dtype=float)
    share = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    share = 100 * share / share.sum()
    ax = generated_cells(generated, real, conditions="A")["A"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == (f"PC 1 ({share[0]:.1f} %)", f"PC 2 ({share[1]:.1f} %)")


def test_of_many_genes_the_most_variable_are_used():
    rng = np.random.default_rng(0)
    n = N_GENES + 200
    values = rng.normal(size=(60, n)) * np.r_[np.ones(N_GENES), np.full(200, 1e-3)]
    adata = AnnData(
        values.astype(np.float32), obs=pd.DataFrame({"perturbation": ["control"] * 30 + ["A"] * 30}).rename(str)
    )
    made = adata[30:].copy()
    quiet = adata.copy()
    quiet.X[:, N_GENES:] = 0
    np.testing.assert_allclose(
        drawn(generated_cells(made, adata)["A"])[REAL], drawn(generated_cells(made, quiet)["A"])[REAL], atol=1e-6
    )


def test_draws_in_the_place_given_and_nowhere_else(real, generated, two_axes):
    wanted, current = two_axes
    axes = generated_cells(generated, real, ax=wanted)
    assert len(plt.get_fignums()) == 1 and not current.collections and not wanted.axison
    assert all(one.get_subplotspec().get_topmost_subplotspec() == wanted.get_subplotspec() for one in axes.values())


def test_shown_only_where_asked(real, generated, monkeypatch):
    calls = []
    monkeypatch.setattr(plt, "show", lambda: calls.append(1))
    generated_cells(generated, real)
    generated_cells(generated, real, show=True)
    assert calls == [1]


def test_bad_input_is_one_error(real, generated):
    with pytest.raises(ValueError, match="max_cells=0"):
        generated_cells(generated, real, max_cells=0)
    with pytest.raises(
        DataError, match="No real cell is labelled 'ctrl'; labels are 'A', 'B', 'control'. Pass control="
    ):
        generated_cells(generated, real, control="ctrl")
    with pytest.raises(DataError, match="real lacks 2 of 12 genes of the generated cells: 'G10', 'G11'"):
        generated_cells(generated, real[:, :10])
    with pytest.raises(MissingKeyError, match=r"obsm\['X_umap'\] does not exist.*together"):
        generated_cells(generated, real, basis="X_umap")
    with pytest.raises(MissingKeyError, match=r"obs\['perturbation'\] does not exist"):
        generated_cells(cells(["A"], column="guide"), real)
    with pytest.raises(DataError, match="2 cells of 12 genes span no plane"):
        generated_cells(generated[generated.obs["perturbation"] == "A"][:2].copy())
    for adata in (real, generated):
        adata.obsm["X_one"] = np.zeros((adata.n_obs, 1))
    with pytest.raises(DataError, match=r"obsm\['X_one'\] has 1 columns; a plane needs two"):
        generated_cells(generated, real, basis="X_one")
    with pytest.raises(DataError, match="generated holds no perturbed cell"):
        generated_cells(real[real.obs["perturbation"] == "control"], real)
    assert not plt.get_fignums()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_no_text_is_cut_or_overlaps(real, assert_readable, n):
    made = cells([f"GENE{i}A+GENE{i}B" for i in range(n) for _ in range(5)])
    for ax in generated_cells(made, real).values():
        assert_readable(ax)


def test_the_same_picture_after_a_file(real, generated, same_after_file):
    same_after_file(generated, lambda adata: generated_cells(adata, real))
