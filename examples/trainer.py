"""Hugging Face's Trainer with gradient noise convolution: 1,024 digits a step, 16 workers of 64.

python trainer.py [EPOCHS]
torchrun --nproc-per-node 2 trainer.py [EPOCHS]     8 workers on each of two processes
"""

import os
import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from transformers import Trainer, TrainingArguments

import largebatch as lb
from largebatch.integrations.huggingface import WorkersMixin

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 40
processes = int(os.environ.get("WORLD_SIZE", "1"))
torch.manual_seed(0)

pixels, classes = load_digits(return_X_y=True)
images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16  # grey is 0 to 16
examples = [{"images": x, "labels": int(y)} for x, y in zip(images, classes, strict=True)]
order = torch.randperm(len(examples)).tolist()
train, test = ([examples[i] for i in part] for part in (order[:1024], order[1297:]))


class Digits(nn.Sequential):
    """Any model that returns its loss: one of transformers' is used in the same way."""

    def forward(self, images, labels):
        """Loss and logits."""
        logits = super().forward(images)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class MyTrainer(WorkersMixin, Trainer):
    """The Trainer, whose micro-batches are workers'."""


def accuracy(evaluated):
    """In percent."""
    return {"accuracy": 100.0 * float((evaluated[0].argmax(-1) == evaluated[1]).mean())}


model = Digits(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(512, 10),
)
trainer = MyTrainer(
    model,
    TrainingArguments(
        "digits",
        num_train_epochs=epochs,
        per_device_train_batch_size=64,
        gradient_accumulation_steps=16 // processes,  # micro-batches, and so workers
        lr_scheduler_type="cosine",
        warmup_steps=epochs // 10,
        use_cpu=not torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    ),
    train_dataset=train,
    eval_dataset=test,
    compute_metrics=accuracy,
    optimizers=(lb.SNGM(model.parameters(), lr=0.3, momentum=0.9, weight_decay=1e-4), None),
    workers={"perturb": lb.GNC(alpha=0.1)},
)
trainer.train()
print(f"offset/weight norm {float(trainer.workers.offset_to_weight_norm):.1e}")
print(f"test accuracy {trainer.evaluate()['eval_accuracy']:.1f}% of {len(test)} images")
