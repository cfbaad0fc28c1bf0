import pytest
import torch

from largebatch.lab.errors import InputError
from largebatch.lab.processes import ALONE, Processes, launched

TOLD = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}


def test_what_torchrun_tells_is_read():
    assert launched(TOLD) == Processes(rank=3, ranks=4, local=1)
    assert launched({**TOLD, "WORLD_SIZE": "1", "RANK": "0"}) == ALONE == launched({})


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_what_is_told_by_half_is_refused(name):
    told = {key: value for key, value in TOLD.items() if key != name}
    with pytest.raises(InputError, match=rf"WORLD_SIZE=4 is set without {name}: start by torchrun"):
        launched(told)


def test_ranks_are_whole_numbers():
    with pytest.raises(InputError, match="RANK, WORLD_SIZE, LOCAL_RANK must be whole numbers"):
        launched({**TOLD, "RANK": "three"})


def test_each_process_has_a_gpu_of_its_own():
    second = Processes(rank=3, ranks=4, local=1)
    assert [second.device(name) for name in ("cpu", "cuda")] == ["cpu", "cuda:1"]
    assert [ALONE.device(name) for name in ("cpu", "cuda", "cuda:2")] == ["cpu", "cuda", "cuda:2"]
    with pytest.raises(InputError, match=r"'cuda:2' is one for 4 processes: choose 'cuda'"):
        second.device("cuda:2")


def test_shares_are_contiguous_and_all_of_a_batch():
    x, y = torch.arange(12).view(6, 2), torch.arange(6)
    shares = [Processes(rank, 3).share(x, y) for rank in range(3)]
    assert torch.equal(torch.cat([part for part, _ in shares]), x)
    assert torch.equal(torch.cat([part for _, part in shares]), y)
    assert ALONE.share(y)[0].tolist() == y.tolist()


def test_only_several_processes_have_random_numbers_of_their_own():
    assert ALONE.names == ()
    assert [Processes(rank, 2).names for rank in range(2)] == [(0,), (1,)]


def test_one_alone_does_everything_itself():
    assert ALONE.each(max, 1, 2) == ALONE.first(max, 1, 2) == 2
    assert (ALONE.gathered("a"), ALONE.mean(3.0)) == (["a"], 3.0)
    model = torch.nn.Linear(1, 1)
    assert ALONE.wrapped(model, some_unused=True) is model
    for how in (ALONE.each, ALONE.first):
        with pytest.raises(ZeroDivisionError):
            how(lambda: 1 / 0)
