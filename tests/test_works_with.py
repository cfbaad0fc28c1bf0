"""docs/works-with.md is what the rows and columns of the tests say, and names tests that exist."""

import subprocess
import sys
from pathlib import Path

import works_with
from every_method import ROWS

NAMED = {test for row in ROWS for tests in works_with.tests_of(row).values() for test in tests}


def test_the_page_is_what_the_rows_say():
    said = works_with.PAGE.read_text(encoding="utf-8")
    assert said == works_with.page(), "python tests/works_with.py writes it anew"


def test_every_row_has_all_columns():
    for row in ROWS:
        tests = works_with.tests_of(row)
        assert list(tests) == list(works_with.COLUMNS)
        assert all(tests.values())


def collect(files: set[str]) -> set[str]:
    """The ids of all tests in files, where the present run has not collected them."""
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "", *sorted(files)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout
    return set(found.stdout.splitlines())


def test_every_test_that_is_named_exists(collected: set[str]):
    # Red: a test renamed, a row that a module leaves out.
    missing = NAMED - collected
    if missing:
        missing -= collect({test.split("::")[0] for test in missing})
    assert not missing
