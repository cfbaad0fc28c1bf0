import pytest

from largebatch.lab.report import summary_table
from largebatch.lab.report.finding import headline
from largebatch.lab.report.read import read_comparison
from largebatch.lab.report.rows import metric_for, sections

TWO = {"msgd": 80.0, "sngm": 94.0}


def said(folder, index=-1):
    comparison = read_comparison(folder)
    return headline(comparison, sections(comparison)[index], metric_for(comparison))


def values(**columns):
    names = {"reference": ("msgd", 64), "msgd": ("msgd", 1024), "sngm": ("sngm", 1024)}
    return {(*names[k], s): v for k, column in columns.items() for s, v in enumerate(column)}


BASE = [80.0, 80.4, 80.2, 80.6, 80.3]
REF = [96.0, 96.5, 96.2, 96.6, 96.2]


def test_a_loss_and_its_recovery(make):
    sngm = [94.0, 94.5, 94.2, 94.6, 94.2]
    folder = make(methods=TWO, values=values(reference=REF, msgd=BASE, sngm=sngm))
    assert said(folder) == [
        "On digits, momentum SGD at batch 1,024 loses 16.0 points against batch 64 "
        "after the same 40 epochs.",
        "The method best on validation, sngm, wins back 88% of it.",
    ]


def test_no_loss(make):
    near = [v + d for v, d in zip(BASE, (0.3, -0.4, 0.2, -0.1, 0.1), strict=True)]
    folder = make(methods=TWO, values=values(reference=near, msgd=BASE, sngm=BASE))
    first, second = said(folder)
    assert "shows no loss that can be told from zero against batch 64" in first
    assert "95% interval" in first
    assert "cannot be told from momentum SGD there" in second
    assert "wins back" not in second


def test_the_large_batch_may_be_better(make):
    folder = make(methods=TWO, values=values(reference=BASE, msgd=REF, sngm=REF))
    assert "loses nothing: it ends 16.0 points better than batch 64" in said(folder)[0]


def test_negative_recovery_is_called_a_loss(make):
    worse = [v - 5 + d for v, d in zip(BASE, (0.1, 0, -0.1, 0, 0), strict=True)]
    folder = make(methods=TWO, values=values(reference=REF, msgd=BASE, sngm=worse))
    assert said(folder)[1] == "The method best on validation, sngm, loses a further 5.0 points."


def test_under_five_seeds_there_is_no_verdict(make):
    first, second = said(make(methods=TWO, seeds=2))
    assert "on 2 pairs of seeds: too few for a verdict, which takes 5" in first
    assert "too few pairs of seeds for a verdict" in second
    assert not any(word in first + second for word in ("loses", "wins back"))


def test_momentum_sgd_diverged_everywhere(make):
    gone = tuple(("msgd", 1024, s) for s in range(5))
    first, second = said(make(methods=TWO, diverged=gone))
    assert first == (
        "On digits, momentum SGD at batch 1,024 has no final value: 5 of 5 seeds diverged."
    )
    assert second.startswith("The method best on validation, sngm, ends at 9")
    assert "worse than momentum SGD at batch 64" in second


def test_at_its_own_batch_size_the_reference_is_compared_with_nothing(make):
    table = summary_table(make(methods=TWO, batches=(64, 1024)))
    assert "momentum SGD at batch 64, the reference itself, ends at 9" in table
    assert "can be paired" not in table


def test_some_seeds_diverged_is_said(make):
    folder = make(methods=TWO, seeds=7, diverged=(("msgd", 1024, 1), ("sngm", 1024, 2)))
    first, second = said(folder)
    assert first.endswith("(1 of 7 seeds diverged).")
    assert second.endswith("(1 of 7 seeds diverged).")


def test_the_best_method_diverged(make):
    gone = tuple(("sngm", 1024, s) for s in range(5))
    assert said(make(methods=TWO, diverged=gone))[1] == (
        "The method best on validation, sngm, has no final value: 5 of 5 seeds diverged."
    )


def test_nothing_better_than_momentum_sgd_itself(make):
    assert said(make(methods={"msgd": 90.0, "sngm": 70.0}))[1] == (
        "No method did better than momentum SGD itself on validation."
    )


def test_a_tie_on_validation_names_both(make):
    folder = make(methods={"msgd": 80.0, "sngm": 94.0, "lars": 94.0})
    assert said(folder)[1].startswith("Best on validation, tied, are ")
    assert said(folder)[1].count("wins back") == 2


def test_no_tuning_no_best(make):
    folder = make(methods=TWO)
    (folder / "choices.json").unlink()
    assert len(said(folder)) == 1


def test_too_few_updates_are_named(make):
    assert "so much is too few updates" in said(make())[2]


@pytest.mark.parametrize("missing", [("msgd", 1024), ("msgd", 64)])
def test_what_is_not_there_yet(make, missing):
    folder = make(methods=TWO, unfinished=tuple((*missing, s) for s in range(5)))
    first = said(folder)[0]
    assert ("has not finished there" in first) or ("can be paired with the reference" in first)


def test_a_metric_where_lower_is_better(make):
    options = {"metric": "mse", "higher_is_better": False, "spread": 0.01, "reference": 1.0}
    first, second = said(make(methods={"msgd": 2.0, "sngm": 1.5}, **options))
    assert "loses 0.995 mse against batch 64" in first
    assert "points" not in first
    assert "wins back 5" in second
