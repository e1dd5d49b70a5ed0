"""Settings of the documentation site: `make docs`."""

from cloud_hf import __version__

project = "cloud_hf"
author = "The cloud_hf developers"
copyright = author
release = __version__

extensions = [
    "myst_nb",  # Markdown pages, and notebooks run when the site is built
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_argparse_cli",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "cloud_hf"

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
nb_execution_mode = "auto"  # notebooks lie in git without outputs, so each is run
nb_execution_timeout = 600
nb_execution_raise_on_error = True

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
