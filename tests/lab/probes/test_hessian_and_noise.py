"""A real run's noise and curvature, through the command line, against what can be told apart."""

import pytest

from largebatch.probes import isotropic_condition


@pytest.fixture
def train(cli, read, tmp_path):
    """Trains on digits with a probe, and returns its rows."""

    def run(*probes, **settings):
        sets = {"worker_size": 16, "lr": 0.1, "updates": 3, "threads": 1, **settings}
        given = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
        asked = [word for each in probes for word in ("--probe", each)]
        to = ["--batch", 128, "--out", tmp_path / "run"]
        code, _, err = cli("train", "--task", "digits", *given, *asked, *to)
        assert code == 0, err
        return [row for row in read(tmp_path / "run" / "metrics.jsonl") if row["kind"] == "probe"]

    return run


def test_noise_of_a_run(train):
    # Red: the offsets of another method, rows of another step, isotropic noise told from itself.
    rows = train("noise_covariance@2", "offset_covariance@2", method="rnc", alpha=1.0)
    found = {(row["probe"], row["step"]): row for row in rows}
    assert set(found) == {(p, s) for p in ("noise_covariance", "offset_covariance") for s in (0, 2)}
    noise, offset = (found[p, 2] for p in ("noise_covariance", "offset_covariance"))
    assert noise["workers"] == offset["workers"] == 8
    assert noise["layers"] == offset["layers"]
    for j, size in enumerate(noise["sizes"]):
        assert noise["isotropic_condition"][j] == pytest.approx(isotropic_condition(8, size))
        assert len(noise["eigenvalues"][j]) == len(noise["percentiles"])
    large = [j for j, size in enumerate(noise["sizes"]) if size >= 200]
    assert large
    for j in large:
        # Gradient noise has a shape, RNC's has next to none (its filters differ in length).
        assert noise["condition"][j] > 2 * noise["isotropic_condition"][j]
        assert offset["condition"][j] < noise["condition"][j]
    # RNC does not scale biases, which stay where they are: no noise is no number.
    assert any(each is None for each in offset["condition"])


def test_curvature_of_a_run(train):
    names = ("hessian", "alignment", "offset_alignment", "loss_line", "loss_plane")
    asked = [f"{name}@end" for name in names]
    found = {
        row["probe"]: row for row in train(*asked, method="gnc", alpha=0.5, refresh_examples=200)
    }
    assert set(found) == set(names)
    hessian, alignment = found["hessian"], found["alignment"]
    assert len(hessian["eigenvalues"]) == 10
    assert max(hessian["residuals"]) < 0.01 * hessian["eigenvalues"][0]
    assert hessian["trace"] > hessian["eigenvalues"][0] > 0
    assert alignment["eigenvalues"] == pytest.approx(hessian["eigenvalues"], rel=1e-4)
    # The gradients of ten classes point where the loss bends: far from 10 of so many weights.
    assert alignment["workers"] == 8
    assert alignment["top_share"] > 10 * alignment["top_isotropic_high"]
    assert max(alignment["ratio"]) > 10
    # GNC looks along that noise, but not with biases.
    assert found["offset_alignment"]["top_share"] > 10 * alignment["top_isotropic_high"]
    line, plane = found["loss_line"], found["loss_plane"]
    middle = line["positions"].index(0.0)
    assert max(line["losses"]) > line["losses"][middle] > 0
    there = plane["losses"][plane["positions_a"].index(0.0)][plane["positions_b"].index(0.0)]
    assert there == pytest.approx(line["losses"][middle], rel=1e-6)
