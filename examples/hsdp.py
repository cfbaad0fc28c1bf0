"""Gradient noise convolution over FSDP2: 1,024 digits a step, 16 workers over the replicas.

torchrun --nproc-per-node 4 hsdp.py [EPOCHS]      two replicas, each cut over two processes
torchrun --nproc-per-node 2 hsdp.py [EPOCHS]      one replica cut over both
"""

import sys

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import largebatch as lb

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 40
dist.init_process_group("gloo")
replicas = 2 if dist.get_world_size() > 2 else 1
parts = dist.get_world_size() // replicas
if replicas > 1:
    mesh = init_device_mesh("cpu", (replicas, parts), mesh_dim_names=("replicate", "shard"))
else:
    mesh = init_device_mesh("cpu", (parts,), mesh_dim_names=("shard",))
replica, part = divmod(dist.get_rank(), parts)

torch.manual_seed(0)  # the same weights and the same batches on every process
pixels, classes = load_digits(return_X_y=True)
images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16  # grey is 0 to 16
labels = torch.tensor(classes)
order = torch.randperm(len(images))
train, test = order[:1297], order[1297:]

model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(512, 10),
)
for layer in (model[2], model[5], model):
    fully_shard(layer, mesh=mesh)
criterion = nn.CrossEntropyLoss()
optimizer = lb.SNGM(model.parameters(), lr=0.3, momentum=0.9, weight_decay=1e-4)
scheduler = lb.schedule.lr_scheduler(optimizer, lb.schedule.Cosine(total=epochs))
workers = lb.Workers(model, optimizer, perturb=lb.GNC(alpha=0.1), count=16 // replicas)

for epoch in range(epochs):
    batch = train[torch.randperm(len(train))[:1024]]
    mine = batch.view(replicas, workers.count, parts, -1)[replica, :, part].flatten()
    loss = workers.backward(lambda x, y: criterion(model(x), y), images[mine], labels[mine])
    optimizer.step()
    scheduler.step()
    if dist.get_rank() == 0 and (epoch % 10 == 9 or epoch == epochs - 1):
        ratio = float(workers.offset_to_weight_norm)  # falls with the rate
        print(f"epoch {epoch + 1:3}  loss {float(loss):.4f}  offset/weight norm {ratio:.1e}")

model.eval()
with torch.no_grad():
    right = (model(images[test]).argmax(dim=1) == labels[test]).float()
if dist.get_rank() == 0:
    print(f"test accuracy {100 * float(right.mean()):.1f}% of {len(test)} images")
dist.destroy_process_group()
