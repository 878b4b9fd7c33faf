"""Which symbol of a source a gene of the user stands for."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from scperturb_modules._errors import DataError, name_some


class GeneNames:
    """Other names of genes: aliases, earlier symbols and Ensembl ids."""

    def candidates(self, gene: str) -> tuple[str, ...]:
        """Current symbols that a name may stand for, sorted; empty where it is unknown."""
        raise NotImplementedError


def find_genes(
    genes: Iterable[str] | None, known: Collection[str], *, what: str, names: GeneNames | None = None
) -> dict[str, str]:
    """Look the user's genes up among the symbols of a source.

    Parameters
    ----------
    genes
        Names as the user has them, for example ``adata.var_names``; None: all of the source.
    known
        Symbols of the source.
    what
        Name of the source, for messages.
    names
        Other names of genes; without, only equal names are the same gene.

    Returns
    -------
    dict
        The user's name of each gene found, in the user's order, to the symbol of the source.

    Raises
    ------
    DataError
        None of the genes is found.
    """
    symbols = set(known)
    if genes is None:
        return {symbol: symbol for symbol in sorted(symbols)}
    wanted = list(dict.fromkeys(str(gene) for gene in genes))
    found = {gene: gene for gene in wanted if gene in symbols}
    if wanted and not found:
        raise DataError(
            f"{what}: 0 of {len(wanted)} genes found; first names: {name_some(wanted, most=3)} / "
            f"{name_some(sorted(symbols), most=3) or 'none'}. Use the same kind of gene names on both sides."
        )
    return found
