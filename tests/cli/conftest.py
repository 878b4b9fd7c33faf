import pytest
from typer.testing import CliRunner

from scperturb_modules.cli._main import app


@pytest.fixture
def spm():
    """Call the command in this process: ``spm("validate", path)`` gives exit code, stdout and stderr."""

    def call(*args: object):
        return CliRunner().invoke(app, [str(arg) for arg in args])

    return call


@pytest.fixture
def one_line():
    """Assert that a command refused its input in one readable line, and return the line."""

    def check(result) -> str:
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        lines = result.stderr.strip().splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("spm: ")
        return lines[0]

    return check


@pytest.fixture
def screen_file(screen, tmp_path):
    """The small screen as a file, its labels in the column ``guide``, controls called NT, pairs joined by ``_``."""
    labels = screen.obs.pop("perturbation").str.replace("+", "_").replace("control", "NT")
    screen.obs["guide"] = labels
    path = tmp_path / "screen.h5ad"
    screen.write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def split_screen():
    """The smallest simulated screen, with a split; do not change it."""
    from scperturb_modules import datasets, pp

    adata = datasets.simulate("tiny", seed=0)
    pp.split(adata, "combination", seed=0)
    return adata


@pytest.fixture(scope="session")
def simulated_path(split_screen, tmp_path_factory):
    path = tmp_path_factory.mktemp("screen") / "simulated.h5ad"
    split_screen.write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def network_path(split_screen, tmp_path_factory):
    """Its partial network as a file of edges."""
    path = tmp_path_factory.mktemp("prior") / "ppi.csv"
    split_screen.uns["scperturb_modules"]["simulation"]["graph_partial"].to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def short_app():
    """APP with the fewest members, trained for two epochs."""
    from scperturb_modules.models.app import APP

    def small(self, adata, **settings):
        APP.__init__(self, adata, **{"n_members": 1, "n_folds": 2} | settings)

    return type("APP", (APP,), {"__init__": small, "train": lambda self: APP.train(self, 2, accelerator="cpu")})
