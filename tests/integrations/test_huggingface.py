"""The Trainer with workers ends at the weights of the plain loop over Workers, in one process.

The plain loop averages means by what they count; the Trainer adds shares up. Where a share were
wrong, gradients would agree and the noise, and so the next weights, would not.
"""

import pytest
import torch
import trainer_runs as runs
from torch import nn
from torch.utils.data import IterableDataset
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback
from transformers.trainer_pt_utils import LabelSmoother

import largebatch as lb


def assert_same(one: nn.Module, other: nn.Module, bound: float = 1e-10) -> None:
    assert runs.distance(one, other) < bound


def assert_apart(hand: "runs.Hand", plain: "runs.Hand") -> None:
    """The perturbation is one that shows, so that leaving it out would not pass."""
    assert hand.offsets > 0.01
    assert runs.distance(hand.module, plain.module) > 1e-3


def trained(folder, model, examples, **more):
    trainer = runs.trainer(model, examples, folder=folder, **more)
    trainer.train()
    return trainer


@pytest.mark.parametrize("batches", [9, 7], ids=["whole", "short"])
@pytest.mark.parametrize("clip", [0.0, 0.05], ids=["", "clipped"])
@pytest.mark.parametrize("divided_by", ["tokens", "micro-batches"])
def test_ends_where_the_plain_loop_does(divided_by, clip, batches, tmp_path):
    # Red: share 1/count for all, the tokens of the whole group for each, combine() after the
    # clipping, a short group that is never combined or divided by gradient_accumulation_steps.
    tokens = divided_by == "tokens"
    kind, weigh = (runs.Language, "group") if tokens else (runs.MeanLanguage, "alike")
    examples = runs.data(batches)
    ours = runs.language(kind)
    trained(tmp_path, ours, examples, max_grad_norm=clip)
    hand = runs.Hand(runs.language(kind), weigh=weigh).run(examples, clip=clip)
    assert_apart(hand, runs.Hand(runs.language(kind), None, weigh).run(examples, clip=clip))
    assert_same(ours, hand.module)


def test_a_loss_function_of_ones_own(tmp_path):
    def loss(outputs, labels, num_items_in_batch=None):
        how = "mean" if num_items_in_batch is None else "sum"
        found = nn.functional.cross_entropy(
            outputs["logits"].flatten(0, 1), labels.flatten(), reduction=how, label_smoothing=0.2
        )
        return found if num_items_in_batch is None else found / num_items_in_batch

    examples, ours = runs.data(9), runs.language(runs.MeanLanguage)
    trained(tmp_path, ours, examples, keywords={"compute_loss_func": loss})
    hand = runs.Hand(
        runs.language(runs.MeanLanguage),
        loss=lambda model, batch: loss(model(batch["x"]), batch["labels"]),
    )
    assert_same(ours, hand.run(examples).module)


class IgnoresTokens(runs.Language):
    """Takes any keyword, and so the group's tokens, and returns its mean all the same."""

    def forward(self, x, labels=None, **more):
        return super().forward(x, labels)


def test_a_trainer_that_says_how_its_loss_is_scaled(tmp_path):
    class Says(runs.MyTrainer):
        loss_is_scaled_for_ga = False

    examples, ours = runs.data(9), runs.language(IgnoresTokens)
    runs.trainer(ours, examples, folder=tmp_path, kind=Says).train()
    hand = runs.Hand(runs.language(IgnoresTokens), weigh="alike").run(examples)
    assert_same(ours, hand.module)


@pytest.mark.parametrize(
    "perturb",
    [
        lb.SAM(rho=0.1),
        lb.SAM(rho=0.1, per_worker=True),
        lb.Extrapolation(inner_lr=0.3),
        lb.EigenNoise(rho=0.1, k=1),
        lb.Switch(lb.GNC(alpha=1.0), lb.RNC(alpha=0.5), at_step=4),
    ],
    ids=["SAM", "m-SAM", "Extrapolation", "EigenNoise", "Switch"],
)
def test_methods_that_look_first_or_need_the_loss(perturb, tmp_path):
    # Seven micro-batches: the last group of an epoch has one.
    examples, ours = runs.data(7), runs.language()
    options = {"perturb": perturb, "refresh_every": runs.REFRESHED}
    trained(tmp_path, ours, examples, workers=options)
    hand = runs.Hand(runs.language(), perturb).run(examples)
    assert_apart(hand, runs.Hand(runs.language(), None).run(examples))
    assert_same(ours, hand.module)


@pytest.mark.parametrize("rule", [lb.CLARS, lb.CBLR], ids=["listens", "sees-the-loss"])
def test_an_optimizer_that_wants_more_than_the_gradient(rule, tmp_path):
    # Red: Workers with Accelerate's wrapper around the optimizer, which neither listens nor sees.
    def make(model):
        return rule(model.parameters(), lr=0.05)

    examples, ours = runs.data(9), runs.language()
    options = {"perturb": runs.PERTURB, "refresh_every": runs.REFRESHED}
    trained(tmp_path, ours, examples, workers=options, optimizer=make)
    hand = runs.Hand(runs.language(), optimizer=make).run(examples)
    assert_same(ours, hand.module)


def test_noise_on_the_weights_and_in_another_dtype(tmp_path):
    options = {
        "gradient_noise": lb.AnnealedNoise(eta=0.01, placement="weights"),
        "noise_dtype": torch.float32,
    }
    examples, ours = runs.data(9), runs.language()
    trained(tmp_path, ours, examples, workers={"perturb": runs.PERTURB, **options})
    hand = runs.Hand(runs.language(), **options).run(examples)
    assert runs.distance(hand.module, runs.Hand(runs.language()).run(examples).module) > 1e-4
    assert_same(ours, hand.module)


def test_bfloat16_autocast(tmp_path):
    """Bound 3e-3, a fifth of what the perturbation changes: sums and means are rounded apart."""

    def loss(model, batch):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(**batch)["loss"]

    examples = runs.data(9)
    ours, theirs = (runs.language(dtype=torch.float32) for _ in range(2))
    trained(tmp_path, ours, examples, bf16=True)
    hand = runs.Hand(theirs, loss=loss).run(examples)
    plain = runs.Hand(runs.language(dtype=torch.float32), None, loss=loss).run(examples)
    assert_apart(hand, plain)
    assert runs.distance(theirs, plain.module) > 1e-2
    assert_same(ours, theirs, 3e-3)


class Overflows(runs.Language):
    """Its fifth loss is infinite: once, in the second group."""

    calls = 0

    def forward(self, x, labels=None, **more):
        found = super().forward(x, labels, **more)
        self.calls += 1
        factor = torch.inf if self.calls == 5 else 1.0
        return {**found, "loss": found["loss"] * factor}


def test_a_grad_scaler_and_an_overflow(tmp_path):
    # Accelerate makes a scaler for float16 on an accelerator only; here it is given one.
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**12) for _ in range(2)]
    examples, ours = runs.data(9), runs.language(Overflows)
    trainer = runs.trainer(ours, examples, folder=tmp_path)
    trainer.accelerator.scaler = scalers[0]
    trainer.train()
    hand = runs.Hand(runs.language(Overflows), scaler=scalers[1]).run(examples)
    assert [each.get_scale() for each in scalers] == [2.0**11] * 2
    assert hand.offsets > 0.01
    assert_same(ours, hand.module)


def llama() -> nn.Module:
    torch.manual_seed(2)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    tokens = {"vocab_size": runs.TOKENS, "bos_token_id": 0, "eos_token_id": 0}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, **tokens))


def named(examples):
    return [{"input_ids": each["x"], "labels": each["labels"]} for each in examples]


@pytest.mark.parametrize("smoothing", [0.0, 0.2], ids=["", "smoothed"])
def test_a_model_of_transformers(smoothing, tmp_path):
    """Its labels are shifted, so its tokens are fewer than its labels. Float32: bound 1e-5."""
    examples, ours = named(runs.data(9, least=2)), llama()
    trained(tmp_path, ours, examples, label_smoothing_factor=smoothing)

    def loss(model, batch):
        batch = dict(batch)
        if not smoothing:
            return model(**batch).loss
        labels = batch.pop("labels")
        return LabelSmoother(epsilon=smoothing)(model(**batch), labels, shift_labels=True)

    class Shifted(runs.Hand):
        def tokens(self, batch):
            return super().tokens({"labels": batch["labels"][:, 1:]})

    hand = Shifted(llama(), loss=loss).run(examples)
    assert_apart(hand, Shifted(llama(), None, loss=loss).run(examples))
    assert_same(ours, hand.module, 1e-5)


def test_a_micro_batch_without_a_label(tmp_path):
    # Red: its own gradient is what came over a share of zero, which is not a number.
    examples, ours = runs.data(9), runs.language()
    for example in examples[4 * runs.BATCH : 5 * runs.BATCH]:
        example["labels"].fill_(runs.IGNORED)
    trainer = trained(tmp_path, ours, examples)
    assert trainer.workers.offset_to_weight_norm > 1e-3
    assert all(weight.isfinite().all() for weight in ours.parameters())


class Watch(TrainerCallback):
    """Sees the weights before, between and after the workers of each group."""

    def __init__(self):
        self.start, self.moved, self.gradients = [], 0, 0

    def on_step_begin(self, args, state, control, model, **more):
        self.start = [weight.detach().clone() for weight in model.parameters()]

    def on_substep_end(self, args, state, control, model, **more):
        self.look(model)

    def on_pre_optimizer_step(self, args, state, control, model, **more):
        self.look(model)
        self.gradients += all(weight.grad is not None for weight in model.parameters())

    def look(self, model):
        pairs = zip(self.start, model.parameters(), strict=True)
        self.moved += any(not torch.equal(one, other) for one, other in pairs)


def test_callbacks_and_evaluation_see_clean_weights(tmp_path):
    examples, watch = runs.data(9), Watch()
    ours, theirs = runs.language(), runs.language()
    options = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "loss"}
    keywords = {"callbacks": [watch], "eval_dataset": examples[:8]}
    trainer = trained(tmp_path, ours, examples, keywords=keywords, **options)
    assert (watch.moved, watch.gradients) == (0, 9)
    evaluated = [each["eval_loss"] for each in trainer.state.log_history if "eval_loss" in each]
    assert len(evaluated) >= 4
    trained(tmp_path, theirs, examples)
    assert runs.distance(ours, theirs) == 0


class Stream(IterableDataset):
    """Says nothing of its length."""

    def __init__(self, examples):
        self.examples = examples

    def __iter__(self):
        return iter(self.examples)


def test_a_stream_that_ends_within_a_group(tmp_path):
    """The Trainer steps on whole groups of it only; what is left over joins no other group."""
    examples, ours = runs.data(7), runs.language()
    with pytest.warns(UserWarning, match="ended after 1 of 3 micro-batches"):
        trained(tmp_path, ours, Stream(examples), max_steps=5)
    hand = runs.Hand(runs.language())
    whole = examples[: 6 * runs.BATCH]
    hand.run(whole, epochs=2).run(whole[: 3 * runs.BATCH], epochs=1)
    assert_same(ours, hand.module)


class BreaksOff(TrainerCallback):
    """Ends the first epoch after two of the second group's three micro-batches, and saves."""

    def __init__(self, save):
        self.save, self.seen = save, 0

    def on_substep_end(self, args, state, control, **more):
        self.seen += 1
        if self.seen == 4:
            control.should_epoch_stop, control.should_save = True, self.save


@pytest.mark.parametrize("save", [False, True])
def test_a_group_that_a_callback_breaks_off(save, tmp_path):
    # Red: the next epoch's group would have five workers, and a state in mid-step is refused.
    ours, watch = runs.language(), Watch()
    keywords = {"callbacks": [BreaksOff(save), watch]}
    trainer = trained(tmp_path, ours, runs.data(9), keywords=keywords)
    assert trainer.state.global_step == 7
    assert trainer.workers.step == 8
    assert watch.moved == 0
    assert (tmp_path / "checkpoint-1" / "workers_0.pt").is_file() == save


def test_a_step_outside_of_train_is_refused(tmp_path):
    trainer = runs.trainer(runs.language(), runs.data(9), folder=tmp_path)
    with pytest.raises(RuntimeError, match=r"training_step\(\) belongs to train\(\)"):
        trainer.training_step(trainer.model, {})


def test_training_twice_makes_workers_anew(tmp_path):
    trainer = trained(tmp_path, runs.language(), runs.data(9))
    first = trainer.workers
    trainer.train()
    assert trainer.workers is not first
    assert (first.step, trainer.workers.step) == (9, 9)


def test_a_smaller_batch_that_is_found_after_an_error(tmp_path):
    """auto_find_batch_size starts again from the middle of a group."""

    class Large(runs.Language):
        calls = 0

        def forward(self, x, labels=None, **more):
            self.calls += 1
            if self.calls == 5:
                raise RuntimeError("CUDA out of memory. by order of the test")
            return super().forward(x, labels, **more)

    trainer = trained(tmp_path, runs.language(Large), runs.data(9), auto_find_batch_size=True)
    assert trainer._train_batch_size < runs.BATCH
    assert trainer.workers.step == trainer.state.global_step > 9


def test_a_compiled_model(tmp_path):
    examples, ours = runs.data(9), runs.language()
    trained(tmp_path, ours, examples, torch_compile=True, torch_compile_backend="eager")
    assert_same(ours, runs.Hand(runs.language()).run(examples).module)
