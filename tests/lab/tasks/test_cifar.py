"""Bugs that turn these red: a pickle loaded unchecked, colours exchanged, another normalisation."""

import hashlib
import io
import os
import pickle
import shutil
import warnings

import numpy as np
import pytest
import torch

from largebatch.lab.tasks import TaskError, cifar, resolve
from largebatch.lab.tasks.published import Archive, File


class _Published:
    """Pickles as the published files do: by numpy's names of 2009, and with a dtype's align=0."""

    def __init__(self, array):
        self.array = array

    def __reduce__(self):
        state = (1, self.array.shape, _Dtype(), False, self.array.tobytes().decode("latin1"))
        return _reconstruct, (np.ndarray, (0,), "b"), state


class _Dtype:
    def __reduce__(self):
        return np.dtype, ("u1", 0, 1), (3, "|", None, None, None, -1, -1, 0)


def _reconstruct():
    raise AssertionError("only its name is written")


_reconstruct.__module__, _reconstruct.__qualname__ = "numpy.core.multiarray", "_reconstruct"


class _Pickler(pickle._Pickler):
    def save_global(self, obj, name=None):
        if obj is _reconstruct:  # as written in 2009; numpy has moved it since
            self.write(b"cnumpy.core.multiarray\n_reconstruct\n")
        else:
            super().save_global(obj, name)

    dispatch = pickle._Pickler.dispatch | {type(_reconstruct): save_global}


def batch(pixels, labels, key):
    stream = io.BytesIO()
    _Pickler(stream, protocol=2).dump({"data": _Published(pixels), key: labels})
    return stream.getvalue()


def small_set(folder, key, sizes=(4, 2, 3)):
    rng, files, kept = np.random.default_rng(0), [], []
    for number, size in enumerate(sizes):
        pixels = rng.integers(256, size=(size, 3072), dtype=np.uint8)
        labels = rng.integers(10, size=size).tolist()
        content = batch(pixels, labels, key)
        (folder / str(number)).write_bytes(content)
        files.append(File(str(number), len(content), (hashlib.md5(content).hexdigest(),)))
        kept.append((pixels, labels))
    return Archive("none", "", (), tuple(files)), kept


def test_a_small_set_of_two_training_files_and_a_test_file(tmp_path):
    archive, kept = small_set(tmp_path, "labels")
    mean, deviation = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    data = cifar._load(tmp_path, archive, "labels", mean, deviation)
    assert data.train[1].tolist() == kept[0][1] + kept[1][1]
    assert data.test[1].tolist() == kept[2][1]
    planes = np.concatenate([kept[0][0], kept[1][0]]).reshape(-1, 3, 32, 32) / 255
    for colour in range(3):
        expected = torch.tensor((planes[:, colour] - mean[colour]) / deviation[colour])
        torch.testing.assert_close(
            data.train[0][:, colour].double(), expected, atol=1e-6, rtol=1e-6
        )


class _Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_a_pickle_is_not_even_opened_before_its_checksum_matched(tmp_path, monkeypatch):
    archive, _ = small_set(tmp_path, "labels")
    content = bytearray((tmp_path / "1").read_bytes())
    content[-1] ^= 1
    (tmp_path / "1").write_bytes(content)
    opened = []
    monkeypatch.setattr(cifar, "_parse", lambda content, labels: opened.append(content))
    with pytest.raises(TaskError, match=r"1 has MD5 .* must have"):
        cifar._load(tmp_path, archive, "labels", (0.0,) * 3, (1.0,) * 3)
    assert bytes(content) not in opened


def test_code_in_a_pickle_does_not_run_even_with_the_right_checksum(tmp_path):
    target = tmp_path / "made by the pickle"
    with pytest.raises(pickle.UnpicklingError, match=r"mkdir has no place in a CIFAR file"):
        cifar._parse(pickle.dumps({"data": _Evil(target)}), "labels")
    assert not target.exists()


def test_a_dtype_is_made_from_bools_as_numpy_2_4_0_demands(monkeypatch):
    asked = []
    monkeypatch.setattr(cifar.numpy, "dtype", lambda *given: asked.append(given))
    cifar._dtype("u1", 0, 1)
    monkeypatch.undo()
    assert [type(flag) for flag in asked[0][1:]] == [bool, bool]


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_network_and_augmentation_fit_the_images(name, classes):
    task, generator = resolve(name), torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, 32, 32)
    changed = task.augment(images, generator)
    assert task.model()(changed).shape == (4, classes)
    assert not torch.equal(changed, images)


def test_alexnet_sees_cifar10s_images_unchanged():
    task = resolve("cifar10-alexnet")
    assert task.model()(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert task.augment is None
    assert task.load is resolve("cifar10").load


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_without_files_and_network_it_says_which_file(name, tmp_path, monkeypatch):
    def no_network(url, timeout):
        raise OSError(f"no network for {url} within {timeout} s")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(TaskError, match=r"(data_batch_1|train) is not in .*no network for https"):
        resolve(name).load(tmp_path)


@pytest.mark.data
@pytest.mark.parametrize(("name", "packed"), [("cifar10", "cifar-10"), ("cifar100", "cifar-100")])
def test_the_real_images_as_torchvision_reads_them(real_data, name, packed):
    datasets = pytest.importorskip("torchvision").datasets
    folder, task = real_data(packed), resolve(name)
    data = task.load(folder)
    rebuilt = {"train_list": [["train", cifar._CIFAR100.files[0].md5[1]]]}
    rebuilt |= {"test_list": [["test", cifar._CIFAR100.files[1].md5[1]]]}
    theirs = datasets.CIFAR10
    if name == "cifar100":
        published = hashlib.md5((folder / "cifar-100-python/test").read_bytes()).hexdigest()
        changed = {} if published == datasets.CIFAR100.test_list[0][1] else rebuilt
        theirs = type("Rebuilt", (datasets.CIFAR100,), changed)
    mean, deviation = (torch.tensor(task.load.keywords[k]) for k in ("mean", "deviation"))
    for train, (inputs, targets) in ((True, data.train), (False, data.test)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision's own unpickling; ours must not warn
            expected = theirs(folder, train=train, download=False)
        some = slice(None, None, 7)
        pixels = (inputs[some].permute(0, 2, 3, 1) * deviation + mean) * 255
        assert torch.equal(pixels.round().byte(), torch.from_numpy(expected.data[some]))
        assert targets.tolist() == expected.targets
    assert data.train[0].mean((0, 2, 3)).abs().max() < 1e-3
    assert (data.train[0].std((0, 2, 3)) - 1).abs().max() < 1e-3


@pytest.mark.data
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_real_file_is_named(real_data, tmp_path, damage):
    folder = tmp_path / "cifar-10-batches-py"
    shutil.copytree(real_data("cifar-10") / "cifar-10-batches-py", folder)
    with open(folder / "data_batch_1", "r+b") as file:
        if damage == "truncated":
            file.truncate(31_000_000)
        else:
            file.seek(20_000_000)
            byte = file.read(1)[0]
            file.seek(20_000_000)
            file.write(bytes([byte ^ 1]))
    expected = {
        "truncated": "data_batch_1 has 31000000 bytes, must have 31035704",
        "flipped": "data_batch_1 has MD5 .* must have c99cafc152244af753f735de768cd75f",
    }
    with pytest.raises(TaskError, match=expected[damage]):
        resolve("cifar10").load(tmp_path)
