"""A loop of Accelerate with gradient noise convolution: 1,024 digits a step, 16 workers of 64.

python accelerate_loop.py [EPOCHS]
torchrun --nproc-per-node 2 accelerate_loop.py [EPOCHS]     8 workers on each of two processes
"""

import sys

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import largebatch as lb
from largebatch.integrations.accelerate import register_for_checkpointing

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 40
torch.manual_seed(0)

pixels, classes = load_digits(return_X_y=True)
images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16  # grey is 0 to 16
labels = torch.tensor(classes)
order = torch.randperm(len(images))
train, test = order[:1024], order[1297:]
loader = DataLoader(TensorDataset(images[train], labels[train]), batch_size=64, shuffle=True)

model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(512, 10),
)
criterion = nn.CrossEntropyLoss()
optimizer = lb.SNGM(model.parameters(), lr=0.3, momentum=0.9, weight_decay=1e-4)
course = lb.schedule.WarmUp(epochs // 10, start=0.25, then=lb.schedule.Cosine(total=epochs))
scheduler = lb.schedule.lr_scheduler(optimizer, course)

accelerator = Accelerator(cpu=not torch.cuda.is_available())
accelerator.gradient_accumulation_steps = 16 // accelerator.num_processes
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
workers = lb.Workers(
    model,
    optimizer,
    perturb=lb.GNC(alpha=0.1),
    count=accelerator.gradient_accumulation_steps,
    scaler=accelerator.scaler,
    reduction="sum",  # accelerator.backward divides each loss by the number of micro-batches
)
register_for_checkpointing(accelerator, workers)  # accelerator.save_state() keeps them too

for epoch in range(epochs):
    for x, y in loader:
        with accelerator.accumulate(model):
            with workers.next(last=accelerator.sync_gradients):
                loss = criterion(model(x), y)
                accelerator.backward(loss)
            if accelerator.sync_gradients:
                workers.combine()
                accelerator.clip_grad_norm_(model.parameters(), max_norm=10.0)
            optimizer.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            scheduler.step()
    if epoch % 10 == 9 or epoch == epochs - 1:
        ratio = float(workers.offset_to_weight_norm)  # falls with the rate
        accelerator.print(f"epoch {epoch + 1:3}  loss {loss:.4f}  offset/weight norm {ratio:.1e}")

model.eval()
with torch.no_grad():
    outputs = accelerator.unwrap_model(model)(images[test].to(accelerator.device))
right = (outputs.argmax(dim=1).cpu() == labels[test]).float()
accelerator.print(f"test accuracy {100 * float(right.mean()):.1f}% of {len(test)} images")
accelerator.end_training()
