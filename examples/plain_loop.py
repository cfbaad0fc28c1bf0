"""A plain training loop with gradient noise convolution: 1,024 digits a step, 16 workers of 64.

python plain_loop.py [EPOCHS]
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import largebatch as lb

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 40
torch.manual_seed(0)

pixels, classes = load_digits(return_X_y=True)
images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16  # grey is 0 to 16
labels = torch.tensor(classes)
order = torch.randperm(len(images))
train, test = order[:1297], order[1297:]
loader = DataLoader(
    TensorDataset(images[train], labels[train]), batch_size=1024, shuffle=True, drop_last=True
)

model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(512, 10),
)
criterion = nn.CrossEntropyLoss()
steps = epochs * len(loader)
course = lb.schedule.WarmUp(steps // 10, start=0.25, then=lb.schedule.Cosine(total=steps))

optimizer = lb.SNGM(model.parameters(), lr=0.3, momentum=0.9, weight_decay=1e-4)
scheduler = lb.schedule.lr_scheduler(optimizer, course)
workers = lb.Workers(model, optimizer, perturb=lb.GNC(alpha=0.1), count=16)

for epoch in range(epochs):
    for x, y in loader:
        loss = workers.backward(lambda x, y: criterion(model(x), y), x, y)
        optimizer.step()
        scheduler.step()
    if epoch % 10 == 9 or epoch == epochs - 1:
        ratio = float(workers.offset_to_weight_norm)  # falls with the rate
        print(f"epoch {epoch + 1:3}  loss {float(loss):.4f}  offset/weight norm {ratio:.1e}")

model.eval()
with torch.no_grad():
    right = (model(images[test]).argmax(dim=1) == labels[test]).float()
print(f"test accuracy {100 * float(right.mean()):.1f}% of {len(test)} images")
