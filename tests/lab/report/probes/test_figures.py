"""Rows made by hand, and the figures that must come of them."""

import json
import math
import re

import pytest

from largebatch.lab.report.probes import batch_sizes, write_probe_report
from largebatch.lab.report.probes.page import DRAWN, asked, figures
from largebatch.lab.report.probes.runs import read_probed
from largebatch.lab.report.probes.update_size import searched_space

FIGURE = {
    "gradient_cosine": {"cosine"},
    "noise_covariance": {"noise-shape"},
    "offset_covariance": {"offset-shape"},
    "perturbed_loss": {"perturbed-loss"},
    "smoothness": {"smoothness"},
    "noise_scale": {"noise-scale"},
    "spectral_noise_scale": {"noise-scale"},
    "alignment": {"alignment"},
    "offset_alignment": {"offset-alignment"},
    "hessian": {"hessian"},
    "loss_line": {"loss-line"},
    "loss_plane": {"loss-plane"},
    "path_smoothness": {"path-smoothness"},
    "block_norms": {"block-norms"},
    "gradient_size": {"gradient-size", "loss-stride"},
    "update_size": {"update-size", "momentum"},
    "discarded_gradient": {"discarded"},
    "curvature_radius": {"curvature"},
    "distance_to_minimum": {"distance"},
    "training_score": {"curves"},
    "fluctuation": {"numbers"},
}


def shown(out, *folders):
    return {figure.name: figure for figure in figures(read_probed(out, folders))}


@pytest.mark.parametrize("probe", FIGURE)
def test_a_figure_is_there_when_its_rows_are_and_only_then(write, tmp_path, probe):
    found = shown(tmp_path, write(tmp_path / "run", only={probe}))
    assert set(found) == FIGURE[probe] | {"curves"}
    for figure in found.values():
        assert figure.says.endswith(".")
        assert figure.rows.startswith("Rows: ")
        assert bool(figure.panels) == (figure.name != "numbers")


def test_every_probe_that_is_drawn_has_a_figure_here():
    assert set(FIGURE) - {"fluctuation"} == DRAWN


def test_without_any_row_there_is_no_figure_but_a_page(write, tmp_path):
    folder = write(tmp_path / "run", rows=[])
    (folder / "metrics.jsonl").unlink()
    assert shown(tmp_path, folder) == {}
    html = write_probe_report(tmp_path / "out", [folder], "x").read_text()
    assert "No probe left a row in these runs" in html


def nulled(row, keep):
    """The row with every number that `keep` refuses made null, through lists and objects."""
    if isinstance(row, dict):
        place = ("kind", "probe", "step", "epoch", "layers")
        return {k: v if k in place else nulled(v, keep) for k, v in row.items()}
    if isinstance(row, list):
        return [nulled(v, keep) for v in row]
    return row if keep() else None


@pytest.mark.parametrize("probe", FIGURE)
@pytest.mark.parametrize("every", [1, 2, 3])
def test_nulls_leave_holes_and_never_nan(write, every_row, tmp_path, probe, every):
    count = iter(range(10**9))
    rows = [r for r in every_row(places=[1, 2, 3, 4, 5, 6]) if r["probe"] == probe]
    rows = [nulled(r, lambda: every > 1 and next(count) % every != 0) for r in rows]
    folder = write(tmp_path / "run", rows=rows)
    html = write_probe_report(tmp_path / "out", [folder], "x").read_text()
    charts = re.findall(r"<svg .*?</svg>(?!</svg>)", html, flags=re.S)
    assert charts
    assert not [c for c in charts if re.search(r'[" ](nan|inf|None)\b', c)]


def test_a_line_is_broken_where_a_value_is_missing(write, every_row, tmp_path):
    rows = [r for r in every_row(places=range(1, 10)) if r["probe"] == "gradient_cosine"]
    whole = shown(tmp_path, write(tmp_path / "whole", rows=rows))["cosine"].panels[1].chart
    rows[4]["cosine"] = None
    torn = shown(tmp_path, write(tmp_path / "torn", rows=rows))["cosine"].panels[1].chart
    assert [chart.count('class="line r0"') for chart in (whole, torn)] == [1, 2]
    assert "epoch 5" not in torn


@pytest.mark.parametrize("probe", FIGURE)
def test_a_row_with_nothing_in_it_hurts_nobody(write, tmp_path, probe):
    place = {"kind": "probe", "probe": probe, "step": 1, "epoch": 1.0}
    folder = write(tmp_path / "run", rows=[place, place | {"step": 2, "layers": None}])
    assert "curves" in shown(tmp_path, folder)


@pytest.mark.parametrize("probe", sorted(set(FIGURE) - {"fluctuation"}))
def test_one_row_alone_is_seen(write, tmp_path, probe):
    found = shown(tmp_path, write(tmp_path / "run", only={probe}, every=30))
    for name in FIGURE[probe]:
        for panel in found[name].panels:
            assert re.search(r'class="(trial|bar|interval|heat|line r0 bold)', panel.chart)


@pytest.mark.parametrize("count", range(1, 7))
def test_one_to_six_runs_stand_side_by_side(write, tmp_path, count):
    folders = [
        write(tmp_path / str(k), method=f"m{k}", only={"gradient_cosine", "smoothness"}, every=10)
        for k in range(count)
    ]
    figure = shown(tmp_path, *folders)["cosine"]
    overall = figure.panels[1].chart
    for k in range(count):
        assert f'class="line r{k}"' in overall
        assert f"m{k}" in figure.says or count > 3
    own = [*figure.panels[2:], *figure.more]
    assert len(own) == count
    assert bool(figure.more) == (count > 2)


def test_the_rates_drop_is_marked_and_what_lies_around_it_is_said(write, every_row, tmp_path):
    rows = [r for r in every_row() if r["probe"] == "gradient_cosine"]
    rows = [r | {"cosine": 0.9 if r["epoch"] <= 18 else 0.25} for r in rows]
    figure = shown(tmp_path, write(tmp_path / "run", rows=rows))["cosine"]
    assert "Across the drop of the rate at epoch 18: msgd: 0.9 to 0.25." in figure.says
    assert "the learning rate drops to 0.1 of itself, epoch 18" in figure.panels[1].chart
    steady = write(tmp_path / "steady", rows=rows, schedule={"kind": "cosine", "milestones": [18]})
    figure = shown(tmp_path, steady)["cosine"]
    assert "Across the drop" not in figure.says
    assert "It fell most: msgd around epoch 18.5, by 0.65." in figure.says


def test_findings_follow_the_rows(write, every_row, tmp_path):
    rows = [r for r in every_row() if r["probe"] in ("noise_covariance", "noise_scale")]
    for row in rows:
        row["condition"] = [3.0 * v for v in row.get("isotropic_condition", [])]
        row["noise_scale"] = 256.0
    found = shown(tmp_path, write(tmp_path / "run", rows=rows))
    assert "3: anisotropic" in found["noise-shape"].says
    assert "the batch of 1,024 is 4 times that" in found["noise-scale"].says
    for row in rows:
        row["condition"] = row.get("isotropic_condition", [])
    found = shown(tmp_path, write(tmp_path / "other", rows=rows))
    assert "1: not far from isotropic" in found["noise-shape"].says


def test_theory_is_the_corrected_equation():
    # E|g| of a standard normal is sqrt(2/pi); the mean of n has its deviation over sqrt n
    assert batch_sizes.mean_gradient(3.0, 4.0) == pytest.approx(1.5 * math.sqrt(2 / math.pi))
    assert batch_sizes.mean_square(3.0, 4.0) == pytest.approx(9 / 4)


def test_measured_over_theory_is_one_where_rows_obey_it(write, every_row, tmp_path):
    rows = [r for r in every_row(places=[1]) if r["probe"] == "gradient_size"]
    (row,) = rows
    row["mean_magnitude"] = [
        [s * math.sqrt(2 / math.pi / n) for s in row["deviation"]] for n in row["batch_sizes"]
    ]
    says = shown(tmp_path, write(tmp_path / "run", rows=rows))["gradient-size"].says
    assert ": 1 to 1 at 32, 1 to 1 at 8,192." in says


def test_the_searched_space_counts_the_steps_between_rows():
    rows = [
        {"epoch": s, "step": s, "mean_magnitude": [v]} for s, v in ((2, 1.0), (4, 3.0), (9, 2.0))
    ]
    assert [y for _, y in searched_space(rows)] == [1.0, 7.0, 17.0]
    rows[1]["mean_magnitude"] = [None]
    assert [y for _, y in searched_space(rows)] == [1.0, 15.0]


def test_seeds_of_one_setting_get_their_spread(write, tmp_path):
    folders = [write(tmp_path / str(s), seed=s, rows=[]) for s in range(3)]
    other = write(tmp_path / "other", method="gnc", rows=[])
    figure = shown(tmp_path, *folders, other)["seeds"]
    assert [p.caption for p in figure.panels] == [
        "training loss: msgd",
        "held-out loss: msgd",
        "test accuracy (%): msgd",
    ]
    assert "range of 3 seeds" in figure.panels[0].chart
    assert "seeds" not in shown(tmp_path, folders[0], other)


def test_the_training_score_stands_beside_the_held_out_one_where_it_was_asked_for(write, tmp_path):
    plain = write(tmp_path / "plain", rows=[])
    scored = [write(tmp_path / str(s), seed=s, only={"training_score"}) for s in range(2)]
    captions = {
        name: [panel.caption for panel in shown(tmp_path, plain, *scored)[name].panels]
        for name in ("curves", "seeds")
    }
    assert captions["curves"][-2:] == ["training accuracy (%)", "test accuracy (%)"]
    assert captions["seeds"][-2:] == [f"{label}: msgd" for label in captions["curves"][-2:]]
    assert "No training score" in shown(tmp_path, plain)["curves"].source
    row = {"kind": "probe", "probe": "training_score", "step": 4, "epoch": 1.0}
    failed = write(tmp_path / "failed", rows=[row | {"error": "out of memory"}])
    assert "No training score" in shown(tmp_path, failed)["curves"].source
    error = write(tmp_path / "e", rows=[row | {"score": 8.0, "metric": "error_percent"}])
    panels = shown(tmp_path, failed, error, scored[0])["curves"].panels
    marks = {panel.caption: panel.chart.count("<title>") for panel in panels}
    assert marks["training error (%)"] < marks["training accuracy (%)"]
    assert "training score" not in marks
    assert "No training score" not in shown(tmp_path, plain, *scored)["curves"].source


def test_several_batches_give_the_figure_against_the_batch(write, tmp_path):
    runs = [write(tmp_path / str(b), batch_size=b, only={"update_size"}) for b in (64, 256)]
    panels = shown(tmp_path, *runs)["update-size"].panels
    assert "1/√n from the smallest batch, batch 256" in panels[2].chart
    assert len(shown(tmp_path, runs[0])["update-size"].panels) == 2


def test_it_is_said_whose_noise_the_loss_was_convolved_with(write, every_row, tmp_path):
    rows = [row for row in every_row() if row["probe"] == "smoothness"]
    runs = [
        write(tmp_path / name, method=name, rows=[row | {"offsets": kind} for row in rows])
        for name, kind in (("gnc", "method"), ("msgd", "gradient noise"))
    ]
    source = shown(tmp_path, *runs)["smoothness"].source
    assert "own noise (gnc); for a method without noise where GNC's would, of alpha 1 (msgd)" in (
        source
    )
    assert "own noise" not in shown(tmp_path, runs[1])["smoothness"].source


def test_what_was_asked_is_not_rounded(write, tmp_path):
    folder = write(tmp_path / "run", batch_size=16_384, worker_size=1_024, epochs=1, rows=[])
    runs = read_probed(tmp_path, [folder])
    assert [cell for cell in asked(runs).rows[0] if "," in cell] == ["16,384", "1,024"]
    assert "batch 16,384, 1 epoch." in shown(tmp_path, folder)["curves"].source


def test_the_table_says_the_numbers(write, every_row, tmp_path):
    rows = [r | {"cosine": 0.625} for r in every_row() if r["probe"] == "gradient_cosine"]
    table = shown(tmp_path, write(tmp_path / "run", rows=rows))["cosine"].table
    assert table.rows[0][:2] == ["msgd", "epoch 1: 0.625"]
    assert json.dumps(table.rows).count("0.625") == 6
