"""Writes docs/works-with.md: what works with what, and the test that says so.

python tests/works_with.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from every_method import NOISES, PERTURBATIONS, ROWS

PAGE = Path(__file__).parents[1] / "docs" / "works-with.md"
COLUMNS = {
    "plain": "`workers.backward(...)`, against the same step written out without `Workers`",
    "accumulation": "`next` and `combine` by hand, against `backward`: the same to the bit",
    "AMP": "a `GradScaler` with an overflow, which leaves its step out; and bfloat16 autocast of "
    "float32 weights, to 1e-5 of the step written out",
    "clipping": "`clip_grad_norm_` at work, against the mean clipped by its formula",
    "compile": '`torch.compile(backend="aot_eager")`, against the eager model',
    "DDP": "two processes of two workers, against one process of four",
    "HSDP": "four processes, two replicas in two pieces each, against one process of two workers; "
    "perturbations with `CLARS`",
    "FSDP": "two processes of a one-dimensional mesh, against one process: four workers",
    "Lightning": "`WorkersCallback`, against a loop by hand",
    "Trainer": "`WorkersMixin`, against a loop by hand",
    "Accelerate": "its loop with `next` and `combine`, against the plain one",
}
NAMES = {
    "GNC-plain": '`GNC(scaling="plain")`',
    "m-SAM": "`SAM(per_worker=True)`",
    "permuted": "`MatchedNoise`",
    "isotropic": '`MatchedNoise(kind="isotropic")`',
    "eigen": "`EigenNoise`",
    "eigen-differences": '`EigenNoise(method="differences")`',
    "extrapolation": "`Extrapolation`",
    "past": '`Extrapolation(kind="past")`',
    "noise": '`Extrapolation(kind="noise")`',
    "switch": "`Switch(GNC, RNC)`",
    "AnnealedNoise-weights": '`AnnealedNoise(placement="weights")`',
    "SGD": "`torch.optim.SGD`",
    "AdamW": "`torch.optim.AdamW`",
    "CBLR-hessian": '`CBLR(diagonal="hessian")`',
}
HEAD = """\
# What works with what

A "yes" leads to the test that shows it. The rows are every perturbation, with momentum SGD; the
gradient noise, beside GNC; and the update rules, with GNC. AdamW stands for the optimizers of
`torch.optim`, each of which `tests/test_workers_optimizers.py` tries with GNC. In the columns:

{columns}

Where nothing else is said, weights and batch norm's running statistics agree to 1e-10 in float64.
Offsets are at least 1% of the weights, and without the row's method a run ends at other weights.
There is no batch norm in the networks of AMP, clipping, HSDP and FSDP, nor of DDP with
`PercentDelta`, `MCLR` and a Hessian's `CBLR`: a bias before it has a gradient of mere rounding, of
which some rules make whole steps, and halves of a batch have losses of their own. The loops run in
one process; over two they are tried with GNC (`tests/integrations`).

"""
FOOT = """
Refused are, each by name: exact Hessian products on FSDP2, which has no second
backward pass (`method="differences"` works there, and is what `Workers` has `CBLR` do); and in
Lightning, whose loop hands over one micro-batch at a time, what looks at others before it runs:
SAM over several of them (`per_worker=True` works) and `Extrapolation` on fresh examples. A loop of
Accelerate has such a method look when a group is complete: [Accelerate](huggingface.md#accelerate).

`pytest -m 'slow or not slow' 'tests/...'` runs one of these:

"""


def alone(row: str, *names: str) -> list[str]:
    """In one process."""
    return [f"tests/test_every_method.py::test_{name}[{row}]" for name in names]


def loop(row: str, name: str) -> list[str]:
    """In somebody else's loop."""
    if name == "lightning" and row in ("SAM", "extrapolation"):
        name = "lightning_refuses"
    return [f"tests/integrations/test_every_method.py::test_{name}[{row}]"]


def pair(row: str, rule: str = "SGD") -> str:
    """The names of what looks and of what steps; of perturbations with that rule."""
    if row in PERTURBATIONS:
        return f"{row}-{rule}"
    return f"{row}-SGD" if row in NOISES else f"GNC-{row}"


def ddp(row: str) -> list[str]:
    """Two workers on each of two processes."""
    quick = row in PERTURBATIONS or row == "SGD"
    name = "processes_end_where_one_process_does" if quick else "so_they_do_with_every_rule"
    return [f"tests/parallel/test_ddp_equivalence.py::test_{name}[{pair(row)}-2]"]


def hsdp(row: str) -> list[str]:
    """One worker on each of two replicas, each cut over two processes."""
    case = "eigen-refused-both" if row == "eigen" else f"{pair(row, 'CLARS')}-1-both-cut"
    return [f"tests/parallel/test_fsdp_equivalence.py::test_replicas_in_pieces_do[{case}]"]


def fsdp(row: str) -> list[str]:
    """Four workers of one replica, cut over two processes."""
    name, case = "so_they_do_with_every_rule", f"{pair(row)}-4-shards-cut"
    if row == "eigen":
        name, case = "replicas_end_where_one_process_does", "eigen-refused-shards"
    return [f"tests/parallel/test_fsdp_equivalence.py::test_{name}[{case}]"]


def tests_of(row: str) -> dict[str, list[str]]:
    """The tests of a row, by column."""
    return {
        "plain": alone(row, "plain"),
        "accumulation": alone(row, "accumulation"),
        "AMP": alone(row, "grad_scaler", "autocast"),
        "clipping": alone(row, "clipping"),
        "compile": alone(row, "compile"),
        "DDP": ddp(row),
        "HSDP": hsdp(row),
        "FSDP": fsdp(row),
        "Lightning": loop(row, "lightning"),
        "Trainer": loop(row, "trainer"),
        "Accelerate": loop(row, "accelerate"),
    }


def lines() -> Iterator[str]:
    """The table, and below it each cell's tests."""
    yield f"| | {' | '.join(COLUMNS)} |"
    yield f"| --- |{' --- |' * len(COLUMNS)}"
    notes = []
    for row in ROWS:
        cells = []
        for column, tests in tests_of(row).items():
            note = f"[^{column}-{row}]"
            said = "refused" if any("refuse" in test for test in tests) else "yes"
            cells.append(said + note)
            notes.append(f"{note}: {', '.join(f'`{test}`' for test in tests)}")
        yield f"| {NAMES.get(row, f'`{row}`')} | {' | '.join(cells)} |"
    yield FOOT
    yield from notes


def page() -> str:
    """The whole of it."""
    columns = "\n".join(f"- **{name}**: {text}" for name, text in COLUMNS.items())
    return HEAD.format(columns=columns) + "\n".join(lines()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
