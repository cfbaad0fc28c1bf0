"""What a run's checkpoints show is what the run would have measured itself."""

import json
from dataclasses import replace

import pytest

from largebatch.lab.config import RunConfig
from largebatch.lab.errors import InputError
from largebatch.lab.probes import PROBES, asked, probe_run
from largebatch.lab.train import train


@pytest.fixture
def config(tiny):
    """GNC's noise is remembered, so that a checkpoint without it would look elsewhere."""
    return RunConfig(
        task=tiny, method="gnc", batch_size=32, worker_size=8, lr=0.3, alpha=0.1, epochs=2,
        keep="2", threads=1,
    )  # fmt: skip


def rows(path):
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in found if row["kind"] == "probe"]


@pytest.mark.parametrize("name", PROBES)
def test_sees_what_the_run_would_have_seen(name, config, tmp_path):
    # Red: a checkpoint without the workers' noise, another batch, the rate of another step.
    train(config, tmp_path / "run")
    train(replace(config, keep="", probes=(f"{name}@2",)), tmp_path / "itself")
    added = probe_run(tmp_path / "run", [asked(name, "1")], tmp_path / "rows.jsonl")
    itself = rows(tmp_path / "itself" / "metrics.jsonl")
    if name in OVER_STEPS:
        itself, after = itself[:1], rows(tmp_path / "rows.jsonl")[:1]
    else:
        after = rows(tmp_path / "rows.jsonl")
        assert added == len(itself) > 2
    assert after == itself


OVER_STEPS: set[str] = set()
"""Those whose rows hold more than one step, so that only the first is the same."""


def test_goes_on_where_it_stopped(config, tmp_path):
    train(config, tmp_path / "run")
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    chosen = [asked("gradient_cosine@1")]
    added = probe_run(tmp_path / "run", chosen, whole)
    lines = whole.read_text().splitlines(keepends=True)
    parts.write_text("".join(lines[:2]) + lines[2][:20])
    assert probe_run(tmp_path / "run", chosen, parts) == added - 2
    assert sorted(map(str, rows(parts))) == sorted(map(str, rows(whole)))
    assert probe_run(tmp_path / "run", chosen, parts) == 0


def test_rows_of_another_run_are_refused(config, tmp_path):
    # Red: another run's rows are taken for this one's, and nothing is measured.
    rows_of = tmp_path / "out" / "rows.jsonl"
    rows_of.parent.mkdir()
    for name, seed in (("one", 0), ("other", 1)):
        train(replace(config, seed=seed), tmp_path / name)
    probe_run(tmp_path / "one", [asked("gradient_cosine@start")], rows_of)
    with pytest.raises(InputError, match=r"holds rows of another run \(differs in seed\)"):
        probe_run(tmp_path / "other", [asked("gradient_cosine@start")], rows_of)


def test_leaves_the_run_as_it_is(config, tmp_path):
    train(config, tmp_path / "run")
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    probe_run(tmp_path / "run", [asked("gradient_cosine@start")], tmp_path / "rows.jsonl")
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


def test_a_folder_that_is_no_runs(tmp_path):
    with pytest.raises(InputError, match=r"is no run's folder: it has no config.json"):
        probe_run(tmp_path, [], tmp_path / "rows.jsonl")
