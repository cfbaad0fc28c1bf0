"""What the engine does for any rule: here rules with scales that the package does not have."""

import pytest
import torch

from largebatch.optim import ScaledMomentum

OPTIONS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "form": "gradient"}


class Unscaled(ScaledMomentum):
    """s = 1: momentum SGD."""

    layerwise = False

    def scales(self, buckets):
        return [b.parameters[0].new_ones((), dtype=torch.float64) for b in buckets]


class Elementwise(ScaledMomentum):
    """s = 1/(1 + |w|), of the parameter's shape."""

    layerwise = True

    def scales(self, buckets):
        return [[1 / (1 + p.abs()) for p in bucket.parameters] for bucket in buckets]


def random_steps(optimizer, steps=10):
    torch.manual_seed(0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 + 0.1 * (step % 3)
            for parameter in group["params"]:
                parameter.grad = torch.randn_like(parameter)
        optimizer.step()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_scale_one_in_gradient_form_is_torch_sgd(momentum):
    options = {**OPTIONS, "momentum": momentum}
    ours, theirs = (torch.nn.Parameter(torch.ones(3, 4, dtype=torch.float64)) for _ in range(2))
    random_steps(Unscaled([ours], options))
    random_steps(torch.optim.SGD([theirs], lr=0.1, momentum=momentum, weight_decay=0.1))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-13), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize("form", ["gradient", "velocity"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_scales_may_be_elementwise(momentum, form, dtype, atol):
    weight = torch.nn.Parameter(torch.linspace(-2, 2, 8, dtype=dtype))
    w, u = weight.detach().double(), torch.zeros(8, dtype=torch.float64)
    optimizer = Elementwise([weight], {**OPTIONS, "momentum": momentum, "form": form})
    torch.manual_seed(1)
    for step in range(6):
        eta = optimizer.param_groups[0]["lr"] = 0.1 * (1 + step % 2)
        weight.grad = torch.randn_like(weight)
        d = (weight.grad.double() + 0.1 * w) / (1 + w.abs())
        u = momentum * u + (d if form == "gradient" else eta * d)
        w = w - (eta * u if form == "gradient" else u)
        optimizer.step()
    torch.testing.assert_close(weight.detach().double(), w, rtol=0, atol=atol)
    assert "scale" not in optimizer.state[weight]  # a copy of the model is not kept unasked


def test_a_rule_sees_what_it_is_promised():
    seen = []

    class Looks(Unscaled):
        def scales(self, buckets):
            seen.extend(buckets)
            return super().scales(buckets)

    wide, half = torch.ones(2, dtype=torch.float64), torch.ones(3, dtype=torch.bfloat16)
    wide.grad, half.grad = torch.full_like(wide, 2.0), torch.full_like(half, 2.0)
    Looks([{"params": [wide, half]}], {**OPTIONS, "maximize": True}).step()
    for bucket, weight in zip(seen, (wide, half), strict=True):
        assert bucket.parameters[0] is weight
        assert bucket.weight_decay == 0.1
        assert bucket.gradients[0].unique().item() == -2.0  # what is to be descended
        assert bucket.decayed()[0].dtype == (torch.float64 if weight is wide else torch.float32)
        assert bucket.group["momentum"] == 0.9


def test_no_buffer_without_momentum():
    weight = torch.ones(2)
    weight.grad = torch.ones(2)
    optimizer = Unscaled([weight], {**OPTIONS, "momentum": 0.0})
    optimizer.step()
    assert list(optimizer.state[weight]) == ["scale"]


def test_an_option_that_a_checkpoint_does_not_know_is_the_optimizer_s():
    weight = torch.ones(2)
    weight.grad = torch.ones(2)
    optimizer = Unscaled([weight], OPTIONS)
    old = optimizer.state_dict()
    del old["param_groups"][0]["form"]
    optimizer.load_state_dict(old)
    optimizer.step()
    assert optimizer.param_groups[0]["form"] == "gradient"


def test_a_rule_without_scales_cannot_be_made():
    class Unfinished(ScaledMomentum):
        layerwise = False

    with pytest.raises(TypeError, match=r"abstract method '?scales'?"):
        Unfinished([torch.ones(1)], OPTIONS)
