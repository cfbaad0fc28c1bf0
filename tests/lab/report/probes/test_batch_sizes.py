"""Bugs that turn these red: theory with the mean drawn of another layer, or where no row has it."""

from largebatch.lab.report.probes.batch_sizes import batch_sizes
from largebatch.lab.report.probes.runs import Probed
from largebatch.lab.report.read import Run

ROW = {
    "layers": ["a.weight", "b.weight"],
    "batch_sizes": [4, 100],
    "examples": 100,
    "mean_magnitude": [[9.0, 1.0], [9.0, 0.5]],
    "mean_square": [[9.0, 2.0], [9.0, 0.25]],
    "deviation": [9.0, 3.0],
    "full_square": [9.0, 0.25],
    "expected_magnitude": [[8.0, 1.25], [8.0, 0.5]],
}


def figures(row):
    run = Run("0", {"method": "msgd", "batch_size": 64, "seed": 0}, {}, (), None)
    return batch_sizes([Probed(run, {"gradient_size": [row]}, "msgd")])


def test_what_is_expected_with_the_mean_is_drawn_and_named():
    magnitudes, squares = figures(ROW)
    assert "mean, msgd, batch 4: 1.25" in str(magnitudes.panels[1].chart)
    assert "mean, msgd, batch 4: 2.41" in str(squares.panels[1].chart)  # 1/4 + 9/4 * (1 - 4/100)
    for figure in (magnitudes, squares):
        assert any("mean" in each.words for each in figure.keys)


def test_an_older_row_without_it_has_no_such_line():
    magnitudes, _ = figures({k: v for k, v in ROW.items() if k != "expected_magnitude"})
    assert "with the gradient" not in str(magnitudes.panels[1].chart)
    assert not any("mean" in each.words for each in magnitudes.keys)
