"""The tables of what a step costs, from the results, for the documentation.

python benchmarks/table.py              prints the rows of docs/update-rules.md
python benchmarks/perturb.py --table    prints those of perturbations.md and noise-and-loss.md
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


def costs(found: dict[str, Any], page: str) -> list[str]:
    """One row a method: ratio to Workers alone, range, microseconds, floor, memory in copies."""
    made = []
    for name, each in found["methods"].items():
        if each["page"] == page:
            over, apart = each["over_workers"], each["us_per_worker"]
            low_to_high = f"{over['low']:.2f} to {over['high']:.2f}"
            copies = each["bytes_held"] / found["parameter_bytes"]
            floor = f"{each['floor_us_per_worker']:.0f}"
            cells = [f"`{name}`", f"{over['median']:.2f}", low_to_high, f"{apart:.0f}", floor]
            made.append(f"| {' | '.join([*cells, f'{copies:.1f}'])} |")
    return made


def main() -> None:
    """Print them."""
    found = json.loads((RESULTS / "optim.json").read_text("utf-8"))
    print("\n".join(rows(found)))


if __name__ == "__main__":
    main()
