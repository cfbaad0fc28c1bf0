"""Gradients as FSDP2 hands them out, in one process."""

import torch

from largebatch.parallel.handed_out import HandedOut


def test_a_gradient_is_read_when_its_copy_to_the_main_memory_has_come(monkeypatch):
    # Red: half a copy, from an accelerator that this test only pretends to have.
    class Stream:
        def synchronize(self):
            source.grad.fill_(3.0)

    source = torch.nn.Parameter(torch.zeros(4))
    source.grad = torch.zeros(4)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_stream", Stream)
    found = []
    handed = HandedOut(lambda piece: found.append(piece.buffer.clone()), None)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *_, **__: Done())
    with handed.listening([]):
        handed.came(source)
    assert torch.equal(found[0], torch.full((4,), 3.0))


class Done:
    def wait(self):
        pass
