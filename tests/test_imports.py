"""Who may import whom, and what `import largebatch` brings."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import largebatch

PACKAGE = Path(largebatch.__file__).parent
METHODS = ("perturb", "optim", "batching", "schedule", "probes", "theory")
FILES = sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in FILES}


def imports(name: str) -> Iterator[str]:
    """Full names of what a module imports, also inside functions."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            start = ".".join([*base, node.module or ""] if node.level else [node.module or ""])
            start = start.rstrip(".")
            for alias in node.names:
                inner = f"{start}.{alias.name}"
                yield inner if inner in MODULES else start


def within(name: str, *parts: str) -> bool:
    return any(name == f"largebatch.{p}" or name.startswith(f"largebatch.{p}.") for p in parts)


def ours(name: str) -> list[str]:
    return [i for i in imports(name) if i.split(".")[0] == "largebatch"]


def test_reads_the_imports():
    assert "largebatch.perturb.filters" in ours("largebatch.perturb.gnc")
    assert "largebatch.passes" in ours("largebatch.workers")
    assert len(MODULES) > 20


@pytest.mark.parametrize("part", METHODS)
def test_methods_know_nothing_of_each_other(part):
    others = [other for other in METHODS if other != part]
    wrong = [(m, i) for m in MODULES if within(m, part) for i in ours(m) if within(i, *others)]
    assert wrong == []


def test_the_step_knows_the_contracts_and_no_method():
    step = [m for m in MODULES if within(m, "parallel", "workers", "passes", "settings", "state")]
    assert len(step) >= 5
    methods = [m for m in METHODS if m != "batching"]  # sharing a batch out is the step's own
    wrong = [(m, i) for m in step for i in ours(m) if within(i, *methods)]
    assert wrong == []


def test_nothing_outside_imports_the_lab():
    # `python -m largebatch` is the command, which is the lab's.
    core = [m for m in MODULES if not within(m, "lab", "__main__")]
    wrong = [(m, i) for m in core for i in ours(m) if within(i, "lab")]
    assert wrong == []


def test_nothing_imports_the_package_itself_but_the_lab():
    core = [m for m in MODULES if m != "largebatch" and not within(m, "lab")]
    assert [m for m in core if "largebatch" in ours(m)] == []


def test_the_report_knows_records_only():
    report = [m for m in MODULES if within(m, "lab.report")]
    assert report
    wrong = [(m, i) for m in report for i in ours(m) if not within(i, "lab.report", "lab.records")]
    assert wrong == []
    assert [i for i in ours("largebatch.lab.records") if not within(i, "lab.errors")] == []


def test_the_core_needs_torch_alone():
    core = [m for m in MODULES if not within(m, "lab", "integrations")]
    found = {i.split(".")[0] for m in core for i in imports(m)}
    assert found - set(sys.stdlib_module_names) == {"torch", "largebatch"}


def fresh(code: str) -> str:
    """What a new interpreter prints that can import the package from its folder."""
    code = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r})\n{code}"
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_brings_nothing_but_itself_beside_torch():
    brought = fresh(
        "import torch\nbefore = set(sys.modules)\nimport largebatch\n"
        "print(*sorted(set(sys.modules) - before))"
    ).split()
    others = {m.split(".")[0] for m in brought} - set(sys.stdlib_module_names)
    assert others <= {"largebatch", "torch"}
    assert not any(m.startswith("largebatch.lab") for m in brought)
    assert not any(m.startswith(("torch.distributed.tensor", "torch._dynamo")) for m in brought)


def test_works_where_the_labs_packages_are_missing():
    blocked = ["numpy", "sklearn", "scipy", "jinja2", "rich", "torchvision", "pandas"]
    out = fresh(
        f"for name in {blocked}: sys.modules[name] = None\n"
        "import torch, largebatch as lb\n"
        "m = torch.nn.Linear(3, 2); o = lb.SNGM(m.parameters())\n"
        "w = lb.Workers(m, o, lb.GNC(0.1), count=2)\n"
        "for _ in range(2): w.backward(lambda x: m(x).sum(), torch.ones(4, 3)); o.step()\n"
        "print(w.step)"
    )
    assert out == "2"
