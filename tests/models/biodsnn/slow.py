"""The knowledge stream of BioDSNN written out for one member: numpy, dense matrices, one row, one gene at a time."""

from __future__ import annotations

import numpy as np


def normed(x):
    return x / np.sqrt(np.mean(x**2) + 1e-6)


def damped(x):
    return np.sign(x) * np.log1p(abs(x))


class SlowMember:
    """One member in evaluation mode.

    ``arrays`` are the parameters and the buffers of one member by the names of the state dict, ``shape`` what the
    network was built from, ``member`` its number.
    """

    def __init__(self, arrays, shape, settings, member):
        self.arrays, self.shape, self.settings, self.member = arrays, shape, settings, member
        self.n_genes = len(shape.response_basis)
        self.base = np.array([self.perceptron("of_gene", x) for x in self.of_genes()])
        self.nodes = self.of_nodes()
        self.unperturbed = self.encode(self.base)

    # -- layers ------------------------------------------------------------------------------------------------------

    def linear(self, name, x):
        weight = self.arrays[f"{name}.weight"]
        out = np.array(self.arrays.get(f"{name}.bias", np.zeros(weight.shape[1])))
        for i, value in enumerate(x):
            out = out + value * weight[i]
        return out

    def perceptron(self, name, x):
        return self.linear(f"{name}.out", np.maximum(self.linear(f"{name}.hidden", x), 0))

    def layer_norm(self, name, x):
        centred = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        return centred * self.arrays[f"{name}.weight"] + self.arrays[f"{name}.bias"]

    def propagated(self, name, x, matrices):
        """What each node hears over each network, mapped and added up."""
        out = np.zeros_like(x)
        for r, matrix in enumerate(one.toarray() for one in matrices):
            for i in range(len(x)):
                heard = sum((matrix[i, j] * x[j] for j in range(len(x))), np.zeros(x.shape[1]))
                out[i] += self.linear(f"{name}.maps.{r}", heard)
        return out

    # -- what depends on no perturbation -----------------------------------------------------------------------------

    def of_genes(self):
        base = [np.maximum(self.layer_norm("norm", own), 0) for own in self.arrays["genes.weight"]]
        if self.shape.coexpression is None:
            return base
        heard = self.propagated("coexpressed", self.arrays["positions.weight"], [self.shape.coexpression])
        return [own + self.settings.coexpression_weight * other for own, other in zip(base, heard, strict=True)]

    def of_nodes(self):
        nodes = []
        for i, free in enumerate(self.arrays["features.free.weight"]):
            if not self.shape.tables:
                nodes.append(free)
                continue
            x = [*(free * bool(self.shape.known[self.member, i]))]
            for values, present in self.shape.tables.values():
                x += [*(values[i].numpy() * bool(present[i])), float(present[i])]
            nodes.append(self.linear("features.linear", x))
        nodes = np.array(nodes)
        return self.propagated("of_networks", nodes, self.shape.networks) if self.shape.networks else nodes

    # -- a condition -------------------------------------------------------------------------------------------------

    def part(self, row, k):
        return row["measured_part" if row["measured"][k] else "expected_part"][k]

    def tokens(self, row):
        tokens = [self.nodes[node] for node in row["nodes"]]
        if "condition.token.weight" not in self.arrays:
            return tokens
        found = []
        for k, own in enumerate(tokens):
            x = [*normed(own)]
            if self.settings.responses:
                x += [*normed(self.part(row, k) @ self.shape.response_basis.numpy()), row["measured"][k]]
            found.append(normed(self.linear("condition.token", x)))
        return found

    def multiplied(self, token):
        return self.linear("condition.products", token)

    def read(self, row):
        """What is read of the perturbed genes together: sum of tokens, sum of products over pairs."""
        tokens = self.tokens(row)
        read = sum(self.unmeasured(row, tokens), np.zeros(self.settings.d))
        if not self.settings.products:
            return read
        products = np.zeros(self.arrays["condition.products.weight"].shape[1])
        for a in range(len(tokens)):
            for b in range(a):
                products = products + self.multiplied(tokens[a]) * self.multiplied(tokens[b])
        return np.concatenate([read, products])

    def parts_at(self, row, n):
        """Sum of the parts of the anchor at a gene, and sum of their products over pairs."""
        parts = [self.part(row, k)[n] / self.shape.part_scale for k in range(len(row["nodes"]))]
        products = sum(parts[a] * parts[b] for a in range(len(parts)) for b in range(a))
        return damped(sum(parts)), damped(products)

    def perturbed(self, row):
        """(G, d) what the encoder reads."""
        read = self.read(row)
        x = self.base + self.perceptron("fuse", read) - self.perceptron("fuse", np.zeros_like(read))
        if self.settings.target_marker:
            for node in row["nodes"]:
                gene = int(self.shape.gene_of[node])
                if gene >= 0:
                    x[gene] += self.arrays["marker"].ravel()
        if self.settings.responses:
            for n in range(self.n_genes):
                x[n] += self.linear("of_parts", self.parts_at(row, n))
        return x

    def unmeasured(self, row, tokens):
        if not self.settings.responses:
            return tokens
        return [(1 - seen) * token for token, seen in zip(tokens, row["measured"], strict=True)]

    # -- the transformer layer ---------------------------------------------------------------------------------------

    def recombined(self, x):
        return np.array([one + self.perceptron("recombine", one) for one in x])

    def attention(self, x):
        """(G, G) softmax over permitted pairs for each head, by scores of -inf for the others."""
        n_heads = self.settings.heads
        permitted = np.ones((len(x), len(x)), bool) if self.shape.mask is None else self.shape.mask.toarray() != 0
        permitted |= np.eye(len(x), dtype=bool)
        query, key = (np.array([self.linear(f"encoder.mixing.{name}", one) for one in x]) for name in ("query", "key"))
        width, alphas = x.shape[1] // n_heads, []
        for head in range(n_heads):
            part = slice(head * width, (head + 1) * width)
            scores = np.where(permitted, query[:, part] @ key[:, part].T / np.sqrt(width), -np.inf)
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            alphas.append(powers / powers.sum(axis=1, keepdims=True))
        return alphas

    def mixed(self, x):
        if not self.settings.use_attention:
            return np.array([self.perceptron("encoder.mixing", one) for one in x])
        value = np.array([self.linear("encoder.mixing.value", one) for one in x])
        width = x.shape[1] // self.settings.heads
        heads = [alpha @ value[:, h * width : (h + 1) * width] for h, alpha in enumerate(self.attention(x))]
        return np.array([self.linear("encoder.mixing.out", one) for one in np.concatenate(heads, axis=1)])

    def encode(self, x):
        x = self.recombined(x)
        x = np.array([self.layer_norm("encoder.norms.0", one) for one in x + self.mixed(x)])
        further = np.array([self.perceptron("encoder.feed_forward", one) for one in x])
        return np.array([self.layer_norm("encoder.norms.1", one) for one in x + further])

    # -- what it says ------------------------------------------------------------------------------------------------

    def answer(self, row):
        """Residual (G,) and log variance of its error (G,) or None."""
        z = self.encode(self.perturbed(row))
        readout = self.arrays["readout"]
        residual = np.array([readout[n] @ (z[n] - self.unperturbed[n]) for n in range(self.n_genes)])
        if self.settings.skip:
            read, patterns = self.read(row), self.shape.residual_basis[self.member].numpy()
            coordinates = (self.linear("skip.coordinates", one) for one in (read, np.zeros_like(read)))
            residual = residual + patterns @ (next(coordinates) - next(coordinates))
        if self.settings.scale_parts:
            tokens = self.tokens(row)
            for k in range(len(tokens)):
                residual = residual + self.part_factor(row, tokens, k) * self.part(row, k)
        return residual, self.log_variance(z)

    def part_factor(self, row, tokens, k):
        others = [token for j, token in enumerate(tokens) if j != k]
        if self.settings.products:
            own = self.multiplied(tokens[k])
            said = sum((own * self.multiplied(token) for token in others), np.zeros_like(own))
        else:
            said = sum(others, np.zeros(self.settings.d))
        return self.linear("condition.part_scale", [*self.unmeasured(row, tokens)[k], *said])[0]

    def log_variance(self, z):
        if not self.settings.uncertainty:
            return None
        said = np.array([self.linear("uncertain.1", self.perceptron("uncertain.0", one))[0] for one in z])
        return np.clip(said, -8, 8) + np.log(self.shape.scale)

    def mean_attention(self, x):
        """(G, G) mean over heads, of what the encoder is given."""
        return np.mean(self.attention(self.recombined(x)), axis=0)


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
    of_members = [(name, one) for name, one in module.named_parameters() if not name.startswith("stream.")]
    arrays = {name: one.detach().numpy()[member] for name, one in of_members}
    return SlowMember(arrays, shape, module.settings, member)
