"""LAMB against other packages' code, and where their conventions part from ours.

As in test_agreement.py: where the other package means something else, the test says what, and
which options or which two lines turn ours into theirs.
"""

from functools import partial

import pytest
import torch

from largebatch.optim import LAMB

DECAY = 0.05
RATE = 0.1  # of LAMB: a share of each weight's norm


@pytest.fixture
def slow(problem):
    """The problem with rates that suit LAMB, still changing from step to step."""
    return problem.at(*(RATE * rate for rate in problem.rates))


# torch


@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_without_its_ratio_it_is_torch_adamw(slow, decay, same):
    # Red: a wrong bias correction, eps inside the root, decay that passes the second moment.
    ours = partial(LAMB, eps=1e-3, weight_decay=decay, exclude="all")
    theirs = partial(torch.optim.AdamW, eps=1e-3, weight_decay=decay)
    same(slow.run(ours), slow.run(theirs))


# timm


@pytest.fixture
def timm_lamb():
    return pytest.importorskip("timm.optim").Lamb


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("corrects", [True, False])
@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_timm_lamb_without_clipping_is_ours(slow, timm_lamb, decay, corrects, foreach, same):
    # Vectors are scaled and decayed like matrices.
    options = {"eps": 1e-3, "weight_decay": decay, "bias_correction": corrects}
    theirs = partial(timm_lamb, **options, max_grad_norm=None, always_adapt=True, foreach=foreach)
    same(slow.run(partial(LAMB, **options, exclude=None)), slow.run(theirs))


def test_timm_lamb_first_clips_the_gradient_to_a_global_norm_of_one(slow, timm_lamb, same, apart):
    # Its default, which the paper does not have: max_grad_norm=1. Adam forgets the length of a
    # gradient, but not how the lengths of successive ones compare.
    theirs = slow.run(partial(timm_lamb, weight_decay=DECAY))
    ours = partial(LAMB, weight_decay=DECAY, exclude=None)

    def clipped(weights, gradients):
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        return [gradient / norm.clamp(min=1.0) for gradient in gradients]

    same(slow.run(ours, clipped), theirs)
    apart(slow.run(ours), theirs)


def test_timm_lamb_without_decay_is_adam(slow, timm_lamb, same):
    # As with its LARS, a group whose weight decay is 0 is not scaled unless always_adapt is set.
    theirs = partial(timm_lamb, weight_decay=0.0, max_grad_norm=None)
    same(slow.run(partial(LAMB, exclude="all")), slow.run(theirs))
    same(slow.run(partial(torch.optim.Adam, eps=1e-6)), slow.run(theirs))


def test_timm_groups_without_decay_are_our_exclusion_of_vectors(slow, timm_lamb, same):
    def theirs(weights, lr):
        matrices = {"params": [w for w in weights if w.ndim > 1], "weight_decay": DECAY}
        vectors = {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0}
        return timm_lamb([matrices, vectors], lr=lr, max_grad_norm=None)

    same(slow.run(partial(LAMB, weight_decay=DECAY, exclude="1d")), slow.run(theirs))


def test_timm_trust_clip_bounds_the_ratio_and_ours_the_norm(slow, timm_lamb, same, apart):
    # LAMBC: |w|/|r| at most 1. Our `clip` bounds phi(|w|) ahead of the division, as in the paper.
    # With weights far longer than their updates LAMBC is AdamW, whatever the norm.
    far = slow.without_zeros().times(1e3)
    theirs = far.run(partial(timm_lamb, weight_decay=1e-4, max_grad_norm=None, trust_clip=True))
    same(far.run(partial(LAMB, weight_decay=1e-4, exclude="all")), theirs)
    apart(far.run(partial(LAMB, weight_decay=1e-4, exclude=None, clip=(0.0, 1.0))), theirs)


# pytorch_optimizer


@pytest.fixture
def po_lamb():
    """Its Lamb with decay where LAMB has it and without its correction of the rate.

    eps is in the denominator of its ratio too, which ours has not: small enough not to be seen.
    """
    lamb = pytest.importorskip("pytorch_optimizer").Lamb
    return partial(lamb, eps=1e-14, weight_decouple=False, adam_debias=True)


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_pytorch_optimizer_lamb_clips_norms_at_ten(slow, po_lamb, decay, foreach, same, apart):
    # The third version of the paper: no bias correction, phi(z) = min(z, 10), for every weight.
    long = slow.times(10.0)
    ours = partial(LAMB, eps=1e-14, weight_decay=decay, exclude=None, bias_correction=False)
    theirs = long.run(partial(po_lamb, weight_decay=decay, foreach=foreach))
    same(long.run(partial(ours, clip=(0.0, 10.0))), theirs)
    assert long.start[0].norm() > 10  # so that the bound is met
    apart(long.run(ours), theirs)


@pytest.mark.parametrize("foreach", [True, False])
def test_pytorch_optimizer_lamb_divides_the_rate_by_the_first_correction(
    slow, po_lamb, foreach, same
):
    # By default, and unlike what its docstring says, the rate is divided by 1 - beta_1^t: ten times
    # the rate in the first step. In LAMB the ratio takes such a factor out again; here it comes
    # after the ratio. Ours does it with a rate made so.
    rates = [rate / (1 - 0.9 ** (t + 1)) for t, rate in enumerate(slow.rates)]
    ours = partial(LAMB, eps=1e-14, exclude=None, bias_correction=False, clip=(0.0, 10.0))
    theirs = partial(po_lamb, adam_debias=False, foreach=foreach)
    same(slow.at(*rates).run(ours), slow.run(theirs))


@pytest.mark.parametrize("foreach", [True, False])
def test_pytorch_optimizer_lamb_decays_ahead_of_the_ratio(slow, po_lamb, foreach, same):
    # Its default, weight_decouple=True: weights shrink by 1 - eta*lambda, and the ratio and its
    # norms know nothing of the decay; in LAMB the decay is in the update that is normalized.
    # (Its loop moves the moments first, its foreach path the weights: neither sees the other.)
    rates = iter(slow.rates)

    def decayed(weights, gradients):
        rate = next(rates)
        for weight in weights:
            weight.mul_(1 - rate * DECAY)
        return gradients

    ours = partial(LAMB, eps=1e-14, exclude=None, bias_correction=False, clip=(0.0, 10.0))
    theirs = partial(po_lamb, weight_decay=DECAY, weight_decouple=True, foreach=foreach)
    same(slow.run(ours, decayed), slow.run(theirs))


def test_pytorch_optimizer_lamb_has_eps_beside_the_norm(slow, po_lamb, same):
    # |w| / (|r| + eps), where the paper has |w| / |r|: a step shorter by |r| / (|r| + eps).
    one = slow.at(RATE).first()
    eps, [gradients] = 1e-2, one.steps
    ours = one.run(partial(LAMB, eps=eps, exclude=None, bias_correction=False))
    theirs = one.run(partial(po_lamb, eps=eps))
    for w, g, a, b in zip(one.start, gradients, ours, theirs, strict=True):
        r = 0.1 * g / (0.001**0.5 * g.abs() + eps)
        share = r.norm() / (r.norm() + eps) if w.norm() > 0 else 1.0
        same([w - b], [(w - a) * share])


# optax


@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_optax_lamb_is_ours_without_exclusion(slow, decay, same):
    # Bias correction, decay inside the norm, ratio 1 where a norm is 0, no clipping.
    theirs = slow.run_optax(lambda optax, rate: optax.lamb(rate, eps=1e-3, weight_decay=decay))
    same(slow.run(partial(LAMB, eps=1e-3, weight_decay=decay, exclude=None)), theirs)


def test_optax_mask_leaves_out_the_decay_but_not_the_ratio(slow, same, apart):
    # Its `mask` of matrices spares vectors the decay and scales them all the same: in ours, two
    # groups; exclude="1d" would spare them both.
    mask = [weight.ndim > 1 for weight in slow.start]
    theirs = slow.run_optax(lambda optax, rate: optax.lamb(rate, weight_decay=DECAY, mask=mask))

    def ours(weights, lr):
        groups = [
            {"params": [w], "weight_decay": DECAY if decays else 0.0}
            for w, decays in zip(weights, mask, strict=True)
        ]
        return LAMB(groups, lr=lr, exclude=None)

    same(slow.run(ours), theirs)
    vectors = slow.run(partial(LAMB, weight_decay=DECAY, exclude="1d"))
    apart(vectors, theirs)
