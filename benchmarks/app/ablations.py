"""The second half of the page: what each part is worth, how good a network has to be, sizes and times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import plan
import torch
from comparisons import ANCHOR, by_seed, gain_of, markdown, mean_of, percent, wide, word
from runs import APP, UNGATED, Experiment, errors, records
from scipy import sparse
from sections import UNSEEN_REGIMES, Section, picture

from scperturb_modules.metrics import Gain
from scperturb_modules.models.app._module import AppModule, AppShape
from scperturb_modules.models.app._settings import settings_of

WITH_UNSEEN = UNSEEN_REGIMES[1:]
PAPER_SIZE = {"n": 2000, "d": 128, "layers": 2}


def ablations() -> Section:
    parts = [
        "## Ablations",
        f"One change at a time; 200 pairs, {len(plan.ABLATION_SEEDS)} of the five seeds. *Against full*: gain of the "
        "changed model over the full one, so that a negative number says what the part is worth. `paper` is the "
        "published network alone, without anchor, gate, folds and measured responses, and its own changes are held "
        "against it too.",
    ]
    parts.append("### Pairs of measured genes")
    pairs = _ablated(plan.FULL_PAIRS, plan.ABLATIONS_PAIRS, ("pair_2of2",))
    parts += [_worth(pairs), markdown(pairs.drop(columns=["regime", "word"]))]
    parts += [_not_run(plan.ABLATIONS_PAIRS), "### Unseen genes"]
    changed = (*plan.ABLATIONS_UNSEEN, replace(plan.FULL_UNSEEN, network="permuted"))
    unseen = _ablated(plan.FULL_UNSEEN, changed, WITH_UNSEEN)
    parts += [_worth(unseen), markdown(unseen.drop(columns="word"))]
    parts.append(_not_run(changed))
    tables = {"app_ablations": pd.concat([pairs, unseen]).drop(columns="word")}
    return Section("\n\n".join(part for part in parts if part), tables)


def _not_run(changed: tuple[Experiment, ...]) -> str:
    missing = [_name(one) for one in changed if not one.is_done]
    return f"Not run yet: {', '.join(missing)}." if missing else ""


def _ablated(full: Experiment, changed: tuple[Experiment, ...], regimes: tuple[str, ...]) -> pd.DataFrame:
    """A row per model and regime."""
    models = {"full": wide(errors(full))[APP], "gate off": wide(errors(full))[UNGATED]}
    models |= {_name(one): wide(errors(one))[APP] for one in changed if one.is_done}
    anchor = wide(errors(full))[ANCHOR]
    rows = []
    for regime in regimes:
        of = {name: _of_regime(values, regime) for name, values in models.items()}
        for name, values in of.items():
            base = "paper" if name.startswith("paper, ") else "full"
            against = gain_of(values, of["full"])
            rows.append(
                {
                    "regime": regime,
                    "model": name,
                    "L2": f"{values.mean():.3f}",
                    "gain over the anchor, % (95 % CI)": percent(gain_of(values, _of_regime(anchor, regime))),
                    "against full, % (95 % CI)": "" if name == "full" else percent(against),
                    "per seed": "" if name == "full" else by_seed(values, of["full"]),
                    "against paper, % (95 % CI)": percent(gain_of(values, of["paper"]))
                    if base in of and base == "paper"
                    else "",
                    "n": against.n,
                    "word": "" if name == "full" else word(against),
                }
            )
    return pd.DataFrame(rows)


def _name(one: Experiment) -> str:
    return "permuted network" if one.network == "permuted" else one.variant


def _of_regime(values: pd.Series, regime: str) -> pd.Series:
    return values[values.index.get_level_values("regime") == regime]


def _worth(rows: pd.DataFrame) -> str:
    """Which changes make a difference, in words."""
    texts = []
    for said, start in (("higher", "Worse than full"), ("lower", "Better than full")):
        chosen = rows[rows["word"] == said]
        named = [
            row.model if rows["regime"].nunique() == 1 else f"{row.model} ({row.regime})" for row in chosen.itertuples()
        ]
        texts.append(f"{start}: {', '.join(named) or 'none'}.")
    return " ".join([*texts, "Of the others no difference is shown."])


def network_quality() -> Section:
    parts = [
        "## Quality of the network",
        f"Unseen genes, 200 pairs, {len(plan.QUALITY_SEEDS)} of the five seeds. The network of the other sections "
        "lacks 30 % of the genes; here it is given whole, or degraded further by `spm.priors.degrade`. Not only APP "
        "reads it: so does its anchor, by the neighbours of an unseen gene.",
    ]
    full, permuted = wide(errors(plan.QUALITY_SHOWN[1]), WITH_UNSEEN), wide(errors(plan.QUALITY[-1]), WITH_UNSEEN)
    gain = gain_of(full[APP], permuted[APP])
    short = _short_quality(gain, gain_of(full[ANCHOR], permuted[ANCHOR]), gain_of(full[APP], full[ANCHOR]))
    parts.append(f"**{short}** All conditions with an unseen gene, n = {gain.n}.")
    rows = [row for one in plan.QUALITY_SHOWN for row in _quality_rows(one)]
    table = pd.DataFrame(rows)
    parts += [picture("app_network_quality", "Error of APP and its anchor under worse networks"), markdown(table)]
    return Section("\n\n".join(parts), {"app_network": table}, short)


def _short_quality(gain: Gain, of_anchor: Gain, over_anchor: Gain) -> str:
    """Whether the network helps, and by which of its two ways into APP."""
    return (
        f"The network helps at unseen genes: {'yes' if gain.low > 0 else 'not shown'}; gain over APP under permuted "
        f"names {percent(gain)} %. The anchor gains {percent(of_anchor)} % by it; what APP adds to its anchor is "
        f"{percent(over_anchor)} %."
    )


def _quality_rows(one: Experiment) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for regime in WITH_UNSEEN:
        table = wide(errors(one), [regime])
        rows.append(
            {
                "network": plan.QUALITY_NAMES[one.network],
                "regime": regime,
                "APP, L2 (95 % CI)": mean_of(table[APP]),
                "anchor, L2 (95 % CI)": mean_of(table[ANCHOR]),
                "gain over the anchor, % (95 % CI)": percent(gain_of(table[APP], table[ANCHOR])),
                "per seed": by_seed(table[APP], table[ANCHOR]),
                "n": len(table),
            }
        )
    return rows


def sizes() -> Section:
    n, d, layers = PAPER_SIZE.values()
    formula = n * d + layers * (2 * d * d + d) + (2 * d * d + 2 * d) + (d * n + n)
    paper, tool = _count("paper", d=d, n_layers=layers), _count("tool", n_members=1, n_folds=0, gate=False)
    rows = [
        {"screen": one.world, "split": one.scheme, "model": one.variant, **_times(one)}
        for one in (*plan.INTERACTIONS, plan.UNSEEN, replace(plan.FULL_PAIRS, variant="paper"))
        if one.is_done
    ]
    width = settings_of("tool", {}).d
    parts = [
        "## Parameters and times",
        "`preset=\"paper\"` has `N d + L (2 d² + d) + (2 d² + 2 d) + (d G + G)` parameters: with N = G = 2,000, d = "
        f"{d} and L = {layers} that is {formula:,}, and the module has {paper:,}. `preset=\"tool\"` (d = {width}, "
        f"patterns of response instead of a row per gene) has {tool:,} per member at the same N and G.",
        "Seconds of a fit, building included, on one thread of a machine that others used at the same time "
        f"(600 genes, {settings_of('tool', {}).n_members} members and the fold members):",
        markdown(pd.DataFrame(rows)),
    ]  # fmt: skip
    return Section("\n\n".join(parts), {"app_times": pd.DataFrame(rows)})


def _times(one: Experiment) -> dict[str, object]:
    done = [record for _, record in records(one)]
    seconds, epochs = ([record[name] for record in done] for name in ("seconds", "n_epochs"))
    return {
        "parameters, all members": f"{done[0]['n_parameters']:,}",
        "seconds, median (range)": f"{np.median(seconds):.0f} ({min(seconds):.0f} to {max(seconds):.0f})",
        "epochs, median": f"{np.median(epochs):.0f}",
    }


def _count(preset: str, **settings: object) -> int:
    """Parameters of a module at the size of the paper."""
    chosen = settings_of(preset, settings)
    n = PAPER_SIZE["n"]
    expression = {"expression": (torch.zeros(n, 2), torch.ones(n, dtype=torch.bool))}
    shape = AppShape(
        adjacencies=(sparse.eye_array(n, k=1, format="csr"),),
        tables={} if preset == "paper" else expression,
        known=torch.ones(1, n, dtype=torch.bool),
        outside=torch.zeros(n, dtype=torch.bool),
        isolated=torch.zeros(n, dtype=torch.bool),
        response_basis=torch.zeros(n, chosen.rank),
        basis=torch.zeros(1, n, chosen.rank),
        covariates=torch.zeros(1, 1),
        scale=1.0,
    )
    return sum(parameter.numel() for parameter in AppModule(shape, chosen).parameters())
