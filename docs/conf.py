"""Sphinx: Markdown pages, and a reference from the docstrings of the packages."""

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "factbook"
author = "the factbook developers"
copyright = "2026, the factbook developers"
version = release = version_of("factbook")

extensions = [
    "declared",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_click",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

# Notebooks are run whenever the site is built; what they raise fails the build.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 900
os.environ["FACTBOOK_MONGO"] = "off"
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say the types, and the shapes
napoleon_google_docstring = False
napoleon_use_rtype = False
suppress_warnings = ["ref.python"]  # types in plain English, as "path", are names of attributes too
copybutton_prompt_text = "$ "

html_theme = "furo"
html_title = "factbook"
html_static_path = ["_static"]
