"""Elements of SVG as escaped text: no picture is put together without passing here."""

import re

from markupsafe import Markup, escape

Attribute = str | float | int | None
FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def element(name: str, *children: str | Markup, **attributes: Attribute) -> Markup:
    """An element; children that are not Markup are escaped, attributes that are None left out.

    Underscores in attribute names become hyphens; a trailing one (``class_``) is dropped.

    Example:
        >>> print(element("text", "<b>", x=1.25, class_="ink", text_anchor=None))
        <text x="1.25" class="ink">&lt;b&gt;</text>
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_allowed(_number(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(map(_allowed, children))
    return Markup(f"<{name}{written}>{inner}</{name}>") if inner else Markup(f"<{name}{written}/>")


def group(*children: str | Markup, **attributes: Attribute) -> Markup:
    """A ``g`` element.

    Example:
        >>> print(group(class_="axis"))
        <g class="axis"/>
    """
    return element("g", *children, **attributes)


def text(words: str, x: float, y: float, class_: str = "", anchor: str = "start") -> Markup:
    """Text at a point.

    Example:
        >>> print(text("5 > 4", 1, 2, "tick", "end"))
        <text x="1" y="2" class="tick" text-anchor="end">5 &gt; 4</text>
    """
    return element("text", words, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line.

    Example:
        >>> print(line(0, 0, 1, 2.5, "grid"))
        <line x1="0" y1="0" x2="1" y2="2.5" class="grid"/>
    """
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: list[tuple[float, float]], class_: str, closed: bool = False) -> Markup:
    """A polyline, or the area it encloses.

    Example:
        >>> print(path([(0, 0), (1, 2)], "line"))
        <path d="M0 0L1 2" class="line"/>
    """
    d = "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in points) if points else ""
    return element("path", d=d + ("Z" if closed and d else ""), class_=class_)


MARKERS = {
    "square": "M-4-4H4V4H-4Z",
    "diamond": "M0-5.6L5.6 0L0 5.6L-5.6 0Z",
    "circle": "M4.4 0A4.4 4.4 0 1 1-4.4 0A4.4 4.4 0 1 1 4.4 0Z",
    "triangle": "M0-5L5 4H-5Z",
    "left": "M-6 0L4-5V5Z",
    "right": "M6 0L-4-5V5Z",
    "down": "M0 6L-5-4H5Z",
    "up": "M0-6L-5 4H5Z",
    "cross": "M-4-4L4 4M-4 4L4-4",
}


def marker(shape: str, x: float, y: float, class_: str, size: float = 1.0) -> Markup:
    """A marker of a named shape, centred on a point.

    Example:
        >>> print(marker("square", 5, 6, "best"))
        <path d="M-4-4H4V4H-4Z" transform="translate(5 6)" class="best"/>
    """
    move = f"translate({_number(x)} {_number(y)})" + (
        f" scale({_number(size)})" if size != 1 else ""
    )
    return element("path", d=MARKERS[shape], transform=move, class_=class_)


def point(label: str, *drawn: Markup, class_: str = "point") -> Markup:
    """A group that a keyboard reaches and that says its value, to a screen reader too.

    Example:
        >>> print(point("sngm 91"))
        <g class="point" tabindex="0" role="img" aria-label="sngm 91"><title>sngm 91</title></g>
    """
    return group(
        element("title", label), *drawn, class_=class_, tabindex=0, role="img", aria_label=label
    )


def picture(width: float, height: float, label: str, *drawn: Markup, class_: str = "") -> Markup:
    """A responsive picture with an accessible name.

    Example:
        >>> print(picture(10, 5, "accuracy"))
        <svg viewBox="0 0 10 5" role="group" aria-label="accuracy" class="chart"/>
    """
    return element(
        "svg",
        *drawn,
        viewBox=f"0 0 {_number(width)} {_number(height)}",
        role="group",
        aria_label=label,
        class_=f"chart {class_}".strip(),
    )


def _allowed(words: str | Markup) -> str | Markup:
    """XML has no place for control characters, not even escaped: one breaks the file."""
    return words if isinstance(words, Markup) else FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", words)


def _number(value: Attribute) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
