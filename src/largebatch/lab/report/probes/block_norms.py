"""Are the blocks' gradients alike in size? SNGM, Section 6.

p = ||g||/sum_s ||g^(s)||        1/sqrt(S) where all S blocks are alike, 1 where one has all
"""

import math
from collections.abc import Sequence

from ..read import Record, number
from ..scales import short
from .fields import last, points
from .figure import Shown, beside, kept, key, run_keys, source_rows
from .layers import Level, Line
from .plot import EPOCHS, plot
from .runs import Probed
from .tables import of_lines
from .training import drops, here

PROBE = "block_norms"


def block_norms(runs: Sequence[Probed]) -> Shown | None:
    """The ratio over epochs between its bounds, its supremum, the cosine with normalized blocks.

    Example:
        >>> block_norms([]) is None
        True
    """
    seen = [run for run in runs if run.of(PROBE)]
    lines = [Line(r.label, points(r.of(PROBE), "ratio"), r.style, r.shape) for r in seen]
    tops = [
        Line(f"{r.label}, supremum so far", points(r.of(PROBE), "supremum"), f"faint {r.style}")
        for r in seen
    ]
    cosines = [Line(r.label, points(r.of(PROBE), "cosine"), r.style, r.shape) for r in seen]
    counts = sorted({s for r in seen for row in r.of(PROBE) if (s := _blocks(row))})
    bounds = [Level(f"1/√S, S = {s:g} blocks", 1 / math.sqrt(s), "theory") for s in counts]
    bounds.append(Level("1: one block has all", 1.0, "theory"))
    panels = kept(
        [
            plot("‖g‖ over the sum of the blocks’ norms", EPOCHS, [*bounds, *tops, *lines]),
            plot("cosine with the block-normalized gradient", EPOCHS, [*drops(seen), *cosines]),
        ]
    )
    if not any(line.ys() for line in lines):
        return None
    known = {line.label: last(line.points) for line in lines}
    low = f"1/√S = {short(1 / math.sqrt(counts[-1]))}" if counts else "1/√S"
    return Shown(
        "block-norms",
        "Whether blocks’ gradients are alike in size",
        f"Ratio at the last row: {beside(known)}, between {low} (all blocks alike, the best for "
        "block-wise normalization’s bound) and 1 (one block has all).",
        f"Zhao et al. (SNGM), Section 6, which has no figure; {here(seen)}.",
        panels,
        of_lines([*lines, *cosines], "ratio, then cosine"),
        source_rows(seen, PROBE),
        [*run_keys(seen), key("bounds", "theory"), key("supremum so far", "faint r0")],
    )


def _blocks(row: Record) -> float | None:
    """The number of blocks, which a row names or counts."""
    blocks = row.get("blocks")
    found = float(len(blocks)) if isinstance(blocks, list) else number(blocks)
    return found if found and found > 0 else None
