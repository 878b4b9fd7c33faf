"""``spm predict``: what a saved model says of conditions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import genes_of_row
from scperturb_modules._errors import name_some
from scperturb_modules._files import whole_file
from scperturb_modules.cli import _options as option
from scperturb_modules.cli._input import read_conditions, require_file
from scperturb_modules.cli._models import load_saved
from scperturb_modules.cli._output import InputError, console, working
from scperturb_modules.cli._prepare import labelled_screen, log_layer
from scperturb_modules.cli._results import require_writable

if TYPE_CHECKING:
    from anndata import AnnData

MOST_ROWS = 20
"""Conditions in the printed table; the file holds all."""
N_TOP = 5
"""Genes named in each direction."""


def predict(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A saved model, as spm fit writes it.")],
    out: Annotated[Path, typer.Option(help="File to write: .h5ad, or .csv with condition, gene, delta, mean.")],
    condition: Annotated[
        list[str] | None, typer.Option(metavar="A+B", help="What is perturbed; A+B|TYPE for one cell type. Repeatable.")
    ] = None,
    conditions_file: Annotated[Path | None, typer.Option(help="Text file with a condition per line.")] = None,
    cells: Annotated[
        int | None, typer.Option(min=1, help="Write so many predicted cells per condition; needs --screen.")
    ] = None,
    screen: Annotated[
        Path | None, typer.Option(metavar="SCREEN.h5ad", help="With --cells: the screen that the model was fitted on.")
    ] = None,
    perturbation_key: Annotated[str | None, typer.Option(help="With --cells: as in spm fit.")] = None,
    control: option.Control = None,
    sep: option.Sep = None,
    guide_table: option.GuideTable = None,
    layer: option.Layer = None,
    seed: Annotated[int, typer.Option(min=0, help="With --cells: the same seed draws the same control cells.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Predict the change of expression of conditions, measured or not, with a saved model."""
    check_file(out, overwrite=overwrite, only_h5ad=cells is not None)
    of_screen = {"--screen": screen, "--perturbation-key": perturbation_key}
    _check_pairing(
        cells, of_screen | {"--control": control, "--sep": sep, "--guide-table": guide_table, "--layer": layer}
    )
    asked = [*(condition or []), *([] if conditions_file is None else read_conditions(conditions_file))]
    if not asked:
        raise InputError("name what to predict: --condition A+B, or --conditions-file FILE")
    model = load_saved(folder)
    with working("Predicting"):
        prediction = model.predict(asked)
    written = prediction
    if cells is not None and screen is not None and perturbation_key is not None:
        labels: dict[str, Any] = {"control": control, "sep": sep, "guide_table": guide_table}
        adata = labelled_screen(screen, perturbation_key, **labels)
        log_layer(adata, _screen_keys(model, layer))
        model = load_saved(folder, adata)
        with working("Predicting cells"):
            written = model.predict_cells(asked, n_cells=cells, seed=seed)
    write_prediction(written, out)
    show_prediction(prediction, model)
    what = f"{written.n_obs} cells" if cells is not None else f"{written.n_obs} conditions"
    typer.echo(f"{what} x {written.n_vars} genes: {out}")


def check_file(out: Path, *, overwrite: bool, only_h5ad: bool) -> None:
    """Refuse a file that cannot be written, before anything is computed."""
    allowed = (".h5ad",) if only_h5ad else (".h5ad", ".csv")
    if out.suffix not in allowed:
        raise InputError(f"--out {out}: the name must end with {' or '.join(allowed)}")
    if out.is_dir():
        raise InputError(f"{out} is a folder; --out names a file")
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists; choose another --out, or pass --overwrite")
    require_writable(out.absolute().parent)


def _check_pairing(cells: int | None, of_screen: dict[str, Any]) -> None:
    """``--cells`` needs the screen, and nothing else has a use for it."""
    given = [name for name, value in of_screen.items() if value]
    if cells is None and given:
        raise InputError(f"{', '.join(given)} would have no effect without --cells")
    missing = [name for name in ("--screen", "--perturbation-key") if cells is not None and not of_screen[name]]
    if missing:
        raise InputError(f"--cells needs {' and '.join(missing)}: predicted cells are control cells that were moved")
    if of_screen["--screen"] is not None:
        require_file(of_screen["--screen"])


def _screen_keys(model: Any, layer: str | None) -> keys.ScreenKeys:
    """The columns that the model was fitted with; the layer, where counts were normalised, is the user's."""
    stored = dict(model.training.uns[keys.ROOT][keys.SETUP])
    return keys.ScreenKeys.from_uns(stored | ({} if layer is None else {"layer": layer}))


def write_prediction(prediction: AnnData, out: Path) -> None:
    """An AnnData file, or a long table with a line per condition and gene."""
    with whole_file(out) as temporary:
        if out.suffix == ".h5ad":
            prediction.write_h5ad(temporary)
            return
        import numpy as np
        import pandas as pd

        columns = {
            "condition": np.repeat(prediction.obs_names.to_numpy(), prediction.n_vars),
            "gene": np.tile(prediction.var_names.to_numpy(), prediction.n_obs),
            "delta": prediction.layers[keys.DELTA].ravel(),
            "mean": np.asarray(prediction.X).ravel(),
        }
        pd.DataFrame(columns).to_csv(temporary, index=False)


def show_prediction(prediction: AnnData, model: Any) -> None:
    """A line per condition: what was known of it, how far the network is trusted, the genes that change most."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("Condition", "Seen", "Status", "Gate", "Changes most (+ up, - down)"):
        table.add_column(name, overflow="fold")
    for row in prediction.obs_names[:MOST_ROWS]:
        facts = prediction.obs.loc[row]
        gate = float(facts[keys.GATE])
        said = (
            str(facts[keys.SEEN]),
            str(facts[keys.STATUS]).replace(";", "; "),
            "" if math.isnan(gate) else f"{gate:.2f}",
        )
        table.add_row(str(row), *said, _top_genes(prediction, row))
    console.print(table)
    if prediction.n_obs > MOST_ROWS:
        typer.echo(f"... and {prediction.n_obs - MOST_ROWS} more in the file")
    nowhere = _known_nowhere(prediction, model)
    if nowhere:
        typer.echo(
            f"spm: note: known neither from the screen nor from a prior, so that nothing specific to it is predicted: "
            f"{name_some(nowhere)}",
            err=True,
        )


def _top_genes(prediction: AnnData, row: str) -> str:
    change = prediction[[row]].to_df(layer=keys.DELTA).iloc[0].sort_values(ascending=False, kind="stable")
    up, down = change[change > 0].index[:N_TOP], change[change < 0].index[::-1][:N_TOP]
    return "\n".join(f"{sign} {' '.join(map(str, genes))}" for sign, genes in (("+", up), ("-", down)) if len(genes))


def _known_nowhere(prediction: AnnData, model: Any) -> list[str]:
    from scperturb_modules.baselines._prediction import UNKNOWN_GENE

    measured = set(prediction.var_names)
    knows = getattr(model, "knows", measured.__contains__)
    rows = prediction.obs_names[prediction.obs[keys.STATUS].astype(str).str.contains(UNKNOWN_GENE)]
    genes = {gene for row in rows for gene in genes_of_row(str(row))}
    return sorted(gene for gene in genes if not knows(gene))
