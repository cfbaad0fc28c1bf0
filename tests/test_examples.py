"""Every file of examples/ runs as its reader would run it, with warnings as errors."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import largebatch

EXAMPLES = Path(__file__).parents[1] / "examples"
COMMAND = "import sys; from largebatch.lab.cli import main; sys.exit(main())"


def run(folder: Path, *arguments: str) -> str:
    """Standard output of ``python -W error ARGUMENTS`` in a copy of examples/."""
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    source = str(Path(largebatch.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_no_example_is_left_out():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "accelerate_loop.py",
        "batch_schedule.py",
        "hsdp.py",
        "lightning_loop.py",
        "ddp.py",
        "my_task.py",
        "plain_loop.py",
        "trainer.py",
    }


def test_the_plain_loop_perturbs_and_learns(tmp_path: Path):
    said = run(tmp_path / "examples", "plain_loop.py", "25")
    found = re.search(r"epoch  20 .* norm (\S+)\n(?:.*\n)*test accuracy ([\d.]+)%", said)
    assert found, said
    ratio, accuracy = float(found[1]), float(found[2])
    assert 1e-5 < ratio < 0.1, said  # zero would be no perturbation, and 1e-7 only rounding
    assert accuracy > 88, said  # ten classes; a loop that does not learn stays near 10


@pytest.mark.slow
@pytest.mark.parametrize("example", ["trainer.py", "accelerate_loop.py"])
def test_the_loops_of_hugging_face_do_so_too(example: str, tmp_path: Path):
    said = run(tmp_path / "examples", example, "20")
    ratio, accuracy = re.findall(r"weight norm (\S+)", said), re.search(r"y ([\d.]+)% of 500", said)
    assert accuracy, said
    assert 1e-6 < float(ratio[0]) < 0.1, said
    assert float(accuracy[1]) > 88, said


@pytest.mark.slow
@pytest.mark.parametrize("example", ["trainer.py", "accelerate_loop.py"])
def test_so_they_do_over_two_processes(example: str, tmp_path: Path):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    said = run(tmp_path / "examples", *launch, example, "20")
    accuracy = re.search(r"y ([\d.]+)% of 500", said)
    assert accuracy, said
    assert float(accuracy[1]) > 88, said


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_sharded_replicas_perturb_and_learn(processes: int, tmp_path: Path):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    said = run(tmp_path / "examples", *launch, "hsdp.py", "25")
    found = re.search(r"epoch  20 .* norm (\S+)\n(?:.*\n)*test accuracy ([\d.]+)%", said)
    assert found, said
    assert 1e-5 < float(found[1]) < 0.1, said
    assert float(found[2]) > 88, said


def test_processes_of_ddp_perturb_and_learn(tmp_path: Path):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    said = run(tmp_path / "examples", *launch, "ddp.py", "25")
    assert said.count("epoch  20 ") == 1  # one process speaks
    found = re.search(r"epoch  20 .* norm (\S+)\n(?:.*\n)*test accuracy ([\d.]+)%", said)
    assert found, said
    assert 1e-5 < float(found[1]) < 0.1, said
    assert float(found[2]) > 88, said


LIGHTNINGS_OWN = (
    "ignore:`isinstance(treespec, LeafSpec)`",  # its use of torch, which has a newer form
    "ignore:The 'train_dataloader' does not have many workers",
)


@pytest.mark.slow
def test_lightnings_loop_says_what_the_plain_loop_says(tmp_path: Path):
    ignored = [part for each in LIGHTNINGS_OWN for part in ("-W", each)]
    said = run(tmp_path / "lightning", *ignored, "lightning_loop.py", "25")
    plain = run(tmp_path / "plain", "plain_loop.py", "25")
    # The same weights to begin with, the same batches, the same workers; other sums of losses.
    ours, theirs = (
        [float(n) for n in re.findall(r"[\d.]+[\de-]*", text)] for text in (said, plain)
    )
    assert ours == pytest.approx(theirs, rel=0.02), said + plain


def test_a_growing_batch_takes_fewer_updates(tmp_path: Path):
    said = run(tmp_path / "examples", "batch_schedule.py", "10")
    found = re.findall(r": ([\d.]+)% of 500 images, (\d+) updates", said)
    (small, many), (grown, few) = [(float(a), int(u)) for a, u in found]
    assert (many, few) == (400, 160)
    assert min(small, grown) > 93, said


def test_a_task_of_ones_own_is_compared(tmp_path: Path):
    arguments = ["compare", "--task", "my_task:task", "--scale", "smoke", "--out", "wine"]
    arguments += ["--methods", "gnc", "--seeds", "1"]
    run(tmp_path / "examples", "-c", COMMAND, *arguments)
    out = tmp_path / "examples" / "wine"
    results = json.loads((out / "results.json").read_text())
    assert {row["task"] for row in results} == {"my_task:task"}
    assert {row["batch_size"] for row in results} >= {8, 64}
    assert "Three growers of wine" in (out / "report.html").read_text()
