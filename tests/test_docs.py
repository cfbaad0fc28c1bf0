"""The pages say what is so: their Python runs, their links lead somewhere, every name is listed."""

import json
import re
import runpy
from pathlib import Path

import pytest

import largebatch

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)[^)]*\)")


def with_python() -> list[Path]:
    return [page for page in PAGES if PYTHON.search(page.read_text(encoding="utf-8"))]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.filterwarnings("ignore:.*does not have many workers")  # Lightning's own, and
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated")  # its torch
@pytest.mark.parametrize("page", with_python(), ids=name)
def test_the_python_of_a_page_runs_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    script = tmp_path / "page.py"
    script.write_text("\n".join(PYTHON.findall(page.read_text(encoding="utf-8"))), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_to_files_lead_somewhere(page: Path):
    links = LINK.findall(page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing, f"{name(page)} links to files that are not there: {missing}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_page_waits_for_its_text(page: Path):
    assert not re.search(r"^\{\w+\}$", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_costs_of_the_rules_are_those_that_were_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    table = runpy.run_path(str(ROOT / "benchmarks" / "table.py"))
    found = json.loads((ROOT / "benchmarks" / "results" / "optim.json").read_text("utf-8"))
    page = (ROOT / "docs" / "update-rules.md").read_text(encoding="utf-8")
    missing = [row for row in table["rows"](found) if row not in page]
    assert not missing, f"python benchmarks/table.py prints what update-rules.md lacks: {missing}"


def test_every_public_name_has_its_entry():
    listed = set(re.findall(r"auto\w+:: (\w+)", (ROOT / "docs" / "api.md").read_text()))
    modules = (largebatch, largebatch.schedule, largebatch.optim, largebatch.theory)
    modules += (largebatch.batching,)
    public = {name for module in modules for name in module.__all__}
    assert public - {"batching", "schedule", "theory"} <= listed
