"""Gradient noise convolution over several processes: 1,024 digits a step, 16 workers of 64.

torchrun --nproc-per-node 2 ddp.py [EPOCHS]
"""

import sys

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import largebatch as lb

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 40
dist.init_process_group("gloo")  # "nccl", and a device for each process, on GPUs
rank, ranks = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)

pixels, classes = load_digits(return_X_y=True)
images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16  # grey is 0 to 16
labels = torch.tensor(classes)
order = torch.randperm(len(images))
train, test = order[:1297], order[1297:]
examples = TensorDataset(images[train], labels[train])
sampler = DistributedSampler(examples, ranks, rank, drop_last=True)
# Every process loads its own share of a batch, of the same size on all.
loader = DataLoader(examples, batch_size=1024 // ranks, sampler=sampler, drop_last=True)

model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(512, 10),
)
replicas = DistributedDataParallel(model)
criterion = nn.CrossEntropyLoss()
steps = epochs * len(loader)
course = lb.schedule.WarmUp(steps // 10, start=0.25, then=lb.schedule.Cosine(total=steps))

optimizer = lb.SNGM(replicas.parameters(), lr=0.3, momentum=0.9, weight_decay=1e-4)
scheduler = lb.schedule.lr_scheduler(optimizer, course)
workers = lb.Workers(replicas, optimizer, perturb=lb.GNC(alpha=0.1), count=16 // ranks)

for epoch in range(epochs):
    sampler.set_epoch(epoch)
    for x, y in loader:
        loss = workers.backward(lambda x, y: criterion(replicas(x), y), x, y)
        optimizer.step()
        scheduler.step()
    if rank == 0 and (epoch % 10 == 9 or epoch == epochs - 1):
        ratio = float(workers.offset_to_weight_norm)  # falls with the rate
        print(f"epoch {epoch + 1:3}  loss {float(loss):.4f}  offset/weight norm {ratio:.1e}")

if rank == 0:
    model.eval()  # the module itself: a pass through DDP is one that all processes join
    with torch.no_grad():
        right = (model(images[test]).argmax(dim=1) == labels[test]).float()
    print(f"test accuracy {100 * float(right.mean()):.1f}% of {len(test)} images")
dist.barrier()
dist.destroy_process_group()
