"""Configuration of the documentation: `make docs` builds it, offline and without a warning, into build/docs."""

import shutil
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from sphinx.ext import autosummary

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE / "_ext"))
sys.path.insert(0, str(ROOT))

project = "fluidsurrogate"
author = "The fluidsurrogate developers"
copyright = "the fluidsurrogate developers"
version = release = installed_version("fluidsurrogate")
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # MathJax from _static, with its fonts: no page asks the network for anything
    "numpydoc",
    "sphinx_design",
    "from_code",  # docs/_ext: tables and listings made from the code itself
    "docstrings",  # docs/_ext: bars in docstrings
]
# .rst first: autosummary gives its stubs, which are reStructuredText, the first suffix.
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
exclude_patterns = ["figures/README.md"]
templates_path = ["_templates"]
default_role = "code"  # docstrings quote code in single backticks

# The notebooks lie in notebooks/, where the tests run them; their stored output is shown.
nb_execution_mode = "off"
nb_number_source_lines = False
NOTEBOOKS = HERE / "notebooks"
NOTEBOOKS.mkdir(exist_ok=True)
for copy in NOTEBOOKS.glob("*.ipynb"):
    if not (ROOT / "notebooks" / copy.name).exists():  # renamed or removed since
        copy.unlink()
for notebook in (ROOT / "notebooks").glob("*.ipynb"):
    if not (copy := NOTEBOOKS / notebook.name).exists() or copy.read_bytes() != notebook.read_bytes():
        shutil.copy(notebook, copy)

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "smartquotes", "substitution"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # the result tables that are included begin below their page's heading

autosummary_generate = True
autosummary.WELL_KNOWN_ABBREVIATIONS += ("eq.",)  # does not end the first sentence
autodoc_inherit_docstrings = False  # torch says nothing of ours
autodoc_typehints = "none"  # the docstrings say the types
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the templates list them
numpydoc_class_members_toctree = False
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "fluidsurrogate"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_js_files = ["enlarge.js"]
html_favicon = "_static/logo.svg"
html_show_sourcelink = False
html_copy_source = False
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_theme_options = {
    "logo": {"text": "fluidsurrogate", "image_light": "_static/logo.svg", "image_dark": "_static/logo.svg"},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 8,
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
}
html_sidebars = {"index": [], "glossary": [], "gallery/index": []}
