import pytest

from largebatch.lab.config import RunConfig
from largebatch.lab.whole import full_batch


@pytest.mark.parametrize(
    ("examples", "worker_size"),
    [(96, 96), (64, 64), (31, 31), (1, 1)],  # few: one worker has all
)
def test_few_examples_have_one_worker(tiny, examples, worker_size):
    found = full_batch(RunConfig(task=tiny, train_size=examples), None)
    assert (found.batch_size, found.worker_size) == (examples, worker_size)


def test_many_examples_are_shared_out_equally(monkeypatch):
    # 1,297 is prime: no equal workers but one.
    assert full_batch(RunConfig(), None).worker_size == 1297
    monkeypatch.setattr("largebatch.lab.whole.LARGEST", 500)
    found = full_batch(RunConfig(train_size=1296), None)
    assert (found.batch_size, found.worker_size, found.count) == (1296, 432, 3)
