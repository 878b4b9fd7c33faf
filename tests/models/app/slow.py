"""The network of APP written out for one member: numpy, dense matrices, one row, one gene, one head at a time."""

from __future__ import annotations

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normed(x):
    return x / np.sqrt(np.mean(x**2) + 1e-6)


class SlowMember:
    """One member in evaluation mode.

    ``arrays`` are the parameters and the buffers of one member by the names of the state dict, ``graph`` the module of
    the slow layer, ``shape`` what the network was built from.
    """

    def __init__(self, arrays, shape, settings, graph, member):
        self.arrays, self.shape, self.settings, self.graph, self.member = arrays, shape, settings, graph, member
        self.adjacencies = [one.toarray() for one in shape.adjacencies]
        self.h = self.embeddings()

    def linear(self, name, x):
        out = np.array(self.arrays.get(f"{name}.bias", np.zeros(self.arrays[f"{name}.weight"].shape[1])))
        for i, value in enumerate(x):
            out = out + value * self.arrays[f"{name}.weight"][i]
        return out

    def embeddings(self):
        kind = self.settings.embedding
        if kind != "graph":
            return self.arrays["nodes.table" if kind == "random" else "nodes.free.weight"]
        h = np.array([self.start(i) for i in range(self.shape.known.shape[1])])
        n_layers = self.settings.n_layers if self.adjacencies else 0
        for layer in range(n_layers):
            prefix = f"nodes.layers.{layer}."
            weights = {name.removeprefix(prefix): values for name, values in self.arrays.items()}
            last = layer == n_layers - 1 and not self.settings.final_activation
            options = {name: getattr(self.settings, name) for name in ("agg", "combine", "fuse")}
            activation = None if last else self.settings.activation
            h = self.graph.slow_layer(h, self.adjacencies, weights, activation=activation, **options)
        return h

    def start(self, i):
        x = []
        if "learned" in self.settings.features:
            known = bool(self.shape.known[self.member, i]) or not self.shape.tables
            x += list(known * self.arrays["nodes.features.free.weight"][i])
        for values, present in self.shape.tables.values():
            x += [*(values[i].numpy() * bool(present[i])), float(present[i])]
        return self.linear("nodes.features.linear", x) if self.shape.tables else np.array(x, dtype=float)

    def tokens(self, row):
        if "condition.token.weight" not in self.arrays:
            return [self.h[node] for node in row["nodes"]]
        found = []
        for k, node in enumerate(row["nodes"]):
            x = list(normed(self.h[node]))
            if self.settings.responses:
                part = row["measured_part" if row["measured"][k] else "expected_part"][k]
                x += [*normed(part @ self.shape.response_basis.numpy()), row["measured"][k]]
            found.append(normed(self.linear("condition.token", x)))
        return found

    def scores(self, context, head):
        d, n_heads = self.settings.d, self.settings.heads
        scores = np.zeros(len(self.h))
        per_context = self.settings.attention == "all"
        for i, h in enumerate(self.h):
            if "additive" in self.settings.score or not per_context:
                inside = self.linear("attention.of_gene", h)
                if per_context:
                    inside = inside + self.linear("attention.of_context", context)
                piece = slice(head * d // n_heads, (head + 1) * d // n_heads)
                scores[i] += self.arrays["attention.v"][head] @ np.tanh(inside[piece])
            if "bilinear" in self.settings.score and per_context:
                asked = self.linear("attention.bilinear", context)[head * d : (head + 1) * d]
                scores[i] += asked @ h / np.sqrt(d)
        return scores

    def attend(self, context):
        states, alphas = [], []
        inside = np.flatnonzero(~self.shape.outside.numpy())
        for head in range(self.settings.heads):
            alpha = np.zeros(len(self.h))
            alpha[inside] = self.graph.slow_softmax(self.scores(context, head)[inside])
            alphas.append(alpha)
            states.append(sum(alpha[i] * self.h[i] for i in range(len(self.h))))
        return np.concatenate(states), np.mean(alphas, axis=0)

    def context(self, tokens, n_genes, covariate):
        context = sum(tokens, np.zeros(self.settings.d))
        if self.settings.context in ("mean", "mean+count"):
            context = context / n_genes
        if "covariate.weight" in self.arrays:
            context = context + self.linear("covariate", covariate)
        return context

    def state(self, tokens, context, skip):
        """What the head reads, of any number of genes, none included."""
        if self.settings.attention == "context":
            blocks, alpha = [skip], None
        else:
            attended, alpha = self.attend(context)
            blocks = [attended, skip] if self.settings.context_skip else [attended]
        if self.settings.context in ("mean+count", "interaction"):
            blocks.append([float(min(len(tokens), 3) == n) for n in (1, 2, 3)])
        if self.settings.context == "interaction":
            features = [self.linear("condition.products", token) for token in tokens]
            products = np.zeros(self.arrays["condition.products.weight"].shape[1])
            for a in range(len(features)):
                for b in range(a):
                    products = products + features[a] * features[b]
            blocks.append(products)
        return np.concatenate(blocks), alpha

    def head(self, state):
        if self.settings.head == "lowrank":
            return self.shape.basis[self.member].numpy() @ self.linear("head.coordinates", state)
        if self.settings.head == "mlp":
            state = np.maximum(self.linear("head.hidden", state), 0)
        return self.linear("head.out", state)

    def answer(self, row):
        """Residual (G,), inner gate, attention (N,) or None."""
        tokens = self.tokens(row)
        covariate = self.shape.covariates[row["context"]].numpy()
        unmeasured = [(1 - seen) * token for token, seen in zip(tokens, row["measured"], strict=True)]
        context, skip = (self.context(each, len(tokens), covariate) for each in (tokens, unmeasured))
        state, alpha = self.state(tokens, context, skip)
        residual = self.head(state)
        if self.settings.center_control:
            nothing = np.zeros(self.settings.d)
            residual = residual - self.head(self.state([], nothing, nothing)[0])
        if self.settings.scale_parts:
            for k in range(len(tokens)):
                residual = residual + self.part_factor(tokens, unmeasured, k) * self.part(row, k)
        return residual, self.gate(row, covariate), alpha

    def part(self, row, k):
        return row["measured_part" if row["measured"][k] else "expected_part"][k]

    def part_factor(self, tokens, unmeasured, k):
        others = [token for j, token in enumerate(tokens) if j != k]
        if self.settings.context == "interaction":
            own = self.linear("condition.products", tokens[k])
            said = sum((own * self.linear("condition.products", token) for token in others), np.zeros_like(own))
        else:
            said = sum(others, np.zeros(self.settings.d))
        return self.linear("condition.part_scale", [*unmeasured[k], *said])[0]

    def gate(self, row, covariate):
        if not self.settings.inner_gate:
            return 1.0
        n, n_measured = len(row["nodes"]), sum(row["measured"])
        alone = sum(bool(self.shape.isolated[node]) for node in row["nodes"]) / n
        facts = [float(min(n_measured, 2) == i) for i in range(3)] + [float(min(n, 3) == i) for i in (1, 2, 3)]
        return sigmoid(self.linear("inner_gate", [*facts, alone, *covariate])[0] + 1)


def plain_rows(batch):
    """The rows of a batch without padding."""
    rows = []
    for b in range(len(batch["node"])):
        n = int(batch["present"][b].sum())
        row = {name: batch[name][b, :n].numpy() for name in ("measured", "measured_part", "expected_part")}
        rows.append(row | {"nodes": batch["node"][b, :n].tolist(), "context": int(batch["context"][b])})
    return rows


def arrays_of_member(module, member, per_member_buffers):
    """Parameters and buffers of one member."""
    arrays = {name: value.detach().numpy()[member] for name, value in module.named_parameters()}
    for name, value in module.named_buffers():
        if name.rpartition(".")[2] in per_member_buffers:
            arrays[name] = value.numpy()[member]
    return arrays


def slow_moments(batch, difference, step, scale):
    """What validation logs, by loops over members and rows; ``difference`` (B, G), ``step`` (M, B, G)."""
    total, sums = (
        0.0,
        dict.fromkeys(("product_single", "square_single", "product_combination", "square_combination"), 0.0),
    )
    for b in range(step.shape[1]):
        kind = "combination" if batch["is_combination"][b] > 0 else "single"
        for m in range(step.shape[0]):
            weight = float(batch["held_out"][b, m] * batch["row_weight"][b] * batch["weight"][b])
            total += weight
            sums[f"product_{kind}"] += weight * float(np.mean(difference[b] * step[m, b])) / scale
            sums[f"square_{kind}"] += weight * float(np.mean(step[m, b] ** 2)) / scale
    return total, {name: value / total for name, value in sums.items()}
