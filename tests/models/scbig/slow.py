"""The network over programs written out for one member: numpy, one row, one program at a time."""

from __future__ import annotations

import numpy as np


def normed(x):
    return x / np.sqrt(np.mean(x**2) + 1e-6)


def damped(x):
    return np.sign(x) * np.log1p(abs(x))


class SlowMember:
    """One member in evaluation mode.

    ``arrays`` are the parameters of one member by the names of the state dict, ``shape`` what the network was built
    from, ``member`` its number.
    """

    def __init__(self, arrays, shape, settings, member):
        self.arrays, self.shape, self.settings, self.member = arrays, shape, settings, member
        self.program = shape.program.numpy()
        self.n_programs = self.program.max() + 1
        self.basis = shape.response_basis.numpy()

    # -- layers ------------------------------------------------------------------------------------------------------

    def linear(self, name, x):
        out = np.array(self.arrays.get(f"{name}.bias", 0.0))
        for value, weights in zip(x, self.arrays[f"{name}.weight"], strict=True):
            out = out + value * weights
        return out

    def perceptron(self, name, x):
        return self.linear(f"{name}.out", np.maximum(self.linear(f"{name}.hidden", x), 0))

    def layer_norm(self, name, x):
        centred = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        return centred * self.arrays[f"{name}.weight"] + self.arrays[f"{name}.bias"]

    # -- the perturbed genes -----------------------------------------------------------------------------------------

    def node(self, i):
        x = [*(self.arrays["features.free.weight"][i] * bool(self.shape.known[self.member, i]))]
        for values, present in self.shape.tables.values():
            x += [*(values[i].numpy() * bool(present[i])), float(present[i])]
        return self.linear("features.linear", x)

    def part(self, row, k):
        return row["measured_part" if row["measured"][k] else "expected_part"][k]

    def tokens(self, row):
        found = []
        for k, node in enumerate(row["nodes"]):
            x = [*normed(self.node(node)), *normed(self.part(row, k) @ self.basis), row["measured"][k]]
            found.append(normed(self.linear("condition.token", x)))
        return found

    def unmeasured(self, row):
        return [(1 - seen) * token for token, seen in zip(self.tokens(row), row["measured"], strict=True)]

    def multiplied(self, row):
        return [self.linear("condition.products", token) for token in self.tokens(row)]

    def said(self, row):
        """Sum of tokens without a measured part, and of products over pairs."""
        products = self.multiplied(row)
        pairs = sum((products[a] * products[b] for a in range(len(products)) for b in range(a)), self.no_products())
        return np.concatenate([sum(self.unmeasured(row), np.zeros(self.settings.d)), pairs])

    def no_products(self):
        return np.zeros(self.arrays["condition.products.weight"].shape[1])

    # -- programs ----------------------------------------------------------------------------------------------------

    def response_of(self, row, k):
        """(2 r,) the parts of the anchor in the patterns of a program, and their products over pairs."""
        n_patterns = self.basis.shape[1] // self.n_programs
        linear, products = [], []
        for column in range(k * n_patterns, (k + 1) * n_patterns):
            pattern, own = self.basis[:, column], []
            for j in range(len(row["nodes"])):
                own.append(sum(self.part(row, j)[self.program == k] * pattern[self.program == k]))
            scaled = np.array(own) / (sum(pattern**2) + 1e-12)
            linear.append(damped(scaled.sum()))
            products.append(damped(sum(scaled[a] * scaled[b] for a in range(len(scaled)) for b in range(a))))
        return [*linear, *products]

    def perturbed(self, row):
        """(K, d) tokens of the programs."""
        said = self.said(row)
        u = self.linear("of_condition", said) - self.linear("of_condition", np.zeros_like(said))
        return np.array([
            self.arrays["programs.weight"][k] + u + self.linear("of_program", self.response_of(row, k))
            for k in range(self.n_programs)
        ])  # fmt: skip

    def attention(self, x):
        names = [f"encoder.mixing.{name}" for name in ("query", "key", "value")]
        query, key, value = (np.array([self.linear(name, one) for one in x]) for name in names)
        width, out = x.shape[1] // self.settings.heads, []
        for head in range(self.settings.heads):
            part = slice(head * width, (head + 1) * width)
            scores = query[:, part] @ key[:, part].T / np.sqrt(width)
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            out.append(powers / powers.sum(axis=1, keepdims=True) @ value[:, part])
        return np.array([self.linear("encoder.mixing.out", one) for one in np.concatenate(out, axis=1)])

    def encode(self, x):
        x = np.array([self.layer_norm("encoder.norms.0", one) for one in x + self.attention(x)])
        further = np.array([self.perceptron("encoder.feed_forward", one) for one in x])
        return np.array([self.layer_norm("encoder.norms.1", one) for one in x + further])

    def of_programs(self, row):
        """(G,) what the tokens of the programs say, gene by gene."""
        moved = self.encode(self.perturbed(row)) - self.encode(self.arrays["programs.weight"])
        return np.array([self.arrays["readout"][gene] @ moved[own] for gene, own in enumerate(self.program)])

    # -- all of it ---------------------------------------------------------------------------------------------------

    def answer(self, row):
        """(G,) residual."""
        said, patterns = self.said(row), self.shape.residual_basis[self.member].numpy()
        coordinates = [self.linear("skip.coordinates", one) for one in (said, np.zeros_like(said))]
        residual = patterns @ (coordinates[0] - coordinates[1])
        products = self.multiplied(row)
        for k, own in enumerate(self.unmeasured(row)):
            others = sum((products[k] * products[j] for j in range(len(products)) if j != k), self.no_products())
            residual = residual + self.linear("condition.part_scale", [*own, *others])[0] * self.part(row, k)
        for k, node in enumerate(row["nodes"]):
            gene = int(self.shape.gene_of[node])
            if gene >= 0 and not row["measured"][k]:
                constant, slope = self.arrays["of_target"]
                residual[gene] += constant + slope * self.shape.control[gene].item()
        return residual + self.of_programs(row) if self.settings.use_tokens else residual


def plain_rows(batch):
    """The rows of a batch without padding."""
    rows = []
    for b in range(len(batch["node"])):
        n = int(batch["present"][b].sum())
        row = {name: batch[name][b, :n].numpy() for name in ("measured", "measured_part", "expected_part")}
        rows.append(row | {"nodes": batch["node"][b, :n].tolist()})
    return rows


def member_of(module, shape, member):
    """The slow form of one member of a module."""
    arrays = {name: one.detach().numpy()[member] for name, one in module.named_parameters()}
    return SlowMember(arrays, shape, module.settings, member)


# -- cells that are multiplied ---------------------------------------------------------------------------------------


def rescaled(cells, own, reference, of_reference, change, find):
    """Gene by gene; ``find`` (a function, lower, upper) gives where it is 0. NaN where no factor reaches the mean."""
    found = np.full(cells.shape, np.nan)
    for gene in range(cells.shape[1]):
        strength = np.expm1(reference[:, gene]) * np.exp(of_reference[:, gene])
        target = max(reference[:, gene].mean() + change[gene], 0.0)

        def missing(factor, strength=strength, target=target):
            return np.log1p(strength * np.exp(factor)).mean() - target

        if missing(-20.0) < 0 < missing(6.0):
            factor = find(missing, -20.0, 6.0)
            found[:, gene] = np.log1p(np.expm1(cells[:, gene]) * np.exp(own[:, gene] + factor))
    return found
