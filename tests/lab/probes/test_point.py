"""The probes of a point in a run of digits, from the command line to the rows."""

import json
import math
from types import SimpleNamespace

import pytest
import torch

from largebatch.lab.cli import main
from largebatch.lab.probes import point
from largebatch.theory import mean_gradient_magnitude

NAMES = [kind.name for kind in point.PROBES]
OF_METHODS = ["perturbed_loss", "smoothness"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The rows of a run by method: {(probe, step): row}."""

    def run(method):
        out = tmp_path_factory.mktemp("runs") / method
        names = NAMES if method == "gnc" else OF_METHODS
        chosen = [f"{name}@end" for name in names] + [f"{name}@start" for name in OF_METHODS]
        probes = [part for each in chosen for part in ("--probe", each)]
        sets = [f"method={method}", "batch_size=256", "worker_size=64", "epochs=1", "lr=0.5"]
        sets += ["alpha=1"] if method == "gnc" else []
        options = [part for each in sets for part in ("--set", each)]
        code = main(["train", "--task", "digits", *options, *probes, "--out", str(out)])
        assert code == 0
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return {(row["probe"], row["step"]): row for row in lines if row["kind"] == "probe"}

    return {method: run(method) for method in ("gnc", "msgd")}


def last(rows, name):
    return rows[name, max(step for _, step in rows)]


def test_gradients_get_smaller_as_their_batches_grow(trained):
    row = last(trained["gnc"], "gradient_size")
    sizes, examples = row["batch_sizes"], row["examples"]
    assert sizes[:2] == [32, 64]
    assert sizes[-1] == examples
    assert sizes[-2] < examples <= 2 * sizes[-2]
    for layer in range(len(row["layers"])):
        magnitudes = [each[layer] for each in row["mean_magnitude"]]
        deviation, full = row["deviation"][layer], row["full_square"][layer]
        assert magnitudes[0] > magnitudes[-1]
        # Coordinates differ in their deviation: what theory makes of one for all is a bound, which
        # the mean gradient comes on top of.
        bound = mean_gradient_magnitude(deviation, 32) + math.sqrt(full)
        assert 0.2 * bound < magnitudes[0] < 1.1 * bound
        for n, square in zip(sizes, row["mean_square"], strict=True):
            expected = full + deviation**2 / n * (1 - n / examples)
            if row["layers"][layer].endswith("weight"):  # a bias has few coordinates to average
                assert square[layer] == pytest.approx(expected, rel=0.3)


def test_discarding_small_losses_makes_gradients_larger(trained):
    row = last(trained["gnc"], "discarded_gradient")
    assert row["shares"] == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    totals = [sum(each) for each in row["mean_magnitude"]]
    assert totals == sorted(totals)
    assert totals[-1] > 1.5 * totals[0]


def test_gncs_workers_look_elsewhere_from_the_second_step_on(trained):
    first, after = trained["gnc"]["perturbed_loss", 0], last(trained["gnc"], "perturbed_loss")
    assert first["worker_losses"] == [first["loss"]] * 4
    assert len({after["loss"], *after["worker_losses"]}) == 5
    plain = last(trained["msgd"], "perturbed_loss")
    assert plain["worker_losses"] == [plain["loss"]] * 4


def test_smoothness_is_of_both_losses_in_every_run(trained):
    for method, offsets in (("gnc", "method"), ("msgd", "gradient noise")):
        row = last(trained[method], "smoothness")
        assert row["offsets"] == offsets
        multiples = torch.linspace(0.5, 2, 8).tolist()
        rate = row["rates"][0] * 2
        assert row["rates"] == pytest.approx([m * rate for m in multiples])
        convolved = row["convolved"]
        assert convolved["loss_range"] != row["loss_range"]
        for found in (row, convolved):
            assert found["largest_ratio"] == max(found["ratios"]) > 0
            losses, distances = found["losses"], found["gradient_distances"]
            assert found["loss_range"] == pytest.approx(max(losses) - min(losses))
            assert found["gradient_range"] == pytest.approx(max(distances) - min(distances))
    # The same weights, batch and rate at the first step; GNC's workers have no noise yet.
    gnc, msgd = (trained[method]["smoothness", 0] for method in ("gnc", "msgd"))
    assert gnc["losses"] == msgd["losses"]
    assert gnc["convolved"]["losses"] == pytest.approx(gnc["losses"], rel=1e-5)


@pytest.mark.parametrize("name", ["curvature_radius", "distance_to_minimum"])
def test_curvature_is_told_of_each_layer(trained, name):
    row = last(trained["gnc"], name)
    field = {"curvature_radius": "mean_radius", "distance_to_minimum": "mean_distance"}[name]
    assert len(row[field]) == len(row["layers"]) > 1
    assert all(mean >= median > 0 for mean, median in zip(row[field], row["median"], strict=True))
    assert all(0 <= share < 1 for share in row["straight"])


def test_noise_places_are_gncs_one_place_on():
    model = torch.nn.Linear(2, 1, bias=False).double()
    x = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 6.0]], dtype=torch.float64)
    at = SimpleNamespace(
        model=model, loss=lambda x: model(x).mean(), batch=(x,), lr=0.5, chunk=1,
        workers=SimpleNamespace(count=2),
    )  # fmt: skip
    start = model.weight.detach().clone()
    found = []
    for place in point._noise_places(at):
        with place():
            found.append(model.weight.detach() - start)
    # Gradients are (2, 0) and (0, 4), their mean (1, 2); -0.5*(g - mean) of the other worker.
    torch.testing.assert_close(found[0], torch.tensor([[0.5, -1.0]]).double())
    torch.testing.assert_close(found[1], torch.tensor([[-0.5, 1.0]]).double())
    assert torch.equal(model.weight, start)


def test_a_task_without_losses_of_each_example_is_told_so():
    with pytest.raises(ValueError, match="which the task does not say: give Task its losses"):
        next(point._discarded_gradient(SimpleNamespace(losses=None)))


def test_without_noise_there_is_no_convolved_loss():
    model = torch.nn.Linear(2, 1, bias=False)
    at = SimpleNamespace(
        model=model, loss=lambda x: model(x).mean(), batch=(torch.ones(4, 2),), lr=0.5, chunk=4,
        workers=SimpleNamespace(count=1, perturb=None),
    )  # fmt: skip
    look = point._smoothness(at)
    next(look)
    with pytest.raises(StopIteration) as stop:
        next(look)
    assert (stop.value.value.convolved, stop.value.value.offsets) == (None, None)
