"""BioDSNN: a data stream of cells and a knowledge stream of graphs and pathways, gated residual on the anchor."""

from scperturb_modules.models.biodsnn._model import BioDSNN
from scperturb_modules.models.biodsnn._settings import ABLATIONS, PRESETS, BioDsnnSettings

__all__ = ["ABLATIONS", "PRESETS", "BioDSNN", "BioDsnnSettings"]
