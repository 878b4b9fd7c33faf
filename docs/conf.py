"""Sphinx: `make docs` builds offline with warnings as errors."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "scperturb_modules"
author = "The scperturb_modules developers"
copyright = "2026, The scperturb_modules developers"
version = release = installed_version("scperturb_modules")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
# no intersphinx: it would fetch, and a build without a network has to pass
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
autosummary_generate_overwrite = True
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "signature"
autodoc_type_aliases = {"AnnData": "anndata.AnnData"}
napoleon_google_docstring = False
napoleon_numpy_docstring = True

html_theme = "sphinx_book_theme"
html_title = "scperturb_modules"
html_static_path = ["_static"]
