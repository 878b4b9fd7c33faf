"""What can be set in a simulated screen, and the named presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import ceil, isfinite
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any

from scperturb_modules._errors import DataError, name_some
from scperturb_modules._presets import with_preset

INTERACTION_RULES = ("module_rule", "random", "none")
SYS_DOUBLES = ("once", "per_gene")
MODULE_SIZES = ("equal", "unequal")
N_MEDIATORS = 3
LEAST_MODULE = 0.03  # share of the genes, in modules of unequal size


@dataclass(frozen=True)
class SimulationSettings:
    """Settings of :func:`simulate`; effects are in natural-log units of the rate.

    Parameters
    ----------
    n_genes
        Measured genes, the perturbable ones among them.
    n_perturbable
        Genes with a guide; each is a single-perturbation condition.
    n_pairs
        Double perturbations.
    n_cells
        Cells per condition and cell type.
    n_controls
        Control cells per cell type.
    n_batches
        Batches; every condition is spread evenly over them.
    n_modules
        Blocks of the gene graph; at least 3, since a neomorphic pair acts on a third module.
    module_sizes
        ``"equal"``, or ``"unequal"``: shares of a Dirichlet(2) distribution, each at least 3 % of the genes.
    module_sd
        Standard deviation between cells of the activity of each module, in log-rate units; genes follow it with
        loadings of 0.6-1.4 times this value, and at 0 modules do not vary as such.
    rewiring
        How strongly (0-1) perturbations change which modules go together; at 0 all modules are independent in all
        cells.
    n_cell_types
        Cell types (``obs["cell_type"]`` exists for 2 or more).
    effect_scale
        Size of the specific effect; at 1 the shared response of a module has a standard deviation of 0.3 per gene.
    effect_spread
        Log-scale standard deviation of the strength of single perturbations.
    own_effect
        Effect on the perturbed gene itself (negative: interference).
    sys
        Size of the systematic effect that all perturbed cells share.
    sys_doubles
        ``"once"``: a double has the systematic effect once. ``"per_gene"``: once per perturbed gene.
    prior_strength
        Share (0-1) of the squared specific effect that graph and modules explain; 0 makes unseen genes unpredictable.
    gi
        How a pair gets its class: ``"module_rule"`` (by the modules of its genes, learnable), ``"random"``
        (unlearnable; a redundant pair then has the coefficients of one, but not similar singles), ``"none"`` (all
        additive).
    guide_efficacy
        Share of cells in which the guide works; the others keep the label without the effect.
    state_effect
        Strength with which the first cell programme modulates the effect, ``1 + state_effect * z``.
    cell_type_sd
        How much effects differ from one cell type to another (standard deviation of the per-gene factor around 1).
    batch_sd, programme_sd
        Standard deviation per gene of the batch shift, and of the loadings of the two cell programmes.
    library_log_mean, library_log_sd
        Mean and standard deviation of the log library size.
    dispersion
        Of the negative binomial counts: ``var = mean + dispersion * mean**2``.
    dropout
        Probability with which counts of a very weakly expressed gene are lost in addition; logistic in the log rate,
        half of it at a rate of one count per 10,000.
    """

    n_genes: int = 600
    n_perturbable: int = 40
    n_pairs: int = 60
    n_cells: int = 100
    n_controls: int = 600
    n_batches: int = 2
    n_modules: int = 8
    module_sizes: str = "equal"
    module_sd: float = 0.0
    rewiring: float = 0.0
    n_cell_types: int = 1
    effect_scale: float = 2.0
    effect_spread: float = 0.4
    own_effect: float = -1.5
    sys: float = 0.3
    sys_doubles: str = "once"
    prior_strength: float = 1.0
    gi: str = "module_rule"
    guide_efficacy: float = 0.85
    state_effect: float = 0.0
    cell_type_sd: float = 0.4
    batch_sd: float = 0.15
    programme_sd: float = 0.3
    library_log_mean: float = 8.5
    library_log_sd: float = 0.35
    dispersion: float = 0.3
    dropout: float = 0.0

    def __post_init__(self) -> None:
        self._check_kinds()
        self._check_counts()
        self._check_ranges()

    def _check_kinds(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and not isinstance(value, Integral):
                raise DataError(f"{field.name}={value!r}, but it is a whole number.")
            if field.type == "float" and not (isinstance(value, Real) and isfinite(value)):
                raise DataError(f"{field.name}={value!r}, but it is a finite number.")

    def _check_counts(self) -> None:
        for name in ("n_perturbable", "n_cells", "n_controls", "n_batches", "n_cell_types"):
            if getattr(self, name) < 1:
                raise DataError(f"{name}={getattr(self, name)}, but it must be at least 1.")
        if self.n_modules < 3:
            raise DataError(
                f"n_modules={self.n_modules}, but a neomorphic pair needs a third module; set n_modules >= 3."
            )
        per_module = (self.n_genes - self.n_perturbable) // self.n_modules
        if per_module < N_MEDIATORS:
            raise DataError(
                f"n_genes={self.n_genes} leaves {max(per_module, 0)} unperturbed genes per module, and each module "
                f"needs {N_MEDIATORS} mediators; raise n_genes, or lower n_perturbable or n_modules."
            )
        least = ceil(LEAST_MODULE * self.n_genes)
        if self.module_sizes == "unequal" and self.n_modules * least > self.n_genes:
            raise DataError(
                f"n_modules={self.n_modules}, but modules of unequal size have at least {least} of {self.n_genes} "
                f"genes each; set n_modules <= {self.n_genes // least}."
            )
        n_possible = self.n_perturbable * (self.n_perturbable - 1) // 2
        if not 0 <= self.n_pairs <= n_possible:
            raise DataError(f"n_pairs={self.n_pairs}, but {self.n_perturbable} genes form {n_possible} pairs.")

    def _check_ranges(self) -> None:
        for name in ("prior_strength", "guide_efficacy", "dropout", "rewiring"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"{name}={getattr(self, name)}, but it lies between 0 and 1.")
        for name in ("effect_spread", "cell_type_sd", "batch_sd", "programme_sd", "module_sd", "library_log_sd"):
            if getattr(self, name) < 0:
                raise DataError(f"{name}={getattr(self, name)}, but a standard deviation is not negative.")
        if self.rewiring > 0 and self.module_sd == 0:
            raise DataError(
                f"rewiring={self.rewiring}, but modules have no activity that could be coordinated; set module_sd > 0."
            )
        if self.dispersion <= 0:
            raise DataError(f"dispersion={self.dispersion}, but it must be above 0; use 1e-6 for Poisson counts.")
        for name, allowed in (("gi", INTERACTION_RULES), ("sys_doubles", SYS_DOUBLES), ("module_sizes", MODULE_SIZES)):
            if getattr(self, name) not in allowed:
                raise DataError(f"{name}={getattr(self, name)!r}; choose one of {name_some(allowed)}.")


PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        # nothing happens in any condition: every score above chance is an error of the judge
        "null": {"effect_scale": 0.0, "sys": 0.0, "own_effect": 0.0, "gi": "none"},
        # doubles are the exact sum of singles: no model may claim to have found interactions
        "additive_only": {"gi": "none", "sys_doubles": "per_gene"},
        # every condition shows the same response, and nothing specific
        "sys_only": {"effect_scale": 0.0, "sys": 1.0, "own_effect": 0.0, "gi": "none"},
        # effects unrelated to graph and modules: nobody can predict unseen genes
        "unpredictable": {"prior_strength": 0.0, "gi": "random"},
        "two_cell_types": {"n_cell_types": 2, "n_cells": 60, "n_controls": 300},
        # gene programs can be found from how cells vary, and perturbations change how programs go together
        "programs": {
            "module_sd": 0.5,
            "rewiring": 1.0,
            # under larger effects, cells with and without a working guide make modules correlate by themselves
            "effect_scale": 1.0,
            "n_cells": 150,
            "n_controls": 1500,
        },
        # 12 conditions, for tests and examples
        "tiny": {"n_genes": 80, "n_perturbable": 6, "n_pairs": 6, "n_cells": 60, "n_controls": 200, "n_modules": 4},
    }
)


def settings_of(preset: str, overrides: Mapping[str, Any]) -> SimulationSettings:
    """The settings of a preset, with ``overrides`` on top."""
    return with_preset(SimulationSettings, PRESETS, preset, overrides, owner="simulate()")
