"""Bugs that turn these red: images parsed askew, test and training files exchanged, no checksum."""

import hashlib
import shutil

import pytest
import torch

from largebatch.lab.tasks import TaskError, resolve
from largebatch.lab.tasks.mnist import _load, _parse
from largebatch.lab.tasks.published import Archive, File


def idx(array):
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.dim()]) + sizes + bytes(array.flatten().tolist())


@pytest.mark.parametrize("shape", [(300,), (2, 3, 4), (1, 28, 28)])
def test_idx_files(shape):
    array = torch.randint(256, shape, dtype=torch.uint8)
    assert torch.equal(_parse(idx(array)), array)


def test_a_small_set_in_the_four_files(tmp_path):
    arrays = [
        torch.randint(256, shape, dtype=torch.uint8)
        for shape in ((5, 28, 28), (5,), (3, 28, 28), (3,))
    ]
    archives = []
    for number, array in enumerate(arrays):
        content = idx(array)
        (tmp_path / str(number)).write_bytes(content)
        file = File(str(number), len(content), (hashlib.md5(content).hexdigest(),))
        archives.append(Archive("none", "", (), (file,)))
    data = _load(tmp_path, tuple(archives), mean=0.25, deviation=0.5)
    expected = (arrays[0].double() / 255 - 0.25) / 0.5
    torch.testing.assert_close(data.train[0][:, 0].double(), expected, atol=1e-6, rtol=1e-6)
    assert data.train[1].tolist() == arrays[1].tolist()
    assert data.test[1].tolist() == arrays[3].tolist()
    assert data.test[0].shape == (3, 1, 28, 28)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_without_files_and_network_it_says_which_file(name, tmp_path, monkeypatch):
    def no_network(url, timeout):
        raise OSError(f"no network for {url} within {timeout} s")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(TaskError, match=r"raw/train-images-idx3-ubyte is not in .*no network"):
        resolve(name).load(tmp_path)


@pytest.mark.data
def test_the_real_images_as_torchvision_reads_them(real_data):
    torchvision = pytest.importorskip("torchvision")
    folder = real_data("mnist")
    data = resolve("mnist").load(folder)
    for train, (inputs, targets) in ((True, data.train), (False, data.test)):
        theirs = torchvision.datasets.MNIST(folder, train=train, download=False)
        pixels = (inputs[:, 0] * 0.3081 + 0.1307) * 255
        assert torch.equal(pixels.round().byte(), theirs.data)
        assert torch.equal(targets, theirs.targets)
    assert data.train[0].mean().abs() < 1e-3
    assert (data.train[0].std() - 1).abs() < 1e-3


@pytest.mark.data
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_real_file_is_named(real_data, tmp_path, damage):
    shutil.copytree(real_data("mnist") / "MNIST", tmp_path / "MNIST")
    path = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content[:-1] if damage == "truncated" else content)
    expected = {
        "truncated": "t10k-labels-idx1-ubyte has 10007 bytes, must have 10008",
        "flipped": "t10k-labels-idx1-ubyte has MD5 .* must have 27ae3e4e09519cfbb04c329615203637",
    }
    with pytest.raises(TaskError, match=expected[damage]):
        resolve("mnist").load(tmp_path)
