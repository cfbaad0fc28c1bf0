"""CBLR against its equations, and the diagonal that it keeps."""

import copy

import pytest
import torch

from largebatch.optim.cblr import CBLR

SHAPES = [(3, 4), (5,), ()]


def radius(w, g, h, damping):
    """Eq. 9, or Eq. 17 where there is no h."""
    if h is None:
        return (w.abs() / (g.abs() + damping)).clamp(0.05, 20.0)
    return ((1 + g**2) ** 1.5 / (h.abs() + damping)).clamp(0.05, 20.0)


def oracle(weights, gradients, rates, diagonals, momentum, form, decay, exclude, damping):
    """The equation, element by element."""
    ends = []
    for i, w in enumerate(weights):
        out = exclude == "1d" and w.ndim <= 1
        lam = 0.0 if out else decay
        u = torch.zeros_like(w)
        for step, eta in zip(gradients, rates, strict=True):
            g = step[i]
            s = 1.0 if out else radius(w, g, diagonals and diagonals[i], damping)
            h = g + lam * w
            if form == "velocity":
                u = momentum * u + eta * s * h
                w = w - u
            else:
                u = momentum * u + s * h
                w = w - eta * u
        ends.append(w)
    return ends


def problem(seed, steps=10):
    torch.manual_seed(seed)
    weights = [torch.randn(shape, dtype=torch.float64) for shape in SHAPES]
    gradients = [[torch.randn_like(w) for w in weights] for _ in range(steps)]
    return weights, gradients, [0.01 + 0.005 * (step % 5) for step in range(steps)]


def run(optimizer, gradients, rates):
    [group] = optimizer.param_groups
    for step, eta in zip(gradients, rates, strict=True):
        group["lr"] = eta
        for parameter, gradient in zip(group["params"], step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [parameter.detach() for parameter in group["params"]]


def parameters(weights):
    return [torch.nn.Parameter(w.clone()) for w in weights]


def bowl(weights, diagonals):
    """A loss with that diagonal for its Hessian."""

    def loss(factor=1.0):
        pairs = zip(weights, diagonals, strict=True)
        return factor * sum((h * w.square()).sum() / 2 for w, h in pairs)

    return loss


@pytest.mark.parametrize("diagonal", ["ratio", "hessian"])
@pytest.mark.parametrize("damping", [0.0, 0.2])
@pytest.mark.parametrize("exclude", [None, "1d"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("form", ["gradient", "velocity"])
def test_follows_its_equation(form, momentum, exclude, damping, diagonal):
    # Red: decay in R, a sign of h kept, the power 1/2 or 3, damping or bounds forgotten or
    # swapped, the decay left unscaled.
    weights, gradients, rates = problem(0)
    diagonals = [torch.randn_like(w) for w in weights] if diagonal == "hessian" else None
    options = {"momentum": momentum, "form": form, "exclude": exclude, "damping": damping}
    expected = oracle(weights, gradients, rates, diagonals, decay=0.3, **options)
    ours = parameters(weights)
    optimizer = CBLR(ours, weight_decay=0.3, diagonal=diagonal, bounds=(0.05, 20.0), **options)
    if diagonals:
        optimizer.refresh(bowl(ours, diagonals))
    torch.testing.assert_close(run(optimizer, gradients, rates), expected, rtol=1e-11, atol=1e-12)


def step(weight, gradient, h=None, lr=1.0, **options):
    """How far one step moves the weight."""
    parameter = torch.nn.Parameter(weight.clone())
    given = {"diagonal": "ratio" if h is None else "hessian", **options}
    optimizer = CBLR([parameter], lr=lr, momentum=0.0, **given)
    if h is not None:
        optimizer.refresh(bowl([parameter], [h]))
    parameter.grad = gradient
    optimizer.step()
    return parameter.detach() - weight


def test_the_cheap_radius_is_the_radius_of_a_parabola_at_the_origin():
    """CURV 12-17: L = a*w^2 has g = 2*a*w and h = 2*a, so |w/g| = 1/|h|."""
    w, a = torch.randn(6, dtype=torch.float64), torch.rand(6, dtype=torch.float64) + 0.5
    wide = {"bounds": (1e-9, 1e9)}
    cheap = step(w, 2 * a * w, lr=0.1, **wide)
    torch.testing.assert_close(cheap, -0.1 * w)
    small = 1e-6 * w  # where g^2 is much less than 1
    full = step(small, 2 * a * small, 2 * a, lr=0.1, **wide)
    torch.testing.assert_close(full, -0.1 * small, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("weight", "gradient", "h", "moved"),
    [
        (0.0, 2.0, None, -0.002),  # a zero weight moves, by the least radius
        (3.0, 0.0, None, 0.0),
        (0.0, 0.0, None, 0.0),
        (3.0, 1e-45, None, 0.0),
        (5.0, 1e-3, None, -0.1),  # the largest radius
        (3.0, 0.5, 0.0, -50.0),  # h = 0: the largest radius
        (3.0, 0.5, -2.0, -0.5 * 1.25**1.5 / 2),  # along negative curvature, all the same
        (3.0, 0.0, 2.0, 0.0),
        (3.0, 1e25, 1.0, -1e27),  # g^2 and its power are beyond float32
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_at_the_edges_a_radius_is_a_bound_and_never_nan(dtype, weight, gradient, h, moved):
    # Red: 0/0, inf/inf, inf*0.
    w, g = (torch.full((2,), x, dtype=dtype) for x in (weight, gradient))
    found = step(w, g, None if h is None else torch.full((2,), h, dtype=dtype))
    expected = torch.full((2,), moved, dtype=dtype)
    tolerance = {torch.bfloat16: 0.02}.get(dtype, 1e-6)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_half_precision_divides_in_single():
    # Red: a radius of 1e6 is infinite in float16, and then the largest.
    w, g = (torch.full((2,), x, dtype=torch.float16) for x in (100.0, 1e-4))
    found = step(w, g, lr=0.01, bounds=(1e-3, 1e9))
    torch.testing.assert_close(found, torch.full_like(w, -1.0))


def test_elements_of_empty_parameters_are_none():
    assert step(torch.empty(0, 3), torch.empty(0, 3)).shape == (0, 3)
    assert step(torch.empty(0, 3), torch.empty(0, 3), torch.empty(0, 3)).shape == (0, 3)


def test_a_step_needs_a_diagonal_of_all_parameters():
    first, second = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = CBLR([first, second], diagonal="hessian")
    first.grad = torch.ones(2)
    with pytest.raises(
        RuntimeError, match=r"needs to know .* optimizer.refresh\(fn, \*batch\), no"
    ):
        optimizer.step()
    second.requires_grad_(False)
    optimizer.refresh(lambda: first.square().sum())
    optimizer.step()
    second.requires_grad_()  # thawed later
    second.grad = torch.ones(2)
    with pytest.raises(RuntimeError, match="all its parameters"):
        optimizer.step()


def test_refreshing_a_ratio_is_an_error_and_groups_may_differ():
    first, second = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = CBLR([first])
    assert optimizer.refreshes is False
    with pytest.raises(RuntimeError, match="no Hessian diagonal to refresh: make it with"):
        optimizer.refresh(lambda: first.sum())
    optimizer.add_param_group({"params": [second], "diagonal": "hessian"})
    assert optimizer.refreshes is True
    optimizer.refresh(lambda: (first * second.square()).sum())
    assert "hessian_diagonal" not in optimizer.state[first]
    assert optimizer.state[second]["hessian_diagonal"].tolist() == [2.0, 2.0]
    for p in (first, second):
        p.grad = torch.ones(2)
    optimizer.step()


@pytest.mark.parametrize("average", [0.0, 0.5, 0.9])
def test_diagonals_are_averaged_without_bias(average):
    # Red: a first diagonal taken at 1 - a of itself, weights that do not add up to 1.
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = CBLR([weight], diagonal="hessian", average=average)
    diagonals = torch.randn(4, 3, dtype=torch.float64)
    for count, h in enumerate(diagonals, 1):
        optimizer.refresh(bowl([weight], [h]))
        shares = torch.tensor([average ** (count - 1 - k) for k in range(count)]).double()
        expected = (shares / shares.sum()) @ diagonals[:count]
        torch.testing.assert_close(optimizer.state[weight]["hessian_diagonal"], expected)


def test_a_diagonal_that_is_not_finite_is_left_out():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = CBLR([weight], diagonal="hessian", average=0.5)
    optimizer.refresh(bowl([weight], [torch.tensor([2.0, 4.0])]))
    optimizer.refresh(bowl([weight], [torch.tensor([float("inf"), 1.0])]))
    assert optimizer.state[weight]["hessian_diagonal"].tolist() == [2.0, 2.0]


def test_refreshing_passes_the_batch_on_and_leaves_weights_and_gradients():
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.full((2,), 7.0)
    held, state = weight.grad, torch.get_rng_state()
    optimizer = CBLR([weight], diagonal="hessian")
    for method in ("exact", "differences"):
        optimizer.refresh(bowl([weight], [torch.tensor([1.0, 2.0])]), 3.0, method=method)
        found = optimizer.state[weight]["hessian_diagonal"]
        torch.testing.assert_close(found, torch.tensor([3.0, 6.0]), rtol=1e-3, atol=0)
    assert weight.tolist() == [1.0, 1.0]
    assert weight.grad is held
    assert held.tolist() == [7.0, 7.0]
    assert torch.equal(torch.get_rng_state(), state)


def coupled(weight):
    """A loss whose Hessian is no diagonal, so that estimates differ."""
    return lambda: weight.sum().square() + weight.prod()


def test_each_refresh_draws_anew_and_a_resumed_one_goes_on():
    # Red: the same signs at each refresh (an average of no use), or from the start on a resume.
    weight = torch.nn.Parameter(torch.randn(6, dtype=torch.float64))
    optimizer = CBLR([weight], diagonal="hessian", average=0.0)
    diagonals = []
    for _ in range(3):
        optimizer.refresh(coupled(weight))
        diagonals.append(optimizer.state[weight]["hessian_diagonal"].clone())
    assert not torch.equal(diagonals[0], diagonals[1])
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer.refresh(coupled(weight))
    resumed = CBLR([weight], diagonal="hessian", average=0.0)
    resumed.load_state_dict(saved)
    assert torch.equal(resumed.state[weight]["hessian_diagonal"], diagonals[2])
    resumed.refresh(coupled(weight))
    for name in ("hessian_diagonal", "refreshes"):
        assert torch.equal(resumed.state[weight][name], optimizer.state[weight][name])
    other = CBLR([weight], diagonal="hessian")
    other.refresh(coupled(weight), seed=1)
    assert not torch.equal(other.state[weight]["hessian_diagonal"], diagonals[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_diagonal_of_halves_is_single_also_from_a_checkpoint(dtype, tmp_path):
    weight = torch.nn.Parameter(torch.full((3,), 0.5, dtype=dtype))
    optimizer = CBLR([weight], diagonal="hessian")
    optimizer.refresh(lambda: (weight.float() * 1000).pow(3).sum())  # in float16 infinite: left out
    optimizer.refresh(lambda: weight.pow(3).sum())
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    other = CBLR([weight], diagonal="hessian")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for each in (optimizer, other):
        assert each.state[weight]["hessian_diagonal"].dtype == torch.float32
        assert each.state[weight]["refreshes"] == 2
    torch.testing.assert_close(other.state[weight], optimizer.state[weight], rtol=0, atol=0)


def test_samples_lessen_the_noise():
    weight = torch.nn.Parameter(torch.randn(8, dtype=torch.float64))

    def error(samples):
        optimizer = CBLR([weight], diagonal="hessian", average=0.0)
        errors = []
        for _ in range(20):
            optimizer.refresh(lambda: weight.sum().square(), samples=samples)
            errors.append((optimizer.state[weight]["hessian_diagonal"] - 2).square().mean())
        return torch.stack(errors).mean()

    assert 8 < error(1) / error(16) < 32


def test_with_a_rate_of_one_a_diagonal_quadratic_is_solved_in_a_step():
    # Newton's method, where (1 + g^2) is nearly 1.
    weight = torch.nn.Parameter(torch.tensor([1e-4, -2e-4, 3e-4], dtype=torch.float64))
    loss = bowl([weight], [torch.tensor([1.0, 10.0, 100.0])])
    optimizer = CBLR([weight], lr=1.0, momentum=0.0, diagonal="hessian", bounds=(1e-6, 1e3))
    optimizer.refresh(loss)
    loss().backward()
    optimizer.step()
    assert weight.abs().max() < 1e-6


def test_works_with_its_defaults():
    weights, gradients, _ = problem(2)
    optimizer = CBLR(parameters(weights))
    assert all(torch.isfinite(w).all() for w in run(optimizer, gradients, [0.001] * 10))
    assert optimizer.defaults["lr"] == 0.003


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"diagonal": "fisher"}, "diagonal must be one of 'ratio', 'hessian', got 'fisher'"),
        ({"damping": -1.0}, "damping must be a finite number of at least 0, got -1.0"),
        ({"bounds": (2.0, 1.0)}, "bounds must be the lower, then the higher bound"),
        ({"average": 1.0}, "average must be at least 0 and below 1, got 1.0"),
        ({"exclude": "bias"}, "exclude must be one of '1d', 'all', None, got 'bias'"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CBLR([torch.nn.Parameter(torch.ones(1))], **options)
