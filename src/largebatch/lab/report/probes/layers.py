"""What a chart is made of; each layer says its values where it is pointed at."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from markupsafe import Markup

from .. import svg
from ..curves import thin
from ..scales import Scale, short
from .fields import Points, finite

DRAWN = 240
SAID = 8


@dataclass(frozen=True)
class Place:
    """Where a layer is drawn, and how its values are said.

    Example:
        >>> place = Place(Scale(0, 1, 0, 9), Scale(0, 1, 9, 0), lambda x: f"epoch {x:g}")
        >>> place.said("gnc", 1.0, "0.5")
        'gnc, epoch 1: 0.5'
    """

    x: Scale
    y: Scale
    at: Callable[[float], str]

    def said(self, label: str, x: float, words: str) -> str:
        """What hover, focus and a screen reader say of one point."""
        return f"{label}, {self.at(x)}: {words}" if label else f"{self.at(x)}: {words}"

    def visible(self, x: float, y: float | None) -> bool:
        """Whether a point lies within the chart."""
        return y is not None and self.y.low <= y <= self.y.high and self.x.low <= x <= self.x.high

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        """Position of a point; what lies far outside is cut where the chart's edge clips it."""
        reach = 4 * abs(self.y.end - self.y.start)
        free = replace(self.y, clamp=False)(y)
        low, high = sorted((self.y.start, self.y.end))
        return self.x(x), min(max(free, low - reach), high + reach)


class Layer(Protocol):
    """Something drawn in a chart."""

    def xs(self) -> list[float]:
        """What the horizontal axis must show."""

    def ys(self) -> list[float]:
        """What the vertical axis must show."""

    def drawn(self, place: Place) -> Markup:
        """The picture, to be clipped to the plotting area."""

    def spots(self, place: Place) -> list[Markup]:
        """The points that say their values."""


@dataclass(frozen=True)
class Line:
    """A curve; broken where a value is missing. `shape` gives it markers that are always seen.

    Example:
        >>> Line("gnc", [(0.0, 1.0), (1.0, None)], "r0").ys()
        [1.0]
    """

    label: str
    points: Points
    style: str
    shape: str = ""
    said: int = SAID

    def xs(self) -> list[float]:
        """Where it has values."""
        return [x for x, y in self.points if finite([y])]

    def ys(self) -> list[float]:
        """Its values."""
        return finite(y for _, y in self.points)

    def drawn(self, place: Place) -> Markup:
        """One path for each unbroken piece; a lone point is a dot."""
        pieces = _pieces(thin(self.points, DRAWN))
        return Markup("").join(
            svg.path([place(x, y) for x, y in piece * (2 if len(piece) == 1 else 1)], self._class)
            for piece in pieces
        )

    def spots(self, place: Place) -> list[Markup]:
        """A few of its points, the last among them."""
        seen = [(x, y) for x, y in self.points if y is not None and place.visible(x, y)]
        marked = self.shape or len(self.ys()) == 1  # a lone point has no line to be seen by
        look = f"trial {self.style}" if marked else f"spot {self.style}"
        return [
            svg.point(
                place.said(self.label, x, short(y)),
                svg.marker(self.shape or "circle", place.x(x), place.y(y), look, 0.8),
            )
            for x, y in thin(seen, self.said)
        ]

    @property
    def _class(self) -> str:
        return f"line {self.style}"


@dataclass(frozen=True)
class Band:
    """The area between a lowest and a highest value.

    Example:
        >>> Band("workers", [(0.0, 1.0, 2.0)], "r0").ys()
        [1.0, 2.0]
    """

    label: str
    points: Sequence[tuple[float, float, float]]
    style: str
    said: int = SAID

    def xs(self) -> list[float]:
        """Where it is."""
        return [x for x, _, _ in self.points]

    def ys(self) -> list[float]:
        """Its edges."""
        return [v for _, low, high in self.points for v in (low, high)]

    def drawn(self, place: Place) -> Markup:
        """A closed area, or a bar where there is one point alone."""
        kept = thin(self.points, DRAWN)
        if len(kept) == 1:
            x, low, high = kept[0]
            return svg.line(*place(x, low), *place(x, high), f"bar {self.style}")
        upper = [place(x, high) for x, _, high in kept]
        lower = [place(x, low) for x, low, _ in reversed(kept)]
        return svg.path(upper + lower, f"spread {self.style}", closed=True)

    def spots(self, place: Place) -> list[Markup]:
        """Its upper edge says the range."""
        return [
            svg.point(
                place.said(self.label, x, f"{short(low)} to {short(high)}"),
                svg.marker("circle", place.x(x), place.y(high), f"spot {self.style}", 0.7),
            )
            for x, low, high in thin(self.points, self.said)
        ]


@dataclass(frozen=True)
class Level:
    """A horizontal line with its meaning.

    Example:
        >>> Level("isotropic noise", 3.0, "theory").ys()
        [3.0]
    """

    label: str
    value: float
    style: str

    def xs(self) -> list[float]:
        """Any place."""
        return []

    def ys(self) -> list[float]:
        """Its height."""
        return [self.value]

    def drawn(self, place: Place) -> Markup:
        """From edge to edge."""
        y = place(place.x.low, self.value)[1]
        return svg.line(place.x.start, y, place.x.end, y, f"line {self.style}")

    def spots(self, place: Place) -> list[Markup]:
        """Its right end."""
        if not place.visible(place.x.high, self.value):
            return []
        words = f"{self.label}: {short(self.value)}"
        look = f"spot {self.style}"
        return [svg.point(words, svg.marker("circle", place.x.end, place.y(self.value), look, 0.7))]


@dataclass(frozen=True)
class Mark:
    """A vertical line with its meaning.

    Example:
        >>> Mark("the rate drops", 20.0).xs()
        []
    """

    label: str
    at: float

    def xs(self) -> list[float]:
        """Wherever the rest is: a mark outside is left out."""
        return []

    def ys(self) -> list[float]:
        """Any height."""
        return []

    def drawn(self, place: Place) -> Markup:
        """From floor to ceiling."""
        if not place.x.low <= self.at <= place.x.high:
            return Markup("")
        x = place.x(self.at)
        return svg.line(x, place.y.start, x, place.y.end, "drop")

    def spots(self, place: Place) -> list[Markup]:
        """A small triangle at the top."""
        if not place.x.low <= self.at <= place.x.high:
            return []
        top = min(place.y.start, place.y.end)
        look = svg.marker("down", place.x(self.at), top + 4, "trial fixed", 0.7)
        return [svg.point(f"{self.label}, {place.at(self.at)}", look)]


@dataclass(frozen=True)
class Spans:
    """At each place a value with an interval around it.

    Example:
        >>> Spans("gnc", [(0.0, 2.0, 1.0, 3.0)], "r0", "circle").ys()
        [2.0, 1.0, 3.0]
    """

    label: str
    points: Sequence[tuple[float, float, float, float]]
    style: str
    shape: str

    def xs(self) -> list[float]:
        """Its places."""
        return [x for x, *_ in self.points]

    def ys(self) -> list[float]:
        """Values and intervals."""
        return [v for _, *values in self.points for v in values]

    def drawn(self, place: Place) -> Markup:
        """The intervals."""
        return Markup("").join(
            svg.line(*place(x, low), *place(x, high), f"interval slim {self.style}")
            for x, _, low, high in self.points
        )

    def spots(self, place: Place) -> list[Markup]:
        """The values."""
        return [
            svg.point(
                place.said(self.label, x, f"{short(v)} ({short(low)} to {short(high)})"),
                svg.marker(self.shape, place.x(x), place.y(v), f"trial {self.style}", 0.8),
            )
            for x, v, low, high in self.points
            if place.visible(x, v)
        ]


def _pieces(points: Points) -> Iterator[list[tuple[float, float]]]:
    """Runs of neighbours that all have values."""
    piece: list[tuple[float, float]] = []
    for x, y in [*points, (0.0, None)]:
        if y is not None:
            piece.append((x, y))
        elif piece:
            yield piece
            piece = []
