"""Plain words for what the tables name by short keys, for readers who have never seen the package."""

from __future__ import annotations

from scperturb_modules.metrics import METRICS
from scperturb_modules.pl._style import REGIME_LABELS, metric_label

SPLITS = {
    "combination": "pairs held out",
    "unseen_gene": "genes held out, with all their pairs",
    "unseen_single": "single genes held out",
    "unseen_cluster": "groups of related genes held out",
    "unseen_context": "cell types held out",
    "custom": "held out by the user",
}

DIRECTIONS = {"lower": "lower is better", "higher": "higher is better", "one": "1 is best"}

METRIC_HELP = {
    "l2_top1000": "How far the predicted change is from the measured one, over the 1,000 genes that are highest in "
    "control cells. 0 is perfect. Every verdict rests on it.",
    "mse": "Mean squared error over all genes.",
    "mse_de20": "Squared error over the 20 genes that changed most.",
    "pearson_delta": "Do predicted and measured changes rise and fall together, over all genes? 1 is perfect. It "
    "ignores size, and any shift that all perturbations share raises it.",
    "pearson_delta_de20": "The same over the 20 genes that changed most: only 20 points, so a rough number.",
    "pearson_pert": "The same after the average perturbation is taken off both sides: is what is special about this "
    "perturbation predicted?",
    "pearson_pert_de20": "The same over the 20 genes that changed most: only 20 points, so a rough number.",
    "pds_l1": "Is the prediction nearer to its own truth than to those of others? 1 is always, 0.5 is chance.",
    "pds_l2": "Is the prediction nearer to its own truth than to those of others? 1 is always, 0.5 is chance.",
    "pds_cos": "The same by direction alone, whatever the size.",
    "auprc_de": "Are the significantly changed genes ranked first? 1 is perfect, chance is the share of changed genes.",
    "sign_de20": "Share of the 20 most changed genes whose direction, up or down, is right. 0.5 is chance.",
    "within5_de20": "Share of the 20 most changed genes whose mean is predicted within 5 %.",
    "slope": "Are effects predicted at the right size? 1 is right; above 1 they are predicted too small.",
    "norm_ratio": "Size of the predicted change over the size of the measured one. 1 is right.",
    "collapse": "Do predictions differ between conditions as much as the truth does? 0 means one and the same "
    "prediction for all, 1 the right spread.",
}

WORDS = {
    "beats": "Better than each of the plain baselines that count here, and the 95 % interval excludes chance.",
    "no better": "The interval includes no gain: use the baseline, it is simpler.",
    "worse": "The interval lies below 0 for a baseline: do not use it here.",
    "shrinkage only": "Better than the plain sum of two single effects, but not than the sum with its noise "
    "shrunk: no sign that an interaction was learned.",
    "cannot tell": "Too few conditions, or too much noise, to rank predictors.",
}

STATUSES = {
    "missing": "No prediction was given; it is scored as no change, so that abstaining earns nothing.",
    "few_cells": "Too few cells were measured: the condition is not scored.",
    "few_genes": "Fewer than five genes to compare: not scored.",
    "few_conditions": "Fewer than ten conditions: a metric over all conditions is not computed.",
    "constant_prediction": "The same number for all genes: correlations score 0.",
    "constant_truth": "The measured change is the same for all genes: correlations are not defined.",
    "no_true_de": "No gene changed significantly: the ranking of changed genes is not scored.",
    "all_de": "All genes changed significantly: the ranking of changed genes is not scored.",
    "unknown_gene": "A perturbed gene is unknown to the predictor, which falls back on a simple guess.",
    "no_embedding": "No prior knowledge describes a perturbed gene; the predictor falls back on an average.",
    "isolated": "A perturbed gene has no neighbour in any network.",
    "too_few_for_gate": "Too few training conditions to learn how far the network may be trusted.",
    "control_unmatched": "A batch has no control cells of its own.",
    "degenerate": "The score is not defined on these values.",
    "error": "The run of the predictor failed; it is scored as no change.",
}

GLOSSARY = {
    "Condition": "A perturbed gene or a combination of genes, for example A+B, in one cell type.",
    "Held-out, test condition": "A measured condition that was hidden from the predictor and then predicted.",
    "Baseline": "A simple rule without machine learning, such as “no change” or “the sum of the two single effects”. "
    "A model is of use only where it is better.",
    "Error (L2)": METRIC_HELP["l2_top1000"],
    "Gain": "How much lower the error is than that of the baseline, in per cent. Below 0 the baseline is better.",
    "95 % CI": "Confidence interval: where the true value would lie in 95 of 100 such experiments.",
    "n": "Number of test conditions. Conditions, not cells, are the repeats that count here.",
    "Replicate": "One half of a condition's cells, compared with the other half: what a perfect repeat would score.",
    "Room": "Share of the baseline's squared error that is not measurement noise: what can still be gained.",
    "90 % interval": "Range in which a measured change should lie in 9 of 10 cases; the page says how often it does.",
    "Abstains": "The condition is unlike anything that was seen: do not believe this prediction.",
    "Split, fold": "One way to divide the conditions into training and test; every condition is tested in turn.",
    "Genetic interaction": "The effect of a pair differs from the sum of its two single effects.",
} | {f"“{word}”": text for word, text in WORDS.items()}  # fmt: skip


def regime_text(regime: str) -> str:
    """How much of a condition was seen in training."""
    return REGIME_LABELS.get(regime, regime)


def split_text(split: str) -> str:
    """What was held out."""
    return SPLITS.get(split, split)


def metric_option(metric: str) -> str:
    """A metric with its direction, for a list to choose from."""
    known = METRICS.get(metric)
    return f"{metric_label(metric)}: {DIRECTIONS[known.better]}" if known else metric


def metric_help(metric: str) -> str:
    """What a metric says, in plain words."""
    known = METRICS.get(metric)
    return METRIC_HELP.get(metric, known.note if known else metric)


def some(names: list[str], most: int = 12) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")
