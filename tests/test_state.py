"""Saved, loaded, gone on: to the bit; what does not fit says so."""

import copy
import io
import pickle

import pytest
import torch

import largebatch as lb

PERTURB = {
    "none": None,
    "gnc": lb.GNC(2.0),
    "rnc": lb.RNC(0.1, seed=3),
    "switch": lb.Switch(lb.GNC(2.0), lb.RNC(0.1), 4),
    "sam": lb.SAM(0.2),
    "eigen": lb.EigenNoise(0.2, k=2),
}


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def start(network, perturb, **options):
    model = network(torch.float32, norm=True)
    optimizer = lb.SNGM(model.parameters(), lr=0.1)
    return model, optimizer, lb.Workers(model, optimizer, perturb, **{"count": 4, **options})


def steps(parts, loss_of, data):
    model, optimizer, workers = parts
    for x, y in data:
        if workers.refreshes and workers.step % 3 == 0:  # so that some resume between two
            workers.refresh(loss_of(model), x, y)
        workers.backward(loss_of(model), x, y)
        optimizer.step()


@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize("perturb", PERTURB.values(), ids=PERTURB)
@pytest.mark.parametrize("noise_dtype", [None, torch.bfloat16])
def test_resumed_is_uninterrupted_to_the_bit(perturb, at, noise_dtype, network, batches, loss_of):
    data = batches(6, 8, torch.float32)
    whole = start(network, perturb, noise_dtype=noise_dtype)
    steps(whole, loss_of, data)

    first = start(network, perturb, noise_dtype=noise_dtype)
    steps(first, loss_of, data[:at])
    states = through_a_file([each.state_dict() for each in first])
    second = start(network, perturb, noise_dtype=noise_dtype)
    for each, state in zip(second, states, strict=True):
        each.load_state_dict(state)
    assert second[2].step == at
    steps(second, loss_of, data[at:])
    for a, b in zip(whole[0].state_dict().values(), second[0].state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_state_is_not_changed_by_what_comes_after(network, batches, loss_of):
    parts = start(network, lb.GNC(2.0))
    data = batches(2, 8, torch.float32)
    steps(parts, loss_of, data[:1])
    state = parts[2].state_dict()
    kept = state["slots"][0].clone()
    steps(parts, loss_of, data[1:])
    assert torch.equal(state["slots"][0], kept)


def test_another_count_starts_from_zero_with_a_warning(network, batches, loss_of):
    parts = start(network, lb.GNC(2.0))
    data = batches(3, 8, torch.float32)
    steps(parts, loss_of, data[:2])
    other = start(network, lb.GNC(2.0), count=2)
    with pytest.warns(UserWarning, match="of 4 workers, there are 2 now: .* from zero"):
        other[2].load_state_dict(parts[2].state_dict())
    assert other[2].step == 2
    steps(other, loss_of, data[2:])
    assert other[2].offset_to_weight_norm == 0


@pytest.mark.parametrize("perturb", [None, lb.RNC(0.1)])
def test_another_count_without_noise_is_no_reason_to_warn(perturb, network, batches, loss_of):
    parts = start(network, perturb)
    steps(parts, loss_of, batches(1, 8, torch.float32))
    other = start(network, perturb, count=2)
    other[2].load_state_dict(parts[2].state_dict())  # warnings are errors
    assert other[2].step == 1


def test_refuses_another_format(network):
    workers = start(network, None)[2]
    with pytest.raises(ValueError, match=r"format 1 is required, got 7: .* another version"):
        workers.load_state_dict({**workers.state_dict(), "format": 7})
    with pytest.raises(ValueError, match="format 1 is required, got None"):
        workers.load_state_dict({})
    with pytest.raises(ValueError, match=r"'step', .* are missing: load what state_dict\(\) gave"):
        workers.load_state_dict({"format": 1})


def test_refuses_slots_of_another_model_and_stays_as_it_was(network, batches, loss_of):
    parts = start(network, lb.GNC(2.0))
    data = batches(3, 8, torch.float32)
    steps(parts, loss_of, data)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters())
    other = lb.Workers(model, optimizer, lb.GNC(2.0), count=4)
    with pytest.raises(ValueError, match=r"shapes \[.*\], these have \[\(2, 3\), \(2,\)\]"):
        other.load_state_dict(parts[2].state_dict())
    assert other.step == 0


def test_refuses_the_middle_of_a_step(network, batches, loss_of):
    model, _, workers = start(network, lb.GNC(2.0))
    (x, y), *_ = batches(1, 8, torch.float32)
    with workers.next():
        with pytest.raises(RuntimeError, match="in the middle of a step: call combine"):
            workers.state_dict()
        loss_of(model)(x, y).backward()
    with pytest.raises(RuntimeError, match="in the middle of a step: call combine"):
        workers.state_dict()
    workers.combine()
    assert workers.state_dict()["step"] == 1


def test_holds_tensors_and_plain_numbers_only(network, batches, loss_of):
    parts = start(network, lb.GNC(2.0))
    steps(parts, loss_of, batches(1, 8, torch.float32))
    state = parts[2].state_dict()
    assert {k: v for k, v in state.items() if k != "slots"} == {
        "format": 1,
        "step": 1,
        "shown": [],
        "count": 4,
        "rank": 0,
        "ranks": 1,
        "pieces": 1,
        "kind": "noise",
        "shapes": [list(p.shape) for p in parts[0].parameters()],
    }
    assert [type(s) for s in state["slots"]] == [torch.Tensor]


def test_what_was_shown_is_copied_out_and_in(network, batches, loss_of):
    # Red: left out of the state, the very tensors handed over, another count that drops them.
    parts = start(network, lb.EigenNoise(0.2, k=2))
    steps(parts, loss_of, batches(1, 8, torch.float32))
    state = parts[2].state_dict()
    parameters = list(parts[0].parameters())
    shapes = [tuple(each.shape) for each in state["shown"]]
    assert shapes == [(2,), *[(2, *p.shape) for p in parameters]]
    assert [type(each) for each in state["shown"]] == [torch.Tensor] * len(shapes)
    kept = [each.clone() for each in state["shown"]]
    other = start(network, lb.EigenNoise(0.2, k=2), count=2)
    loaded = through_a_file(state)
    other[2].load_state_dict(loaded)
    for each in [*state["shown"], *loaded["shown"]]:
        each.zero_()
    for workers in (parts[2], other[2]):
        again = workers.state_dict()["shown"]
        assert all(torch.equal(a, k) for a, k in zip(again, kept, strict=True))


def linear(inputs, outputs):
    model = torch.nn.Linear(inputs, outputs, bias=False)
    return lb.Workers(model, torch.optim.SGD(model.parameters()), lb.GNC(2.0), count=2)


def test_refuses_a_state_of_other_shapes_that_take_the_same_bytes():
    first, second = linear(6, 3), linear(3, 6)
    first.backward(lambda x: first.model(x).sum(), torch.randn(2, 6))
    message = r"shapes \[\(3, 6\)\], these have \[\(6, 3\)\]: was it saved from another model"
    with pytest.raises(ValueError, match=message):
        second.load_state_dict(first.state_dict())


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
def test_refuses_to_be_copied(how):
    with pytest.raises(TypeError, match="copy those, make new Workers from them"):
        how(linear(3, 2))
