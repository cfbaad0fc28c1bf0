"""The training score: that of the weights before the step, on all training examples."""

import json

import pytest

from largebatch.lab.config import RunConfig
from largebatch.lab.evaluate import evaluate
from largebatch.lab.setup import make_training, plan_run
from largebatch.lab.train import train


@pytest.mark.parametrize(("task", "metric"), [("task", "accuracy_percent"),
                                              ("errors", "error_percent")])  # fmt: skip
def test_is_what_evaluation_gives_before_the_step(task, metric, tiny, tmp_path):
    # Red: held-out examples, the loss in training mode (dropout), weights after the step.
    config = RunConfig(
        task=f"tiny_task:{task}", batch_size=32, worker_size=8, epochs=1, threads=1,
        probes=("training_score@1",),
    )  # fmt: skip
    train(config, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "probe"]
    plan = plan_run(config, None)
    expected = evaluate(make_training(config, plan).model, plan.task, plan.split.train)
    assert rows[0]["metric"] == metric
    assert (rows[0]["loss"], rows[0]["score"]) == (expected["loss"], expected[metric])
    assert rows[0]["examples"] == len(plan.split.train[0])
    assert rows[-1]["loss"] != rows[0]["loss"]


def test_a_model_that_draws_when_it_is_scored_draws_the_same_in_the_run(tiny, tmp_path):
    # Red: random numbers of the look are missing in the run; a look that fails leaves modes.
    (tmp_path / "drawing.py").write_text(DRAWING)
    found = {}
    for task in ("drawing:task", "drawing:failing"):
        for probes in ((), ("training_score@1",)):
            config = RunConfig(task=task, batch_size=32, worker_size=32, epochs=2, probes=probes)
            found[probes] = train(config, tmp_path / "runs" / f"{task[8:]}-{len(probes)}")["loss"]
        assert found[()] == found["training_score@1",]
    rows = (tmp_path / "runs" / "failing-1" / "metrics.jsonl").read_text()
    assert rows.count("out of memory") == 6


def test_a_metric_may_be_called_loss(tiny, tmp_path):
    (tmp_path / "drawing.py").write_text(DRAWING)
    config = RunConfig(
        task="drawing:loss", batch_size=32, worker_size=32, probes=("training_score@end",), epochs=1
    )
    train(config, tmp_path / "run")
    rows = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    (row,) = (row for row in rows if row["kind"] == "probe")
    assert (row["metric"], row["score"]) == ("loss", row["loss"])


DRAWING = """
from tiny_task import *

class Draws(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x):
        return self.inner(nn.functional.dropout(x, 0.1, training=True))

def score(outputs, targets):
    if len(targets) > 60:
        raise RuntimeError("out of memory")
    return 100.0 * (outputs.argmax(dim=1) == targets)

task = Task(name="draws", model=Draws, **parts)
failing = Task(name="fails", model=network, score=score, **(parts | {"validation": 0.2}))
loss = Task(name="lossy", model=network, metric="loss", higher_is_better=False,
            score=lambda o, y: nn.functional.cross_entropy(o, y, reduction="none"), **parts)
"""
