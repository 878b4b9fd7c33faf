"""Genetic interactions of pairs: scores, classes, calls per gene, agreement of two tables."""
