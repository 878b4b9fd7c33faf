"""What each part of what generates cells is worth: ``docs/benchmarks/scbig_cells_ablations.csv``.

``PYTHONPATH=benchmarks python benchmarks/scbig/cell_ablations.py``: the preset ``"programs"``, one part left out at a
time. All have the same predicted means, those of the anchor, so that differences are those of cells.
"""

from __future__ import annotations

import argparse

import pandas as pd
from cells import DOCS, judged, rewiring, simulated

import scperturb_modules as spm
from scperturb_modules._files import whole_file

LEFT_OUT = {
    "SCBIG": {},
    "no correlation term": {"w_correlation": 0.0},
    "no distribution term": {"w_distribution": 0.0},
    "no alignment": {"w_correlation": 0.0, "w_distribution": 0.0},
    "no flow (regression)": {"use_flow": False},
    "no OT coupling": {"coupling": "independent"},
    "no program tokens": {"use_tokens": False},
    "random programs": {"random_programs": True},
    "shifted, not rescaled": {"decode": "shifted"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    chosen = parser.parse_args()
    rows = []
    for name, settings in LEFT_OUT.items():
        for seed in chosen.seeds:
            adata, priors = simulated("programs", seed)
            spm.SCBIG.setup_anndata(adata)
            model = spm.SCBIG(adata, priors=priors, seed=seed, n_members=1, n_folds=2, **settings)
            model.train(max_epochs=1, progress=False)
            model.gates = {}  # the anchor for all
            test = sorted(set(adata.obs["perturbation"][adata.obs["split"] == "test"].astype(str)) - {"control"})
            cells = pd.DataFrame(judged(adata, model, {}, test)).mean(numeric_only=True)
            row = {"model": name, "seed": seed, "energy distance": cells["SCBIG"], "variance": cells["variance"]}
            if name != "random programs":  # there is nothing to match with the planted ones
                row["change of correlation"] = pd.DataFrame(rewiring(adata, model, test))["change, predicted"].mean()
            rows.append(row)
        table = pd.DataFrame(rows).groupby("model", sort=False).mean(numeric_only=True).drop(columns="seed")
        print(table.round(3).to_string(), flush=True)
        with whole_file(DOCS / "scbig_cells_ablations.csv") as path:
            table.round(3).reset_index().fillna("").to_csv(path, index=False)


if __name__ == "__main__":
    main()
