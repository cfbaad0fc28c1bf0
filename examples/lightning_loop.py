"""The plain loop's training in Lightning: 1,024 digits a step, 16 micro-batches of 64.

python lightning_loop.py [EPOCHS]
"""

import sys

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import largebatch as lb
from largebatch.integrations.lightning import WorkersCallback

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 40
torch.manual_seed(0)

pixels, classes = load_digits(return_X_y=True)
images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16  # grey is 0 to 16
labels = torch.tensor(classes)
order = torch.randperm(len(images))
train, test = order[:1297], order[1297:]
loader = DataLoader(TensorDataset(images[train], labels[train]), batch_size=64, shuffle=True)


class Digits(pl.LightningModule):
    """A LightningModule as any other: it knows of its workers only to print how far they look."""

    def __init__(self) -> None:
        """Two convolutions and a linear layer."""
        super().__init__()
        first, second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, stride=2, padding=1)
        layers = [first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)]
        self.model = nn.Sequential(*layers)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """The loss of one micro-batch, at its worker's weights."""
        x, y = batch
        loss = nn.functional.cross_entropy(self.model(x), y)
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> dict[str, object]:
        """The rate follows the optimizer's steps."""
        course = lb.schedule.WarmUp(epochs // 10, start=0.25, then=lb.schedule.Cosine(total=epochs))
        optimizer = lb.SNGM(self.parameters(), lr=0.3, momentum=0.9, weight_decay=1e-4)
        each_step = {"scheduler": lb.schedule.lr_scheduler(optimizer, course), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": each_step}

    def on_train_epoch_end(self) -> None:
        """Print what the plain loop prints."""
        if self.current_epoch % 10 == 9 or self.current_epoch == epochs - 1:
            loss = float(self.trainer.callback_metrics["loss"])
            ratio = float(callback.workers.offset_to_weight_norm)  # falls with the rate
            epoch = self.current_epoch + 1
            print(f"epoch {epoch:3}  loss {loss:.4f}  offset/weight norm {ratio:.1e}")


callback = WorkersCallback(lb.GNC(alpha=0.1))
trainer = pl.Trainer(
    max_epochs=epochs,
    limit_train_batches=16,  # one step an epoch, as in the plain loop
    accumulate_grad_batches=16,
    callbacks=[callback],
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
digits = Digits()
trainer.fit(digits, loader)

digits.eval()
with torch.no_grad():
    right = (digits.model(images[test]).argmax(dim=1) == labels[test]).float()
print(f"test accuracy {100 * float(right.mean()):.1f}% of {len(test)} images")
