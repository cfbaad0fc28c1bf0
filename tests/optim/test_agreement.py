"""LARS, SNGM and momentum against other packages' code, and where their conventions part from ours.

Each test runs two optimizers on the same gradients in float64. Where the other package means
something else, the test says what, and which options or which two lines turn ours into theirs.
Those of LAMB are in test_agreement_lamb.py.
"""

from dataclasses import replace
from functools import partial

import pytest
import torch

from largebatch.optim import LARS, LARS2020, SNGM

DECAY = 0.05


# torch


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_unscaled_it_is_torch_sgd(problem, momentum, same):
    # The gradient form is torch's. Red: a scale other than 1, decay or momentum elsewhere.
    ours = partial(LARS, momentum=momentum, weight_decay=DECAY, exclude="all", form="gradient")
    theirs = partial(torch.optim.SGD, momentum=momentum, weight_decay=DECAY)
    same(problem.run(ours), problem.run(theirs))


def test_velocity_form_is_torch_sgd_only_at_a_constant_rate(problem, same, apart):
    # torch multiplies all of the momentum by today's rate; the velocity form keeps in it the
    # rates under which it was gathered.
    ours = partial(LARS, weight_decay=DECAY, exclude="all", form="velocity")
    theirs = partial(torch.optim.SGD, momentum=0.9, weight_decay=DECAY)
    constant = problem.at(0.1)
    same(constant.run(ours), constant.run(theirs))
    apart(problem.run(ours), problem.run(theirs))


# timm


@pytest.fixture
def timm_lars():
    return pytest.importorskip("timm.optim").Lars


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_timm_lars_is_the_gradient_form_with_eps(problem, timm_lars, decay, foreach, same, apart):
    # Its momentum is torch's, not the document's; 1e-8 is in the denominator; vectors are scaled.
    options = {"momentum": 0.9, "weight_decay": decay, "eps": 1e-3}
    ours = partial(LARS, **options, exclude=None, form="gradient")
    theirs = partial(timm_lars, **options, always_adapt=True, foreach=foreach)
    same(problem.run(ours), problem.run(theirs))
    apart(problem.run(partial(ours, form="velocity")), problem.run(theirs))


def test_timm_lars_without_decay_is_plain_sgd(problem, timm_lars, same):
    # Its default adapts no group whose weight decay is 0: the way to leave vectors out there, and
    # a trap for who trains without decay, since nothing at all is scaled then.
    theirs = problem.run(partial(timm_lars, momentum=0.9))
    same(problem.run(partial(LARS, exclude="all", form="gradient")), theirs)
    same(problem.run(partial(torch.optim.SGD, momentum=0.9)), theirs)


def test_timm_groups_without_decay_are_our_exclusion_of_vectors(problem, timm_lars, same):
    # The two groups that timm's own factory makes, and our exclude="1d".
    def theirs(weights, lr):
        matrices = {"params": [w for w in weights if w.ndim > 1], "weight_decay": DECAY}
        vectors = {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0}
        return timm_lars([matrices, vectors], lr=lr, momentum=0.9, eps=0.0)

    ours = partial(LARS, weight_decay=DECAY, exclude="1d", form="gradient")
    same(problem.run(ours), problem.run(theirs))


def test_timm_trust_clip_makes_the_rate_a_cap(problem, timm_lars, same):
    # LARC: rate * min(ratio/rate, 1) = min(ratio, rate). Below the cap the rate does nothing, ours
    # at rate 1; at the cap it is SGD. (Weights of zero are left out: 1, for them, is divided too.)
    some = problem.without_zeros()
    theirs = partial(timm_lars, momentum=0.9, weight_decay=DECAY, eps=0.0, trust_clip=True)
    ours = partial(LARS, weight_decay=DECAY, exclude=None, form="gradient")
    same(some.at(1.0).run(ours), some.at(50.0).run(theirs))
    same(some.at(1e-5).run(partial(ours, exclude="all")), some.at(1e-5).run(theirs))


# pytorch_optimizer


@pytest.fixture
def po_lars():
    return pytest.importorskip("pytorch_optimizer").LARS


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_pytorch_optimizer_lars_is_the_gradient_form_on_matrices(
    problem, po_lars, decay, foreach, same
):
    # Vectors get plain momentum without decay, and there is no choice; no eps.
    ours = partial(LARS, weight_decay=decay, exclude="1d", form="gradient")
    theirs = partial(po_lars, momentum=0.9, weight_decay=decay, foreach=foreach)
    same(problem.run(ours), problem.run(theirs))


def test_pytorch_optimizer_lars_shrinks_a_layer_without_gradient_by_tau(problem, po_lars, same):
    # Where g = 0 our ratio is 1, and the step eta*lambda*w. Theirs asks for a denominator of 0:
    # tau*|w|/(lambda*|w|) times lambda*w is eta*tau*w, whatever lambda is.
    start = torch.ones(2, 2, dtype=torch.float64)
    one = replace(problem, start=[start], steps=[[torch.zeros_like(start)]], rates=[1.0])
    [ours] = one.run(partial(LARS, weight_decay=DECAY, form="gradient"))
    [theirs] = one.run(partial(po_lars, weight_decay=DECAY))
    same([ours, theirs], [(1 - DECAY) * start, (1 - 0.001) * start])


def test_pytorch_optimizer_lars_leaves_its_momentum_in_the_gradient(problem, po_lars):
    # Whoever reads p.grad after the step, or adds to it, finds the momentum; ours leaves it alone.
    start, gradient = problem.start[0], problem.steps[0][0]
    for make, kept in ((LARS, True), (po_lars, False)):
        weight = torch.nn.Parameter(start.clone())
        weight.grad = gradient.clone()
        optimizer = make([weight], lr=1.0)
        optimizer.step()
        assert torch.equal(weight.grad, gradient) is kept
        if not kept:
            assert torch.equal(weight.grad, optimizer.state[weight]["momentum_buffer"])


# optax


def test_optax_lars_is_the_velocity_form(problem, same, apart):
    # The rate is in the momentum, as in the document; vectors are scaled; no eps.
    theirs = problem.run_optax(lambda optax, rate: optax.lars(rate))
    same(problem.run(partial(LARS, exclude=None)), theirs)
    apart(problem.run(partial(LARS, exclude=None, form="gradient")), theirs)


def test_optax_lars_takes_the_norm_of_the_decayed_gradient(problem, same, apart):
    # tau*|w| / |g + lambda*w|, where the document has |g| + lambda*|w|, which is never smaller.
    # With the decay put into the gradients ours is theirs.
    theirs = problem.run_optax(lambda optax, rate: optax.lars(rate, weight_decay=DECAY))

    def decayed(weights, gradients):
        return [g + DECAY * w for w, g in zip(weights, gradients, strict=True)]

    same(problem.run(partial(LARS, exclude=None), decayed), theirs)
    apart(problem.run(partial(LARS, weight_decay=DECAY, exclude=None)), theirs)


def test_optax_masks_of_matrices_are_our_exclusion_of_vectors(problem, same):
    mask = [weight.ndim > 1 for weight in problem.start]
    theirs = problem.run_optax(lambda optax, rate: optax.lars(rate, trust_ratio_mask=mask))
    same(problem.run(LARS), theirs)


@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_optax_trust_ratio_of_a_mean_is_lars_of_2020(problem, decay, same):
    # optax has no name for it: decay, then the running mean (1 - beta in it, not debiased), then
    # LAMB's ratio, then the rate.
    def chain(optax, rate):
        mean = optax.chain(optax.add_decayed_weights(decay), optax.ema(0.9, debias=False))
        return optax.chain(mean, optax.scale_by_trust_ratio(), optax.scale_by_learning_rate(rate))

    slow = problem.at(*(0.1 * rate for rate in problem.rates))
    ours = partial(LARS2020, weight_decay=decay, exclude=None)
    same(slow.run(ours), slow.run_optax(chain))


@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_optax_normalized_momentum_is_sngm(problem, decay, same):
    # Normalize by the norm over everything, decay included, then gather momentum, then the rate.
    def chain(optax, rate):
        unit = optax.normalize_by_update_norm(eps=0.0)
        decayed = optax.add_decayed_weights(decay)
        return optax.chain(decayed, unit, optax.sgd(rate, momentum=0.9))

    same(problem.run(partial(SNGM, weight_decay=decay)), problem.run_optax(chain))


def test_optax_normalized_momentum_in_the_other_order_is_not(problem, apart):
    # Normalizing the momentum instead makes every step exactly as long as the rate.
    def chain(optax, rate):
        unit = optax.normalize_by_update_norm(eps=0.0)
        return optax.chain(optax.trace(0.9), unit, optax.scale_by_learning_rate(rate))

    apart(problem.run(SNGM), problem.run_optax(chain))
