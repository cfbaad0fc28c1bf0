import shlex

import pytest

from largebatch.lab.ablate import ablation_for
from largebatch.lab.ablate.command import OPTIONS, OWN, command
from largebatch.lab.ablate.question import SCALES
from largebatch.lab.cli.main import build_parser
from largebatch.lab.errors import InputError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seeds": 1}, "seeds must be 2 to 1,000, got 1"),
        ({"max_seeds": 1001}, "max_seeds must be 2 to 1,000, got 1001"),
        ({"pilot_seeds": 1}, "a pilot needs 2 seeds or more for a spread, got 1"),
        ({"detect": 0.0}, "detect must be above 0 and finite, got 0"),
        ({"detect": float("nan")}, "detect must be above 0 and finite, got nan"),
        ({"power": 1.0}, "power must be at least 0.5 and below 1, got 1"),
        ({"looks": ("sometimes",)}, "'sometimes' does not say before which steps"),
        ({"scale": "huge"}, "unknown scale 'huge'"),
        ({"rates": 0}, "rates must be 1 to 12, got 0"),
    ],
)
def test_bad_values_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        ablation_for("gnc", **given)


def test_an_unknown_ablation_gives_the_nearest_name():
    with pytest.raises(InputError, match="no ablation 'gcn': did you mean 'gnc'"):
        ablation_for("gcn")


def test_seeds_of_tuning_pilot_and_final_runs_differ():
    for scale in SCALES:
        found = ablation_for("gnc", scale=scale, seed=7)
        sets = [
            set(s) for s in (found.question.seeds, found.question.tuning_seeds, found.pilot_seeds)
        ]
        assert sum(map(len, sets)) == len(set.union(*sets))
        assert min(found.question.seeds) == 7


def test_the_first_seeds_look_and_the_others_do_not():
    found = ablation_for("gnc", seed=5, look_seeds=2, looks=("end",))
    assert [found.probes(s) for s in (5, 6, 7)] == [("noise_alignment@end",)] * 2 + [()]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"seeds": 20},
        {"max_seeds": 100, "detect": 0.5, "power": 0.9, "seed": 3},
        {"scale": "smoke", "epochs": 3, "looks": (), "train_size": 500},
        {"batch_size": 256, "worker_size": 32, "looks": ("10", "end"), "look_seeds": 3},
        {"tuning_seeds": 2, "pilot_seeds": 5, "rates": 2, "alphas": 2, "widenings": 0},
    ],
)
def test_the_command_asks_the_same_again(given):
    found = ablation_for("gnc", **given)
    options = build_parser().parse_args(shlex.split(command(found))[1:])
    names = [*OPTIONS, *OWN, "looks"]
    again = ablation_for(
        options.ablation,
        options.task,
        options.scale,
        options.seed,
        **{name: getattr(options, name) for name in names},
    )
    assert again == found
