import json

import pytest

SMALL = (
    "ablate gnc --task tiny_task:task --scale smoke --rates 1 --alphas 1 --worker-size 8 "
    "--epochs 1 --look-seeds 1 --looks end --jobs 1"
)


def test_a_whole_ablation_from_the_command_line(cli, tiny, tmp_path, read):
    out = tmp_path / "out"
    code, printed, _ = cli(*SMALL.split(), "--out", out)
    assert code == 0
    assert "too few pairs to say whether the direction of GNC's noise matters" in printed
    assert f"Report: {out / 'report.html'}" in printed
    verdict = read(out / "verdict.json")
    assert (verdict["ablation"], verdict["verdict"], verdict["pairs"]) == ("gnc", None, 2)
    assert len(verdict["contrasts"]) == 6
    page = (out / "report.html").read_text()
    assert "noise_alignment" not in page
    assert "Hessian’s top eigenvectors" in page

    code, printed, _ = cli(*SMALL.split(), "--out", out, "--json")
    assert (code, json.loads(printed)) == (0, verdict)
    kept = page
    (out / "report.html").unlink()
    code, printed, _ = cli("report", out, "--export", tmp_path / "kept")
    assert code == 0
    assert (out / "report.html").read_text() == kept
    names = {path.name for path in (tmp_path / "kept").iterdir()}
    assert {"ablate.json", "power.json", "verdict.json", "figure.svg", "results.json"} <= names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("ablate", "the following arguments are required: WHAT"),
        ("ablate gcn", "no ablation 'gcn': did you mean 'gnc'?"),
        ("ablate gnc --task digit", "no task 'digit'"),
        ("ablate gnc --detect -1", "detect must be above 0 and finite, got -1"),
        ("ablate gnc --seeds 1", "seeds must be 2 to 1,000, got 1"),
        ("ablate gnc --looks never,end", "'never' does not say before which steps"),
        ("ablate gnc --task tiny_task:task --worker-size 7", "worker_size=7 cannot share"),
        ("ablate gnc --task tiny_task:task --worker-size 32", "needs at least 2 workers"),
        ("ablate gnc --task tiny_task:task --batch-size 72", "larger than the 64 training"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(cli, tiny, tmp_path, arguments, message):
    code, printed, error = cli(*arguments.split())
    assert (code, printed) == (2, "")
    assert error.startswith("largebatch: ")
    assert error.count("\n") == 1
    assert message in error
    assert {path.name for path in tmp_path.iterdir()} <= {"tiny_task.py", "__pycache__"}
