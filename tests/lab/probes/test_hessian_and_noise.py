"""A real run's noise and curvature, through the command line, against what can be told apart."""

import pytest

from largebatch.probes import isotropic_condition


@pytest.fixture
def train(cli, read, tmp_path):
    """Trains on digits with a probe, and returns its rows."""

    def run(*arguments, name="run"):
        out = tmp_path / name
        given = ["--task", "digits", "--batch-size", 128, "--worker-size", 16, "--lr", 0.1]
        code, _, err = cli("train", *given, "--updates", 3, *arguments, "--out", out)
        assert code == 0, err
        return [row for row in read(out / "metrics.jsonl") if row["kind"] == "probe"]

    return run


def test_noise_of_a_run(train):
    # Red: the offsets of another method, rows of another step, isotropic noise told from itself.
    rows = train(
        "--method", "rnc", "--alpha", 1.0, "--probe", "noise_covariance@2",
        "--probe", "offset_covariance@2", name="rnc",
    )  # fmt: skip
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
    rows = train(
        "--method", "gnc", "--alpha", 0.5, "--refresh-examples", 200, "--probe", "hessian@end",
        "--probe", "alignment@end", "--probe", "offset_alignment@end",
        "--probe", "loss_line@end", "--probe", "loss_plane@end",
    )  # fmt: skip
    found = {row["probe"]: row for row in rows}
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
