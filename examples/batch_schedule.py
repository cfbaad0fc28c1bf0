"""A batch that doubles three times beside the small one throughout: accuracy and updates of each.

python batch_schedule.py [EPOCHS]
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import largebatch as lb
from largebatch.batching import BatchSizeSchedule, Stages

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 40
base = 32

torch.manual_seed(0)
pixels, classes = load_digits(return_X_y=True)
images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16  # grey is 0 to 16
labels = torch.tensor(classes)
order = torch.randperm(len(images))
train, test = order[:1297], order[1297:]
data = TensorDataset(images[train], labels[train])
criterion = nn.CrossEntropyLoss()


def run(course: Stages) -> tuple[float, int]:
    """Test accuracy in percent, and the number of updates that it took."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    # Written for the small batch; its steps are base batches, whatever the batch grows to.
    decay = lb.schedule.lr_scheduler(optimizer, lb.schedule.Cosine(epochs * len(data) // base))
    schedule = BatchSizeSchedule(optimizer, course, base_batch=base, scheduler=decay)
    loader = DataLoader(data, batch_sampler=schedule.sampler(len(data)))

    while schedule.epoch < epochs:
        epoch, before = schedule.epoch, schedule.batch_size
        for x, y in loader:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
            schedule.step()
        if schedule.batch_size != before:
            rate = schedule.get_last_lr()[0]
            print(f"after epoch {epoch + 1:3}  batch {schedule.batch_size:3}  rate {rate:.4f}")

    model.eval()
    with torch.no_grad():
        right = (model(images[test]).argmax(dim=1) == labels[test]).float()
    return 100 * float(right.mean()), schedule.position.step


accuracy, updates = run(Stages({0: base}, key="epochs"))
print(f"batch {base} throughout: {accuracy:.1f}% of {len(test)} images, {updates} updates")
accuracy, updates = run(Stages.doubling(base, 8 * base, every=epochs / 5, key="epochs"))
print(f"growing batch: {accuracy:.1f}% of {len(test)} images, {updates} updates")
