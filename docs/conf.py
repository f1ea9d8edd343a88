"""How the documentation becomes a site: `tox -e docs`. The pages are read on their own, too."""

from importlib.metadata import version as version_of

project = "dbapi_pool"
author = "the authors of dbapi_pool"
release = version = version_of("dbapi_pool")

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build"]
nitpicky = True

# Links to a heading of a page, in the form that code hosts understand, too.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

html_theme = "furo"
html_title = "dbapi_pool"
