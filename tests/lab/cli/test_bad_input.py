"""Bad input: one line on standard error, exit code 2, and nothing written."""

import json

import pytest

NOTHING = {"tiny_task.py", "__pycache__"}


def one_line(code, out, err):
    assert code == 2
    assert out == ""
    assert err.startswith("largebatch: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    return err


@pytest.fixture
def refused(cli, tiny, tmp_path):
    """Runs a command line that must be refused; its line."""

    def run(*arguments):
        line = one_line(*cli(*arguments))
        assert {path.name for path in tmp_path.iterdir()} <= NOTHING
        return line

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the following arguments are required: VERB"),
        ("comapre", "invalid choice: 'comapre'"),
        ("compare --task digit", "no task 'digit': did you mean 'digits'?"),
        ("compare --task tiny_task:tsk", "has no 'tsk': did you mean 'task'"),
        ("compare --task no_such_module:task", "there is no module 'no_such_module'"),
        ("compare --methods gnc,lers", "unknown method 'lers' in 'lers': did you mean 'lars'"),
        ("compare --methods torch.optim:NAdm", "did you mean 'NAdam'"),
        ("compare --methods torch.optim:LBFGS", "LBFGS does not work with workers"),
        ("compare --methods torch.optim:Optimizer", "Optimizer has no argument lr"),
        ("compare --methods ,", "at least one name is needed, got none"),
        ("compare --task tiny_task:load", "needs arguments (missing a required argument"),
        ("train --set momentum=2", "momentum must be below 1, got 2"),
        ("compare --epochs 0", "a whole number of at least 1 is needed, got '0'"),
        ("compare --batch-sizes 32,x", "a whole number of at least 1 is needed, got 'x'"),
        ("compare --widenings -1", "widenings must be 0 to 12, got -1"),
        ("compare --seeds 2000", "at most 1,000 seeds, got 2,000"),
        ("compare --seed 99999999999999999999", "seed must be 0 or more and less than 2^63"),
        ("compare --scale huge", "invalid choice: 'huge'"),
        ("compare --bach-sizes 3", "unrecognized arguments: --bach-sizes 3"),
        ("compare --device abacus", "unknown device 'abacus'"),
        ("compare --task tiny_task:task --worker-size 7", "worker_size=7 cannot share"),
        ("compare --task tiny_task:task --worker-size 32", "method 'gnc' needs at least 2 workers"),
        ("compare --task tiny_task:task --batch-sizes 72", "larger than the 64 training examples"),
        ("compare --task tiny_task:task --train-size 97", "there are 96 training examples"),
        ("train --recipe digts", "unknown recipe 'digts': did you mean 'digits'"),
        ("train --set lrr=1", "unknown key 'lrr': did you mean 'lr'"),
        ("train --set schedule.kid=cosine", "unknown key 'schedule.kid': did you mean 'kind'"),
        ("train --set lr", "--set needs KEY=VALUE, got 'lr'"),
        ("train --set lr=fast", "lr must be a number, got 'fast'"),
        ("train --set format=2", "the config has format 2"),
        ("train --set method=gnc", "method 'gnc' needs an alpha"),
        ("train --set method=msgd+longer", "trains for a number of updates of its own"),
        ("train --set worker_size=7", "worker_size=7 cannot share batch_size=64"),
        ("train --task tiny_task:task --set batch_size=128", "larger than the 96 training"),
        ("train --recipe digits --config c.json", "not allowed with argument"),
        ("train --config missing.json", "cannot read missing.json: No such file"),
        ("report missing", "no report from missing: a report needs missing/compare.json"),
        ("report .", "no report from .: a report needs compare.json"),
    ],
)
def test_one_line_says_what_and_what_to_do(refused, arguments, message):
    assert message in refused(*arguments.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 99}', "format 99, this version of largebatch reads format 1"),
        ('{"lr": "fast"}', "lr must be a number, got 'fast'"),
        ("[1]", "a config is a JSON object"),
        ('{"lr": 0.', "config.json is not valid JSON"),
        ("\x00", "config.json is not valid JSON"),
    ],
)
def test_a_config_file_that_cannot_be_used(cli, tiny, tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    assert message in one_line(*cli("train", "--config", "config.json", "--out", "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["train", "compare"])
def test_a_file_in_place_of_the_folder(cli, tiny, tmp_path, verb):
    (tmp_path / "taken").write_text("mine")
    for out in ("taken", "taken/below"):
        line = one_line(*cli(verb, "--task", tiny, "--out", out, *_small(verb)))
        assert f"cannot write to {out}: " in line
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("verb", ["train", "compare"])
def test_a_folder_that_cannot_be_made(cli, tiny, verb):
    line = one_line(*cli(verb, "--task", tiny, "--out", "/proc/none", *_small(verb)))
    assert "cannot write to /proc/none: " in line


def _small(verb):
    if verb == "compare":
        return ["--methods", "sngm"]
    return ["--set", "batch_size=32", "--set", "worker_size=32"]


def test_the_folder_of_another_run(cli, tiny):
    arguments = ["train", "--task", tiny, "--out", "run", *_small("train"), "--scale", "smoke"]
    assert cli(*arguments)[0] == 0
    line = one_line(*cli(*arguments, "--set", "lr=0.3"))
    assert "run holds another run (differs in lr): choose another --out" in line


def test_a_report_of_a_folder_with_damaged_files(cli, tmp_path):
    (tmp_path / "compare.json").write_text('{"task": ')
    assert "compare.json is not valid JSON" in one_line(*cli("report", tmp_path))
    (tmp_path / "compare.json").write_text(json.dumps({"task": "digits"}))
    assert "must say small_batch" in one_line(*cli("report", tmp_path))


def test_a_data_folder_with_a_damaged_file(cli, tiny, tmp_path, monkeypatch):
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte").write_bytes(b"not an image")
    line = one_line(*cli("compare", "--task", "mnist", "--data-dir", "data", "--out", "out"))
    assert "train-images-idx3-ubyte" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["compare", "train"])
def test_a_data_folder_that_is_not_there_starts_no_download(cli, tmp_path, verb):
    line = one_line(*cli(verb, "--task", "mnist", "--data-dir", "typo", "--out", "out"))
    assert "--data-dir typo is not a folder" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("verb", "package"), [("compare", "rich"), ("train", "sklearn"), ("compare", "jinja2")]
)
def test_a_missing_package_names_the_extra(start, tmp_path, package, verb):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from largebatch.lab.cli import main; sys.exit(main())"
    )
    process = start(verb, "--out", "out", code=code, cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    line = one_line(process.returncode, out, err)
    assert f"{package} is missing: pip install 'largebatch[lab]'" in line
    assert not (tmp_path / "out").exists()
