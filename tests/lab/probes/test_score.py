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
