"""What every page has in common: its style and script, one file, put in place at once."""

import base64
import hashlib
import os
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

STYLES = ("chart.css", "style.css")


def packaged(name: str) -> str:
    """Text of a file that lies beside this module.

    Example:
        >>> "prefers-color-scheme: dark" in packaged("chart.css")
        True
    """
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def filled(template: str, styles: Sequence[str] = STYLES, **values: Any) -> str:
    """A page out of a template and values, which are escaped; style and script lie within.

    Example:
        >>> "<title></title>" in filled("base.html.j2")
        True
    """
    script = packaged("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(packaged),
    )
    return environment.get_template(template).render(
        style=Markup("".join(map(packaged, styles))),
        script=Markup(script),
        script_hash=digest,
        **values,
    )


def put(path: Path, html: str) -> Path:
    """Write a page under another name, then rename: the file is old or new, never half.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> put(folder / "report.html", "<p>").read_text()
        '<p>'
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".html")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(html)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path
