import pytest

NASTY = "<script>alert(1)</script>"
"""The name of a perturbed and measured gene."""


class Broken:
    """A predictor that fails."""

    name = "Broken & <b>bold</b>"

    def __init__(self, adata, **_):
        raise RuntimeError("no <i>memory</i> left")


@pytest.fixture(scope="session")
def nasty_screen():
    """The smallest simulated screen with a gene whose name is HTML."""
    from scperturb_modules import datasets, pp

    adata = datasets.simulate("tiny", seed=0)
    gene = next(label for label in adata.obs["perturbation"].unique() if label != "control" and "+" not in label)
    adata.var_names = [NASTY if name == gene else name for name in adata.var_names]
    labels = adata.obs.pop("perturbation").astype(str)
    adata.obs["given"] = ["+".join(NASTY if part == gene else part for part in label.split("+")) for label in labels]
    pp.standardize_perturbations(adata, "given")
    return adata


@pytest.fixture(scope="session")
def board(nasty_screen):
    """A benchmark of some baselines, a model and a model that fails, on two splits; do not change it."""
    from scperturb_modules import baselines, tl

    model = type("Doubtful", (baselines.AdditiveFitted,), {"is_baseline": False, "name": "Doubtful"})
    few = (baselines.NoChange, baselines.MeanShift, baselines.MatchingMean, baselines.AdditiveShrunk)
    chosen = {one.name: one for one in (*few, baselines.NearestPrior, model)} | {Broken.name: Broken}
    return tl.benchmark(nasty_screen, chosen, scheme=["combination", "unseen_single"], n_folds=2, n_boot=100)


@pytest.fixture(scope="session")
def folder(board, tmp_path_factory):
    """Where it was saved, with a table of what to test next."""
    import pandas as pd

    path = tmp_path_factory.mktemp("run") / "results"
    board.save(path)
    table = pd.DataFrame({"rank": [1, 2], "condition": ["A+B", NASTY], "score": [0.5, 0.25], "reason": ["far", "near"]})
    table.to_csv(path / "next.csv", index=False)
    return path


@pytest.fixture(scope="session")
def page_path(folder):
    """The page about it."""
    from scperturb_modules.report import write_report

    path = folder.parent / "report.html"
    write_report(folder, path)
    return path


@pytest.fixture(scope="session")
def text(page_path):
    return page_path.read_text(encoding="utf-8")
