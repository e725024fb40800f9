"""Settings of the documentation site: ``make docs``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import vsae_fast

project = "vsae_fast"
author = "The vsae_fast developers"
copyright = "2026, The vsae_fast developers"  # noqa: A001 - Sphinx's name
version = release = vsae_fast.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
autosummary_generate = True
autodoc_default_options = {
    "members": True,
    "exclude-members": "set_fit_request, set_score_request, set_transform_request",  # scikit-learn's own
}
autodoc_typehints = "none"  # numpydoc's sections give types in words
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
suppress_warnings = ["ref.python"]  # a name that a class and a module share

html_theme = "furo"
html_title = f"vsae_fast {release}"
