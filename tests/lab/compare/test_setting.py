import pytest

from largebatch.lab.compare.grid import Trial
from largebatch.lab.compare.setting import Setting


@pytest.mark.parametrize(
    ("method", "alpha", "size"),
    [("msgd", None, 32), ("muon", None, 32), ("gnc", 0.1, 8), ("clars", None, 8)],
)
def test_workers_are_merged_only_where_a_method_takes_them_together(ask, method, alpha, size):
    setting = Setting.of(ask(methods=(method,)), None)
    run = setting.config((method, 32), Trial(0.1, alpha), 0, "test")
    assert (run.method, run.batch_size, run.worker_size) == (method, 32, size)
