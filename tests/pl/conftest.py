import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest


@pytest.fixture(autouse=True)
def close_figures():
    plt.close("all")  # examples of docstrings leave theirs open
    yield
    plt.close("all")


@pytest.fixture
def two_axes():
    """Two axes of one figure; the second is the current one, so that drawing without ``ax`` shows."""
    _, (wanted, current) = plt.subplots(1, 2)
    plt.sca(current)
    return wanted, current


SUMMARY_ROWS = [
    # split_kind, regime, metric, model, mean, ci_low, ci_high, is_baseline
    ("combination", "pair_2of2", "l2_top1000", "NoChange", 7.7, 7.1, 8.3, True),
    ("combination", "pair_2of2", "l2_top1000", "Additive", 4.2, 3.9, 4.5, True),
    ("combination", "pair_2of2", "l2_top1000", "Mine", 3.6, 3.3, 4.0, False),
    ("unseen_single", "single_unseen", "l2_top1000", "NoChange", 6.0, 5.5, 6.6, True),
    ("unseen_single", "single_unseen", "l2_top1000", "Additive", 5.0, 4.5, 5.6, True),
    ("unseen_single", "single_unseen", "l2_top1000", "Mine", 5.2, 4.6, 5.9, False),
    ("combination", "pair_2of2", "pearson_delta", "NoChange", 0.0, 0.0, 0.0, True),
    ("combination", "pair_2of2", "pearson_delta", "Additive", 0.84, 0.80, 0.87, True),
    ("combination", "pair_2of2", "pearson_delta", "Mine", 0.80, 0.75, 0.84, False),
    ("combination", "pair_2of2", "slope", "NoChange", 3.0, 2.0, 4.0, True),
    ("combination", "pair_2of2", "slope", "Additive", 0.9, 0.8, 1.0, True),
    ("combination", "pair_2of2", "slope", "Mine", 0.2, 0.1, 0.3, False),
]


@pytest.fixture
def summary():
    columns = ["split_kind", "regime", "metric", "model", "mean", "ci_low", "ci_high", "is_baseline"]
    return pd.DataFrame(SUMMARY_ROWS, columns=columns)


@pytest.fixture
def frame():
    """Two models and three baselines on six conditions; ``effect_norm`` 1 to 6, value by a known rule."""
    rows = []
    error = {"Bad": 3.0, "Good": 1.5, "Worse": 4.0, "MineA": 2.0, "MineB": 2.5}
    for model, scale in error.items():
        for i, condition in enumerate(["A", "B", "C", "A+B", "A+C", "B+C"]):
            for seed in (0, 1):
                value = scale + i + 0.2 * seed
                rows.append((model, condition, "l2_top1000", value, 1.0 + i, 0.5, not model.startswith("Mine")))
                rows.append((model, condition, "pearson_delta", np.nan, 1.0 + i, 0.5, True))
    columns = ["model", "condition", "metric", "value", "effect_norm", "floor", "is_baseline"]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture
def assert_readable():
    """Every text of an axes lies inside the figure, and no two of them touch."""

    def check(ax):
        figure = ax.figure
        figure.canvas.draw()
        renderer = figure.canvas.get_renderer()
        texts = [*ax.texts, ax.xaxis.label, ax.yaxis.label]
        for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, sorted(ax.get_ylim()))):
            ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
            texts += [label for tick, label in ticks if low <= tick <= high]  # others are not drawn
        if ax.get_legend() is not None:
            texts += ax.get_legend().get_texts()
        texts = [text for text in texts if text.get_text()]
        boxes = [text.get_window_extent(renderer) for text in texts]
        for i, box in enumerate(boxes):
            inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
            assert inside, f"{texts[i].get_text()!r} is cut"
            for j in range(i):
                assert not box.overlaps(boxes[j]), f"{texts[i].get_text()!r} overlaps {texts[j].get_text()!r}"

    return check


SET_NAMES = [
    "HALLMARK_INTERFERON_ALPHA_RESPONSE",
    "HALLMARK_OXIDATIVE_PHOSPHORYLATION",
    "",
    "regulation of cyclin-dependent protein serine/threonine kinase activity (GO:0000079)",
    "HALLMARK_E2F_TARGETS",
]


def make_scbig(n_programs=8, *, named=True, n_conditions=6, seed=0):
    """An AnnData with all that SCBIG stores of gene programs, from random numbers.

    The last condition is not measured; flow paths are those of the first.
    """
    from anndata import AnnData

    rng = np.random.default_rng(seed)
    programs = [f"P{i + 1}" for i in range(n_programs)]
    conditions = [f"G{i:02d}" if i % 2 else f"G{i:02d}+G{i + 1:02d}" for i in range(n_conditions)]
    n_genes = np.sort(rng.integers(20, 400, n_programs))[::-1]
    factor = rng.normal(size=(n_programs, 2)).round()
    activity = rng.normal(size=(400, 2)) @ factor.T + rng.normal(size=(400, n_programs))
    control = np.corrcoef(activity.T).reshape(n_programs, n_programs)
    table = pd.DataFrame({"n_genes": n_genes}, index=programs)
    table["top_genes"] = [";".join(f"GENE{rng.integers(1, 1000)}" for _ in range(20)) for _ in programs]
    table["within"], table["z"] = rng.uniform(0.2, 0.6, n_programs), rng.uniform(3, 20, n_programs)
    table.iloc[-1, -1] = 0.5
    table["name"] = [SET_NAMES[i % 5] if named else "" for i in range(n_programs)]
    change = rng.normal(0, 0.6, (n_conditions, n_programs)) * (rng.random((n_conditions, n_programs)) < 0.5)
    observed = change + rng.normal(0, 0.2, change.shape)
    observed[-1] = np.nan
    rows = pd.MultiIndex.from_product([conditions, programs], names=["condition", "program"]).to_frame(index=False)
    half = rng.uniform(0.2, 0.5, change.size)
    changes = rows.assign(change=change.ravel(), lower=change.ravel() - half, upper=change.ravel() + half)
    said = [np.corrcoef((activity + rng.normal(0, 1, activity.shape)).T) for _ in conditions]
    said = np.reshape(said, (n_conditions, n_programs, n_programs))
    seen = said + rng.normal(0, 0.05, said.shape)
    seen = (seen + seen.transpose(0, 2, 1)) / 2
    seen[-1] = np.nan
    time = np.linspace(0, 1, 11)
    cells = rng.normal(size=(300, 2))
    bend = np.sin(np.pi * time)[:, None] * [0.0, 1.0]
    moved = cells[:60, None] + time[:, None] * [4.0, 1.0] + bend
    adata = AnnData(np.zeros((2, int(n_genes.sum())), dtype=np.float32))
    adata.var["scbig_program"] = np.repeat(programs, n_genes)
    adata.uns["scperturb_modules"] = {
        "scbig": {
            "programs": table,
            "program_relations": control,
            "program_changes": changes.assign(observed=observed.ravel()),
            "program_correlation": {
                "conditions": np.array(conditions),
                "programs": np.array(programs),
                "predicted": said,
                "observed": seen,
                "control": np.stack([control] * len(conditions)),
            },
            "flow_paths": {
                "condition": conditions[0],
                "time": time,
                "position": moved.astype(np.float32),
                "control": cells.astype(np.float32),
                "observed": (rng.normal(size=(150, 2)) + [4.0, 1.0]).astype(np.float32),
            },
        }
    }
    return adata


@pytest.fixture
def scbig():
    """Eight programs and six perturbations, stored as by a trained SCBIG."""
    return make_scbig()


@pytest.fixture(scope="session")
def make_stored():
    """The function behind :func:`scbig`, for other numbers of programs."""
    return make_scbig


@pytest.fixture
def same_after_file(tmp_path):
    """Drawing an AnnData again after it was written and read gives the same picture."""

    def check(adata, draw):
        from anndata import read_h5ad

        pictures = []
        adata.write_h5ad(tmp_path / "stored.h5ad")
        for source in (adata, read_h5ad(tmp_path / "stored.h5ad")):
            plt.close("all")
            drawn = draw(source)
            figure = (next(iter(drawn.values())) if isinstance(drawn, dict) else drawn).figure
            figure.canvas.draw()
            pictures.append(np.asarray(figure.canvas.buffer_rgba()).copy())
        np.testing.assert_array_equal(*pictures)

    return check
