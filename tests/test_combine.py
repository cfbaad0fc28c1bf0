import pytest
import torch

from largebatch.combine import Accumulator


def values(*numbers):
    return [torch.tensor([n]) for n in numbers]


def test_mean_is_weighted_and_normalized_once():
    accumulator = Accumulator("mean")
    accumulator.add(values(1.0, 10.0), 3.0)
    accumulator.add(values(5.0, 20.0), 1.0)
    assert [g.item() for g in accumulator.mean()] == [2.0, 12.5]
    assert accumulator.share == 1.0
    assert accumulator.workers == 2


def test_sum_adds_up_and_says_its_share():
    accumulator = Accumulator("sum")
    accumulator.add(values(1.0), 0.25)
    accumulator.add(values(5.0), 0.25)
    assert accumulator.mean()[0].item() == 6.0
    assert accumulator.share == 0.5


def test_none_is_zero_for_one_worker_and_none_for_all():
    accumulator = Accumulator("mean")
    accumulator.add([None, None, torch.tensor(4.0)], 1.0)
    accumulator.add([torch.tensor(2.0), None, None], 1.0)
    first, second, third = accumulator.mean()
    assert (first.item(), second, third.item()) == (1.0, None, 2.0)


def test_takes_the_first_gradients_over_without_a_copy():
    accumulator = Accumulator("mean")
    (gradient,) = given = values(1.0)
    accumulator.add(given, 1.0)
    assert accumulator.mean()[0] is gradient


@pytest.mark.parametrize("weight", [2.0, torch.tensor(2.0), torch.tensor(2)])
def test_weights_may_be_tensors(weight):
    accumulator = Accumulator("mean")
    accumulator.add(values(3.0), weight)
    accumulator.add(values(0.0), 1.0)
    assert accumulator.mean()[0].item() == 2.0


def test_copies_what_the_next_backward_pass_may_overwrite():
    # Red: worker 1's gradient taken over, or a later one's of a parameter that had none before.
    accumulator = Accumulator("mean")
    buffer, late = torch.zeros(1), torch.zeros(1)
    for first, second in ((1.0, None), (2.0, 5.0), (6.0, 7.0)):
        buffer.fill_(first)
        late.fill_(second or 0.0)
        given = [buffer.detach(), late.detach() if second else None]
        accumulator.add(given, 1.0, several=True)
    assert [g.item() for g in accumulator.mean()] == [3.0, 4.0]
