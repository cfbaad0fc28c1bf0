"""largebatch probe RUN...: looks at checkpoints, rows and a page; what cannot be is refused."""

import json
from pathlib import Path

import pytest

from largebatch.lab.alone import alone_in
from largebatch.lab.probes import ProbeKind, kinds


@pytest.fixture
def trained(cli, tiny, tmp_path):
    """Trains a short run that keeps checkpoints; its folder."""

    def run(name, *more):
        out = tmp_path / name
        command = ["train", "--task", tiny, "--set", "method=rnc", "--set", "alpha=0.1"]
        command += ["--set", "batch_size=16", "--set", "worker_size=8", "--set", "epochs=2"]
        code, _, err = cli(*command, "--keep", "epoch", "--json", "--out", str(out), *more)
        assert code == 0, err
        return out

    return run


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_looks_at_every_kept_checkpoint_and_writes_the_page(cli, trained, tmp_path):
    one, other = trained("one", "--probe", "block_norms@start"), trained("other", "--seed", "1")
    out = tmp_path / "why"
    names = ["--probe", "gradient_cosine", "--probe", "noise_scale@start"]
    code, told, _ = cli("probe", str(one), str(other), *names, "--out", str(out))
    assert code == 0
    assert told.strip() == f"Report: {out / 'report.html'}"
    for run in (one, other):
        seen = rows(out / run.name / "probes.jsonl")
        assert [row["probe"] for row in seen].count("noise_scale") == 1
        steps = sorted(row["step"] for row in seen if row["probe"] == "gradient_cosine")
        kept = sorted(int(p.stem[5:]) for p in (run / "checkpoint").glob("step-*.pt"))
        assert steps == kept
        assert len(kept) == 2
    page = (out / "report.html").read_text()
    assert all(text in page for text in ("cosine", "Noise scale", "largebatch probe"))


def test_json_has_what_the_run_measured_itself_too(cli, trained, tmp_path):
    run = trained("run", "--probe", "block_norms@start")
    code, out, _ = cli(
        "probe",
        str(run),
        "--probe",
        "gradient_cosine@start",
        "--json",
        "--out",
        str(tmp_path / "o"),
    )
    assert code == 0
    assert [row["probe"] for row in json.loads(out)["run"]] == ["block_norms", "gradient_cosine"]


def test_a_report_alone_needs_no_data(cli, trained, tmp_path):
    run, out = trained("run"), tmp_path / "out"
    (tmp_path / "tiny_task.py").unlink()
    assert cli("probe", str(run), "--out", str(out))[0] == 0
    assert (out / "report.html").exists()


def test_what_cannot_be_is_refused_before_any_look(cli, trained, tmp_path):
    run, out = trained("run"), tmp_path / "out"
    twin = tmp_path / "elsewhere" / "run"
    twin.mkdir(parents=True)
    (twin / "config.json").write_text((run / "config.json").read_text())
    for arguments, said in (
        ((str(tmp_path),), "is no run's folder: it has no config.json"),
        ((str(run), "--probe", "cosine"), "unknown probe 'cosine'"),
        ((str(run), "--probe", "gradient_cosine@never"), "'never' does not say before which steps"),
        ((str(run), str(twin)), "two runs have folders of one name"),
        ((str(run), "--data-dir", str(tmp_path / "no")), "is not a folder"),
    ):
        code, _, err = cli("probe", *arguments, "--out", str(out))
        assert code == 2, err
        assert said in err
        assert err.count("\n") == 1
    assert not out.exists()


def test_a_probe_that_cannot_look_at_this_run_is_refused(cli, trained, tmp_path):
    run = trained("run", "--set", "method=msgd", "--set", "alpha=null", "--set", "worker_size=16")
    code, _, err = cli("probe", str(run), "--probe", "noise_scale", "--out", str(tmp_path / "out"))
    assert (code, err.count("\n")) == (2, 1)
    assert "probe noise_scale needs at least 2 workers in a step" in err
    assert not (tmp_path / "out").exists()


def test_a_probe_that_fails_does_so_by_name(cli, trained, tmp_path, monkeypatch):
    def look(at):
        raise ValueError("it was dark")
        yield

    monkeypatch.setitem(kinds.PROBES, "dark", ProbeKind("dark", "", "", "", look))
    code, _, err = cli("probe", str(trained("run")), "--probe", "dark", "--out", "out")
    assert (code, err) == (1, "largebatch: probe dark at step 0: it was dark\n")


def test_no_run_is_looked_at_where_one_cannot_be(cli, trained, tmp_path):
    runs = [str(trained("a")), str(trained("b", "--set", "worker_size=16"))]
    code, _, err = cli("probe", *runs, "--probe", "perturbed_loss", "--probe", "noise_scale")
    assert (code, err.count("\n")) == (2, 1)
    assert "probe noise_scale needs at least 2 workers in a step" in err
    assert not (tmp_path / "probes").exists()


def test_one_command_at_a_time_writes_rows(cli, trained, tmp_path):
    with alone_in(tmp_path / "probes"):
        code, _, err = cli("probe", str(trained("run")), "--probe", "gradient_cosine")
    assert code == 2
    assert "another command is at work in probes" in err
