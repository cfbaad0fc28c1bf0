"""Bugs that turn these red: eager imports, a user's error swallowed, wrong objects let through."""

import subprocess
import sys

import pytest

from largebatch.lab.tasks import Task, TaskError, names, resolve

TASK = """
from largebatch.lab.tasks import Task
def make():
    return Task(name="mine", title="Mine", load=None, model=None)
made = make()
number = 3
def wrong():
    return "a string"
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current directory, nowhere on the path yet; what is imported from it goes again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("name", names())
def test_each_of_ours_is_a_task_of_that_name(name):
    task = resolve(name)
    assert isinstance(task, Task)
    assert task.name == name


def test_the_names():
    assert names() == [
        "digits",
        "mnist",
        "fashion-mnist",
        "cifar10",
        "cifar10-alexnet",
        "cifar10-resnet32",
        "cifar100",
        "cifar100-resnet8",
    ]


def test_digits_needs_neither_torchvision_nor_the_other_tasks():
    code = (
        "import sys; from largebatch.lab.tasks import resolve; resolve('digits');"
        "print([m for m in ('torchvision', 'PIL', 'sklearn', 'largebatch.lab.tasks.cifar',"
        " 'largebatch.lab.tasks.mnist') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        ("digit", r"did you mean 'digits'\?"),
        ("cifar-10", r"did you mean 'cifar10' or 'cifar100'\?"),
        ("MNIST", "known: digits, mnist, .*cifar100-resnet8"),
        ("", "known: digits, mnist, .*cifar100-resnet8"),
    ],
)
def test_an_unknown_name_gets_the_nearest_or_the_list(asked, nearest):
    with pytest.raises(TaskError, match=rf"no task '{asked}': {nearest} \(or your own as pack"):
        resolve(asked)


@pytest.mark.parametrize("attribute", ["make", "made"])
def test_a_users_task_in_the_current_directory(here, attribute):
    (here / "lb_mine.py").write_text(TASK)
    assert resolve(f"lb_mine:{attribute}").title == "Mine"


def test_a_users_task_in_a_package_that_imports_its_neighbour_later(here):
    (here / "lb_pack").mkdir()
    (here / "lb_neighbour.py").write_text("value = 7")
    (here / "lb_pack" / "mod.py").write_text(
        TASK + "\ndef load(d):\n    import lb_neighbour\n    return lb_neighbour.value\n"
        "late = Task(name='l', title='L', load=load, model=None)"
    )
    assert resolve("lb_pack.mod:late").load(None) == 7


def test_the_current_directory_comes_first(here):
    (here / "wsgiref.py").write_text(TASK)  # the name of a module of the standard library
    sys.modules.pop("wsgiref", None)
    assert resolve("wsgiref:made").title == "Mine"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("lb_absent:task", "there is no module 'lb_absent' in .* or installed"),
        ("lb_absent.deep:task", "there is no module 'lb_absent'"),
        ("lb_mine.deep:task", "there is no module 'lb_mine.deep'"),
        ("lb_mine.py/x:task", "'lb_mine.py/x' is not a module's name: write package.module"),
        (":task", "'' is not a module's name"),
        (".lb_mine:made", "'.lb_mine' is not a module's name"),
        ("lb_mine:maed", r"has no 'maed': did you mean 'make' or 'made'\? \(name a"),
        ("lb_mine:", "has no '': known: "),
        ("lb_mine:number", "is a int: must be a largebatch.lab.tasks.Task, or a function"),
        ("lb_mine:wrong", "is a str: must be a largebatch.lab.tasks.Task, or a function"),
    ],
)
def test_what_is_not_a_task_says_why(here, asked, message):
    (here / "lb_mine.py").write_text(TASK)
    with pytest.raises(TaskError, match=message):
        resolve(asked)


@pytest.mark.parametrize(
    ("source", "error"),
    [("import lb_forgotten", ModuleNotFoundError), ("raise ValueError('theirs')", ValueError)],
)
def test_the_users_own_error_is_left_alone(here, source, error):
    (here / "lb_broken.py").write_text(source)
    with pytest.raises(error) as raised:
        resolve("lb_broken:task")
    assert not isinstance(raised.value, TaskError)
