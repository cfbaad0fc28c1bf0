"""Small line charts, many on one scale: a method's curve in front of the two it is read against."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from largebatch.lab.report import svg
from largebatch.lab.report.curves import Curve, thin
from largebatch.lab.report.metric import Metric, brief
from largebatch.lab.report.scales import Scale, tick_text

WIDTH, HEIGHT = 300, 200
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 38
KEYBOARD_POINTS = 6


@dataclass(frozen=True)
class Line:
    """A curve with the role it is drawn in.

    Example:
        >>> Line("method", "sngm", []).role
        'method'
    """

    role: str
    label: str
    curve: Curve


@dataclass(frozen=True)
class Axes:
    """Limits and names of a panel's axes, shared by the panels that are to be compared.

    Example:
        >>> Axes("epochs", (0.0, 40.0), "loss", (0.1, 3.0), log_y=True).log_x
        False
    """

    x_name: str
    x: tuple[float, float]
    y_name: str
    y: tuple[float, float]
    log_x: bool = False
    log_y: bool = False

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """Where the grid's lines are, and what stands beside them.

        Example:
            >>> Axes("epochs", (0, 9), "loss", (0, 1)).y_ticks[-1]
            (1.0, '1')
        """
        return Scale(*self.y, 0, 1, self.log_y).ticks(5)

    @property
    def left(self) -> float:
        """Room for what stands beside the grid's lines, where it is longer than usual.

        Example:
            >>> Axes("epochs", (0, 9), "loss", (0, 1)).left
            44
            >>> Axes("epochs", (0, 9), "loss", (1e5, 5e5)).left > 50
            True
        """
        return max(LEFT, 10 + 6.5 * max((len(words) for _, words in self.y_ticks), default=0))

    @property
    def scales(self) -> tuple[Scale, Scale]:
        """The two scales of a panel.

        Example:
            >>> Axes("epochs", (0.0, 40.0), "loss", (0.1, 3.0)).scales[0](0.0)
            44.0
        """
        return (
            Scale(*self.x, self.left, WIDTH - RIGHT, self.log_x),
            Scale(*self.y, HEIGHT - BOTTOM, TOP, self.log_y),
        )


def panel(
    name: str,
    axes: Axes,
    lines: Sequence[Line],
    stops: Sequence[float] = (),
    metric: Metric | None = None,
) -> Markup:
    """One chart; `stops` are where seeds of the last line's method diverged.

    Example:
        >>> chart = panel("sngm", Axes("epochs", (0, 9), "loss", (0, 1)), [], stops=[3.0])
        >>> "diverged at 3 epochs" in chart
        True
    """
    x, y = axes.scales
    drawn = [frame(axes)]
    drawn += [inside(axes, _drawn(line, x, y)) for line in lines]
    drawn += [_stop(at, x, axes) for at in stops]
    if lines:
        drawn += _points(lines[-1], x, y, axes, metric)
    return svg.picture(WIDTH, HEIGHT, name, *drawn)


def frame(axes: Axes, x_ticks: Sequence[tuple[float, str]] | None = None) -> Markup:
    """Grid, ticks and names of the axes.

    Example:
        >>> "epochs" in frame(Axes("epochs", (0.0, 40.0), "loss", (0.1, 3.0)))
        True
    """
    x, y = axes.scales
    floor, left = HEIGHT - BOTTOM, axes.left
    parts = []
    for value, words in axes.y_ticks:
        at = y(value)
        parts += [
            svg.line(left, at, WIDTH - RIGHT, at, "grid"),
            svg.text(words, left - 6, at + 3.5, "tick", "end"),
        ]
    for value, words in x_ticks if x_ticks is not None else x.ticks(5):
        parts.append(svg.text(words, x(value), floor + 15, "tick", "middle"))
    parts.append(svg.line(left, floor, WIDTH - RIGHT, floor, "floor"))
    parts.append(svg.text(axes.x_name, (left + WIDTH - RIGHT) / 2, HEIGHT - 6, "axis", "middle"))
    return svg.group(*parts, aria_hidden="true")


def inside(axes: Axes, *drawn: Markup) -> Markup:
    """Clips to the plotting area: a nested svg needs no id to refer to.

    Example:
        >>> print(inside(Axes("epochs", (0, 9), "loss", (0, 1)))[:40])
        <svg x="44" y="10" width="244" height="1
    """
    left = axes.left
    width, height = WIDTH - left - RIGHT, HEIGHT - TOP - BOTTOM
    return svg.element(
        "svg",
        *drawn,
        x=left,
        y=TOP,
        width=width,
        height=height,
        viewBox=f"{left:g} {TOP} {width:g} {height:g}",
        class_="inside",
        aria_hidden="true",
    )


def _drawn(line: Line, x: Scale, y: Scale) -> Markup:
    """The mean, and for a method the range of its seeds; both without seeds that stopped before."""
    x, free = (replace(scale, clamp=False) for scale in (x, y))
    mean = svg.path([(x(p.x), free(p.mean)) for p in line.curve], f"line {line.role}")
    if line.role in ("reference", "baseline-behind"):
        return mean
    upper = [(x(p.x), free(p.high)) for p in line.curve]
    lower = [(x(p.x), free(p.low)) for p in reversed(line.curve)]
    return svg.path(upper + lower, f"spread {line.role}", closed=True) + mean


def _stop(at: float, x: Scale, axes: Axes) -> Markup:
    words = f"a seed diverged at {tick_text(at)} {axes.x_name}"
    return svg.point(words, svg.marker("cross", x(at), HEIGHT - BOTTOM - 6, "diverged", 0.8))


def _points(line: Line, x: Scale, y: Scale, axes: Axes, metric: Metric | None) -> list[Markup]:
    """A few places on the method's curve for hovering and the keyboard, the last among them."""
    write = metric.value if metric else brief
    points = []
    for p in thin(line.curve, KEYBOARD_POINTS):
        seeds = "1 seed" if p.n == 1 else f"{p.n} seeds: {write(p.low)} to {write(p.high)}"
        words = f"{line.label}, {tick_text(p.x)} {axes.x_name}: {write(p.mean)} ({seeds})"
        if axes.y[0] <= p.mean <= axes.y[1]:
            points.append(
                svg.point(words, svg.marker("circle", x(p.x), y(p.mean), f"spot {line.role}"))
            )
    return points
