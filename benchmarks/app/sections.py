"""Sections of the page: tables and the sentences that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import plan
from comparisons import (
    ANCHOR,
    by_seed,
    gain_of,
    gains_over,
    markdown,
    percent,
    sentence,
    verdict,
    wide,
    word,
)
from runs import APP, JOINT, UNGATED, Experiment, bend, errors, records

SHOWN = (APP, UNGATED, ANCHOR, JOINT, "Additive", "AdditiveFitted", "NearestPrior")
UNSEEN_REGIMES = ("pair_2of2", "pair_1of2", "pair_0of2", "single_unseen")


@dataclass(frozen=True)
class Section:
    """Text of the page, the tables that are also written beside it, and one line for the top."""

    text: str
    tables: dict[str, pd.DataFrame]
    short: str = ""


def interactions() -> Section:
    parts = [
        "## Interactions",
        "Half of the pairs are tested; all singles are measured. The network lacks 30 % of the genes. `APP, gate "
        "off` is the same fit with the network's part added in full. `JointSum` is a reference of this page (no "
        "baseline of the package): still a sum, but of effects that are estimated from singles and training pairs "
        "together; better than the anchor where pairs are sums. A gain over both is hardly one of less noise in the "
        "singles.",
    ]
    rows, gates = [], []
    for one in plan.INTERACTIONS:
        table = wide(errors(one), ["pair_2of2"])
        rows += [{"screen": one.world, **row} for row in gains_over(table, SHOWN, of=APP)]
        gates.append({"screen": one.world, **_gates(one, "pair_2of2")})
        parts.append(f"{one.world}: {verdict(table, 'pair_2of2', of=APP)} {_of_the_sum(table)} {_of_the_gate(table)}")
    found, of_gates = pd.DataFrame(rows), pd.DataFrame(gates)
    parts += [markdown(found), "The gates that were fitted (left-out training pairs behind each):", markdown(of_gates)]
    return Section("\n\n".join(parts), {"app_interactions": found, "app_gates": of_gates}, _short_interactions())


def _short_interactions() -> str:
    said = []
    for one in plan.INTERACTIONS:
        table = wide(errors(one), ["pair_2of2"])
        said.append(f"{one.world}: {percent(gain_of(table[APP], table[ANCHOR]))}")
    return f"Pairs of measured genes with interactions, gain over the anchor in %: {'; '.join(said)}."


def _short_unseen() -> str:
    said = []
    for regime in UNSEEN_REGIMES[1:]:
        table = wide(errors(plan.UNSEEN), [regime])
        said.append(f"{regime} {percent(gain_of(table[APP], table[ANCHOR]))}")
    return f"Unseen genes, gain over the anchor in %: {'; '.join(said)}."


def _short_nothing() -> str:
    tables = [wide(errors(one), ["pair_2of2"]) for one in plan.ADDITIVE]
    over = {base: [100 * gain_of(table[APP], table[base]).gain for table in tables] for base in (ANCHOR, JOINT)}
    said = [f"{min(gains):z.1f} to {max(gains):z.1f} over {base}" for base, gains in over.items()]
    return f"Pairs that are sums, in four screens, gain in %: {', '.join(said)} (a sum, fitted on pairs too)."


def _of_the_sum(table: pd.DataFrame) -> str:
    return sentence("APP", "JointSum", gain_of(table[APP], table[JOINT]))


def _of_the_gate(table: pd.DataFrame) -> str:
    gain = gain_of(table[APP], table[UNGATED])
    return sentence("APP with its gate", "the same network without it", gain)


def _gates(one: Experiment, regime: str) -> dict[str, str]:
    return {f"seed {seed}": "{:.2f} ({})".format(*done["gates"].get(regime, (0.0, 0))) for seed, done in records(one)}


def unseen() -> Section:
    parts = [
        "## Unseen genes",
        "A quarter of the genes is in no training condition, and a quarter of the pairs of other genes is tested. "
        "200 pairs; the network lacks 30 % of the genes.",
    ]
    rows, gates = [], []
    for regime in UNSEEN_REGIMES:
        chosen = wide(errors(plan.UNSEEN), [regime])
        competitors = (APP, UNGATED, ANCHOR, "NearestPrior", "EmbeddingLinear", "Additive", "MeanShift")
        rows += [{"regime": regime, **row} for row in gains_over(chosen, competitors, of=APP)]
        gates.append({"regime": regime, **_gates(plan.UNSEEN, regime)})
        parts.append(f"{verdict(chosen, regime, of=APP)} {_of_the_anchor(chosen)}")
    found, of_gates = pd.DataFrame(rows), pd.DataFrame(gates)
    parts += [picture("app_unseen", "Error against the number of unseen genes"), markdown(found), "Gates:"]
    parts.append(markdown(of_gates))
    return Section("\n\n".join(parts), {"app_unseen": found}, _short_unseen())


def _of_the_anchor(table: pd.DataFrame) -> str:
    gain = gain_of(table[APP], table[ANCHOR])
    earned = "" if gain.low > 0 else " What APP is ahead of the other baselines by, it owes to the anchor."
    return sentence("APP", "its anchor", gain) + earned


def nothing() -> Section:
    parts = [
        "## Where nothing is to be found",
        "**Additive screens.** Pairs are exact sums on the log-rate scale. Logarithm and guide efficacy bend the sum "
        "on the scale of the prediction, more so where effects are large. How far true changes of pairs are from a "
        "multiple of the sum of the true changes of their singles, as mean L2 over pairs, against the sampling error "
        "of a measured mean:",
    ]
    bends = pd.DataFrame([_bent(one.world) for one in plan.ADDITIVE])
    parts.append(markdown(bends))
    rows = [_against_anchor(one, "pair_2of2", one.world) for one in plan.ADDITIVE]
    parts += [
        _claims(rows)
        + " A gain here is no gain by interactions. Training pairs tell more of the effects of their genes than "
        "the measured singles alone; the anchor does not use it, and the network in part. `JointSum`, which uses it "
        "and nothing but sums, is what to compare with.",
        markdown(_shown(rows)),
    ]
    parts.append("**A network that says nothing.** The decoy is the network under permuted names, and the only prior.")
    decoy = [_against_anchor(plan.DECOY_UNSEEN, regime, "unseen genes") for regime in UNSEEN_REGIMES[1:]]
    decoy += [
        _against_anchor(one, "pair_2of2", f"measured genes, {name}")
        for one, name in zip(plan.DECOY_PAIRS, ("responses off", "default"), strict=True)
    ]
    parts += [_claims(decoy), markdown(_shown(decoy))]
    parts.append(
        "With `responses=False` a gene's embedding holds nothing but the decoy, its expression in controls and a "
        "free vector that is learned from its training pairs; by default the measured responses enter too, so that a "
        "gain at pairs of measured genes is no gain of the network."
    )
    tables = {"app_additive": _shown(rows), "app_decoy": _shown(decoy), "app_additivity": bends}
    return Section("\n\n".join(parts), tables, _short_nothing())


def _bent(world: str) -> dict[str, object]:
    found = pd.DataFrame(bend(world)).mean()
    return {
        "screen": world,
        "pair's true change": f"{found['size']:.2f}",
        "minus a multiple of the sum, one for all pairs": f"{found['common']:.2f}",
        "minus its own multiple": f"{found['own']:.2f}",
        "noise of a measured mean": f"{found['noise']:.2f}",
    }


def _against_anchor(one: Experiment, regime: str, name: str) -> dict[str, object]:
    table = wide(errors(one), [regime])
    anchor = table[ANCHOR]
    gain = gain_of(table[APP], anchor)
    gates = [done["gates"].get(regime, (0.0, 0))[0] for _, done in records(one)]
    return {
        "case": name,
        "regime": regime,
        "anchor, L2": f"{anchor.mean():.3f}",
        f"{JOINT}, L2": f"{table[JOINT].mean():.3f}" if JOINT in table else "",
        "APP, L2": f"{table[APP].mean():.3f}",
        "gain over the anchor, % (95 % CI)": percent(gain),
        "per seed": by_seed(table[APP], anchor),
        f"gain over {JOINT}, %": percent(gain_of(table[APP], table[JOINT])) if JOINT in table else "",
        "gates": ", ".join(f"{gate:.2f}" for gate in gates),
        "n": gain.n,
        "word": word(gain),
    }


def _shown(rows: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(rows).drop(columns="word")


def _claims(rows: list[dict[str, object]]) -> str:
    """Where APP is better or worse than its anchor."""
    texts = []
    for said, start in (("lower", "Error below the anchor's"), ("higher", "Error above the anchor's")):
        named = [f"{row['case']} at {row['regime']}" for row in rows if row["word"] == said]
        texts.append(f"{start}: {', '.join(named) or 'nowhere'}.")
    return " ".join(texts)


def picture(name: str, alt: str) -> str:
    return f"```{{image}} ../_static/{name}.png\n:alt: {alt}\n```"
