import shutil

import pytest

from largebatch.lab.report.read import read_comparison
from largebatch.lab.report.rows import metric_for, sections

TWO = {"msgd": 80.0, "sngm": 90.0}


def exactly(sngm, msgd, reference=None):
    """Final values of the two methods, seed by seed."""
    reference = reference or [96.0 + 0.1 * s for s in range(len(msgd))]
    columns = {("sngm", 1024): sngm, ("msgd", 1024): msgd, ("msgd", 64): reference}
    return {(*key, seed): v for key, values in columns.items() for seed, v in enumerate(values)}


def section(make, sngm, msgd, **options):
    values = exactly(sngm, msgd)
    folder = make(methods=TWO, values=values, seeds=len(msgd), metrics=False, **options)
    return sections(read_comparison(folder))[0]


def test_differences_are_paired_by_seed(make):
    found = section(make, [51.0, 61.5, 71.0, 81.5, 91.0], [50.0, 60.0, 70.0, 80.0, 90.0])
    sngm = found.methods[0]
    assert sngm.difference.mean == pytest.approx(1.2)
    assert sngm.difference.sd == pytest.approx(0.27386, abs=1e-4)
    assert sngm.verdict == "better"  # unpaired, the seeds' 15.8 points would hide it


def test_verdicts(make):
    base = [80.0, 81.0, 82.0, 83.0, 84.0]
    for shift, verdict in ((3.0, "better"), (-3.0, "worse"), (0.01, "not distinguishable")):
        values = [v + shift + (0.4 if s % 2 else -0.3) for s, v in enumerate(base)]
        found = section(lambda shift=shift, **o: make(f"compare{shift}", **o), values, base)
        assert found.methods[0].verdict == verdict


def test_the_quantile_is_students(make):
    base = [80.0] * 5
    # mean 1, sd 0.9: t = 2.48 is beyond the normal's 1.96 and within Student's 2.78
    values = [80 + 1 + d * 0.9 / 0.7906 for d in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    assert section(make, values, base).methods[0].verdict == "not distinguishable"


def test_no_verdict_under_five_pairs(make):
    found = section(make, [90.0, 91.0, 90.5, 90.2], [80.0, 81.0, 80.4, 80.1])
    assert found.methods[0].verdict == ""
    assert found.methods[0].difference.n == 4
    assert found.reference.verdict == ""


def test_a_diverged_seed_is_counted_and_its_pair_left_out(make):
    values = [90.0, 91.0, 90.5, 90.2, 93.0, 91.0]
    base = [80.0, 81.0, 80.4, 80.1, 99.0, 81.2]
    row = section(make, values, base, diverged=(("sngm", 1024, 4),)).methods[0]
    assert row.diverged == [4]
    assert row.difference.n == 5
    assert row.difference.mean == pytest.approx((10 + 10 + 10.1 + 10.1 + 9.8) / 5)
    assert row.estimate.n == 5


def test_all_seeds_diverged_is_a_row_without_values(make):
    gone = tuple(("sngm", 1024, s) for s in range(5))
    row = section(make, [90.0] * 5, [80.0] * 5, diverged=gone).methods[0]
    assert (row.estimate, row.difference, row.share, row.verdict) == (None, None, None, "")
    assert len(row.diverged) == 5


def test_lower_is_better_turns_verdict_and_best_round(make):
    methods = {"msgd": 2.0, "sngm": 1.4, "lars": 2.9}
    options = {"reference": 1.2, "spread": 0.01, "metric": "mse", "higher_is_better": False}
    found = sections(read_comparison(make(methods=methods, metrics=False, **options)))[0]
    verdicts = {row.method: row.verdict for row in found.methods}
    assert verdicts == {"sngm": "better", "lars": "worse"}
    assert [row.method for row in found.best] == ["sngm"]
    assert found.methods[0].method == "sngm"
    assert found.methods[0].share.value == pytest.approx(0.75, abs=0.05)
    assert found.methods[0].test_error is None


def test_share_is_of_the_loss_to_the_reference(make):
    found = section(make, [94.0, 94.2, 94.0, 94.3, 94.1], [80.0, 80.3, 80.1, 80.2, 80.0])
    share = found.methods[0].share
    assert share.value == pytest.approx((94.12 - 80.12) / (96.2 - 80.12))
    assert found.reference.share is None


def test_the_control_that_trains_longer_is_never_best_on_validation(make):
    found = sections(read_comparison(make(seeds=1, metrics=False)))[0]
    scores = {row.method: row.choice["validation"] for row in found.methods}
    assert max(scores, key=scores.get) == "msgd+longer"
    assert [row.method for row in found.best] == ["sngm"]


def test_bonferroni_is_stricter_than_one_comparison(make):
    methods = {"msgd": 80.0} | {f"m{k}": 80.0 for k in range(10)}
    base = [80.0, 80.5, 81.0, 80.2, 80.7]
    near = [v + 1 + d for v, d in zip(base, (-0.8, 0.6, -0.3, 0.5, 0.3), strict=True)]
    far = [v + 9 + d for v, d in zip(base, (-0.8, 0.6, -0.3, 0.5, 0.3), strict=True)]
    values = {("msgd", 1024, s): v for s, v in enumerate(base)}
    values |= {("m0", 1024, s): v for s, v in enumerate(near)}
    values |= {("m1", 1024, s): v for s, v in enumerate(far)}
    folder = make(methods=methods, values=values, metrics=False, tuning=False)
    rows = {r.method: r for r in sections(read_comparison(folder))[0].methods}
    assert (rows["m0"].verdict, rows["m0"].survives_bonferroni) == ("better", False)
    assert (rows["m1"].verdict, rows["m1"].survives_bonferroni) == ("better", True)


def test_unfinished_runs_are_counted_and_never_values(make):
    folder = make(methods=TWO, unfinished=(("sngm", 1024, 2), ("sngm", 1024, 3)))
    row = sections(read_comparison(folder))[0].methods[0]
    assert (row.unfinished, row.diverged, len(row.finished)) == (2, [], 3)


def test_two_finished_runs_of_one_seed_contradict(make):
    folder = make(methods=TWO, seeds=1, metrics=False)
    shutil.copytree(folder / "final" / "0002", folder / "final" / "copy")
    with pytest.raises(ValueError, match=r"final/0002 and final/copy are both sngm .* remove"):
        sections(read_comparison(folder))


def test_a_repeated_run_stands_for_the_interrupted_one(make):
    folder = make(methods=TWO, seeds=1, metrics=False)
    shutil.copytree(folder / "final" / "0002", folder / "final" / "a-again")
    (folder / "final" / "a-again" / "result.json").unlink()
    row = sections(read_comparison(folder))[0].methods[0]
    assert (row.unfinished, len(row.finished)) == (0, 1)


def test_every_batch_size_has_its_own_baseline(make):
    found = sections(read_comparison(make(batches=(128, 1024, 4096), metrics=False)))
    assert [s.batch_size for s in found] == [128, 1024, 4096]
    assert all(s.baseline.batch_size == s.batch_size for s in found)
    gaps = [s.reference.difference.mean for s in found]
    assert gaps == sorted(gaps)


def test_a_method_at_the_small_batch_is_held_against_momentum_sgd_there(make):
    values = {("sngm", 64, s): 97.0 + s / 10 for s in range(5)}
    folder = make(methods=TWO, batches=(64, 1024), values=values, metrics=False)
    small = sections(read_comparison(folder))[0]
    assert (small.batch_size, small.reference, small.baseline.batch_size) == (64, None, 64)
    assert small.methods[0].difference.n == 5


def test_digits_follow_the_spread(make):
    folder = make(methods={"msgd": 2.0}, reference=1.0, spread=0.001, metric="mse", metrics=False)
    assert metric_for(read_comparison(folder)).digits in (3, 4)
