import largebatch

project = "largebatch"
author = "The largebatch authors"
project_copyright = "The largebatch authors"
version = release = largebatch.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"largebatch {version}"
html_static_path = ["static"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_sourcelink = False

myst_heading_anchors = 3

# Names of other projects: their inventories would have to be fetched, and a build must not need a
# network. Everything of ours must resolve.
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|nn|collections|pathlib|typing|contextlib)\..*"),
    (r"py:.*", r"(int|float|str|bool|tuple|list|dict|None|type|object|Any|Callable|Path)"),
    (r"py:exc", r"(TypeError|ValueError|RuntimeError|OSError)"),
    (r"py:class", r"largebatch\.contracts\.T"),  # a type variable
    (r"py:class", r"DeviceMesh"),  # imported by who has one
]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
maximum_signature_line_length = 88
