import re
import shlex

import pytest

from largebatch.lab.cli.main import build_parser
from largebatch.lab.compare import question_for
from largebatch.lab.compare.command import OPTIONS, command
from largebatch.lab.compare.question import METHODS, SCALES
from largebatch.lab.config import BatchesConfig
from largebatch.lab.errors import InputError


def test_the_default_is_the_one_that_is_promised():
    asked = question_for("digits")
    assert asked.methods == METHODS
    assert next(asked.pairs()) == ("msgd", 64)
    assert (asked.small_batch, asked.batch_sizes, asked.epochs) == (64, (1024,), 40)
    assert len(asked.seeds) == 5
    rules = {"msgd", "nesterov", "adamw", "lars", "sngm"}
    assert rules | {"gnc", "rnc", "sngm+gnc", "msgd+longer"} == set(METHODS)


def test_the_reference_comes_first_and_once():
    asked = question_for("digits", methods=("gnc",), batch_sizes=(64, 1024))
    pairs = [("msgd", 64), ("gnc", 64), ("msgd", 1024), ("gnc", 1024)]
    assert list(asked.pairs()) == pairs


def test_momentum_sgd_is_always_there_and_nothing_twice():
    asked = question_for("digits", methods=("gnc", "lars", "gnc"), batch_sizes=(512, 512))
    assert asked.methods == ("msgd", "gnc", "lars")
    assert asked.batch_sizes == (512,)


def test_longer_has_the_references_number_of_updates():
    asked = question_for("digits")
    for split, examples, each in (("test", 1297, 20), ("validation", 1024, 16)):
        longer = asked.run(("msgd+longer", 1024), split, examples)
        assert longer.updates == 40 * each
        # Warm-up is the same share of the run, counted in epochs of one large step each.
        assert longer.schedule.warmup_epochs == pytest.approx(0.05 * 40 * each)
    assert asked.run(("msgd", 1024), "test", 1297).updates is None


def test_longer_than_itself_is_left_out():
    asked = question_for("digits", methods=("msgd+longer",), batch_sizes=(64,))
    assert list(asked.pairs()) == [("msgd", 64)]


def test_a_batch_grows_from_the_small_one_to_its_own():
    asked = question_for("digits", methods=("msgd+grow",), batch_sizes=(32, 64, 256))
    assert list(asked.pairs())[1:] == [("msgd", 32), ("msgd", 256), ("msgd+grow", 256)]
    for split in ("test", "validation"):
        grown = asked.run(("msgd+grow", 256), split, 1000)
        assert (grown.batch_size, grown.batches.sizes) == (256, (64, 128))
        assert grown.batches.until == pytest.approx((40 / 3, 80 / 3))
        assert grown.updates is None
        assert grown.schedule == asked.run(("msgd", 256), split, 1000).schedule
    assert asked.run(("msgd", 256), "test", 1000).batches == BatchesConfig()


def test_tuning_and_final_seeds_are_distinct():
    for scale in SCALES:
        asked = question_for("digits", scale, seed=7)
        assert asked.seeds[0] == 7
        assert not set(asked.seeds) & set(asked.tuning_seeds)


def test_tuning_scores_once_and_may_be_shorter():
    asked = question_for("digits", tuning_epochs=5)
    trial, final = (asked.run(("msgd", 64), on, 1000) for on in ("validation", "test"))
    assert (trial.split, trial.epochs, trial.evaluations) == ("validation", 5, 1)
    assert (final.split, final.epochs, final.evaluations) == ("test", 40, 40)


def test_one_worker_is_never_larger_than_the_batch():
    asked = question_for("digits", worker_size=256, small_batch=64)
    assert asked.run(("msgd", 64), "test", 1000).worker_size == 64


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"methods": ("lers",)}, "unknown method 'lers'"),
        ({"widenings": -1}, "widenings must be 0 to 12, got -1"),
        ({"alphas": 13}, "alphas must be 1 to 12, got 13"),
        ({"rates": 0}, "rates must be 1 to 12, got 0"),
        ({"seeds": 1001}, "at most 1,000 seeds, got 1,001"),
        ({"tuning_seeds": 10**11}, "at most 1,000 seeds, got 100,000,000,000"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"seed": 2**63 - 2}, "seed must be 0 or more and less than 2^63"),
        ({"scale": "huge"}, "unknown scale 'huge': choose smoke, short, full"),
    ],
)
def test_bad_questions(given, message):
    with pytest.raises(InputError, match=re.escape(message)):
        question_for("digits", **given)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"epochs": 3, "seeds": 2, "seed": 5, "methods": ("gnc", "torch.optim:NAdam")},
        {"scale": "smoke", "small_batch": 32, "batch_sizes": (512, 1024), "train_size": 1200},
        {"scale": "full", "rates": 5, "alphas": 1, "widenings": 0, "tuning_epochs": 9},
        {"worker_size": 32, "evaluations": 4, "tuning_seeds": 3, "device": "cuda"},
    ],
)
def test_the_command_asks_the_same_question_again(given):
    asked = question_for("digits", **given)
    words = shlex.split(command(asked))
    assert words[0] == "largebatch"
    options = build_parser().parse_args(words[1:])
    named = {name: getattr(options, name) for name in OPTIONS}
    assert question_for(options.task, options.scale, options.seed, **named) == asked


def test_the_shortest_command():
    assert command(question_for("digits")) == "largebatch compare"
