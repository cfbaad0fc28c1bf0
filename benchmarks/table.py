"""The table of what a step of each rule costs, from results/optim.json, for the documentation.

python benchmarks/table.py        prints the rows of docs/update-rules.md
"""

from __future__ import annotations

import json
from typing import Any

from timing import RESULTS

MODELS = ("resnet50", "vit_b_16")
# The rule as users write it, then its group and its name in the benchmark.
ROWS = (
    ("`SNGM`", "norm", "SNGM"),
    ("`SNGM`, with weight decay", "norm, decay", "SNGM, decay"),
    ("`SNGM(blockwise=True)`, with weight decay", "norm, decay", "SNGM, block-wise, decay"),
    ("`LARS`", "lars", "LARS"),
    ('`LARS(form="buffer")`', "lars", "LARS, buffer"),
    ("`LARS2020`", "lars", "LARS, 2020"),
    ("`CLARS`", "lars", "CLARS"),
    ("`PercentDelta`", "statistics", "PercentDelta"),
    ("`MCLR`", "statistics", "MCLR"),
    ("`CBLR`", "statistics", "CBLR, cheap"),
    ("`LAMB`", "lamb", "LAMB"),
)


def rows(found: dict[str, Any]) -> list[str]:
    """One row a rule: ratio to its baseline on each model, floors, and bytes of state."""
    made = []
    for name, group, way in ROWS:
        each = [found["models"][model][group] for model in MODELS]
        ratios = [f"{e['ratios'][way]['median']:.2f}" for e in each]
        floor = found["floors"][way]
        state = each[0]["state_bytes_per_parameter_byte"][way]
        baseline = each[0]["baseline"].split(",")[0]
        cells = [name, baseline, *ratios, f"{floor['bytes']:.2f}", f"{floor['reads_only']:.2f}"]
        made.append(f"| {' | '.join([*cells, f'{state:.0f}'])} |")
    return made


def main() -> None:
    """Print them."""
    found = json.loads((RESULTS / "optim.json").read_text("utf-8"))
    print("\n".join(rows(found)))


if __name__ == "__main__":
    main()
