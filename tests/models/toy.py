"""The smallest model on the base: each row is its anchor's change times three learned numbers per gene order."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from scvi.module.base import BaseModuleClass, LossOutput

from scperturb_modules._conditions import genes_of
from scperturb_modules.dataloaders import ConditionDataModule, PseudobulkDataset
from scperturb_modules.models import NetworkAnswer, PerturbationModel


class ToyModule(BaseModuleClass):
    """residual (C, G) = anchor (C, G) * scale (G,) + order (C, 1) * shift (G,)."""

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(n_genes))
        self.shift = torch.nn.Parameter(torch.zeros(n_genes))

    def _get_inference_input(self, tensors, **kwargs):
        return {"anchor": tensors["anchor"], "order": tensors["order"]}

    def _get_generative_input(self, tensors, inference_outputs, **kwargs):
        return inference_outputs

    def inference(self, anchor, order):
        return {"residual": anchor * self.scale + order[:, None] * self.shift}

    def generative(self, residual):
        return {"residual": residual}

    def loss(self, tensors, inference_outputs, generative_outputs):
        error = (tensors["anchor"] + generative_outputs["residual"] - tensors["delta"]).square().mean(1)
        weight = tensors["weight"].sum()
        loss = (tensors["weight"] * error).sum() / weight.clamp(min=1)
        return LossOutput(loss=loss, extra_metrics={"loss_weight": weight}, n_obs_minibatch=len(error))


class Toy(PerturbationModel):
    options: ClassVar = ("seed", "width", "unknown", "features")

    def __init__(self, adata, *, priors=None, seed=0, width=2, unknown="anchor", features=("a", "b")):
        super().__init__(adata, priors=priors, seed=seed)
        self.width, self.unknown, self.features = width, unknown, features
        self.factor = 0.0
        self.module = ToyModule(self.training.n_vars)
        self._finish()

    def _arrays(self, rows, anchors):
        return {
            "anchor": np.array(anchors, np.float32).reshape(len(rows), -1),
            "order": np.array([len(genes_of(condition)) for condition, _ in rows], np.float32),
        }

    def _datamodule(self, *, batch_size, num_workers):
        rows = self.data.rows
        anchors = [self.anchor_of.leave_one_out(genes_of(name), context).delta for name, context in rows]
        arrays = self._arrays(rows, anchors) | {"delta": self.data.delta.astype(np.float32)}
        out = np.arange(len(rows)) % 4 == 0
        parts = [PseudobulkDataset({name: one[chosen] for name, one in arrays.items()}) for chosen in (~out, out)]
        return ConditionDataModule(*parts, batch_size=batch_size, seed=self.seed, num_workers=num_workers)

    def _after_training(self):
        self.factor = 0.5

    def _fitted(self):
        return {"factor": self.factor, "gates": {"pair_2of2": (0.5, np.arange(2.0))}}

    def _restore(self, fitted):
        self.factor = fitted["factor"]

    def _facts(self):
        return {"gate": f"all {self.factor}"}

    def _network_answer(self, rows):
        anchors = self._anchor_responses(rows)
        residual = []
        for row, anchor in zip(rows, anchors, strict=True):
            arrays = {name: torch.as_tensor(one) for name, one in self._arrays([row], [anchor.delta]).items()}
            residual.append(self.module.inference(**arrays)["residual"][0].double().numpy())
        distance = pd.DataFrame({"nearest": np.arange(len(rows), dtype=np.float32)})
        return NetworkAnswer(
            residual=np.array(residual),
            gate=np.full(len(rows), self.factor),
            status=tuple("isolated" if "G07" in row[0] else "" for row in rows),
            tables={"attention_nodes": np.array(["G00", "X01"]), "attention_tv": 0.25, "distance": distance},
            obsm={"attention": np.full((len(rows), 2), 0.5, np.float32)},
        )
