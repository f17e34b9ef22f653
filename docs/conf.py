"""Sphinx: Markdown pages, and a reference from the docstrings of the packages."""

from importlib.metadata import version as version_of

project = "factbook"
author = "the factbook developers"
version = release = version_of("factbook")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_click",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say the types, and the shapes
autosummary_generate = True
napoleon_google_docstring = False
napoleon_use_rtype = False
copybutton_prompt_text = "$ "

html_theme = "furo"
html_title = "factbook"
