"""What each verb prints when all goes well."""

import json
import os
from pathlib import Path

import pytest

from largebatch.lab.cli import main
from largebatch.lab.cli.main import VERBS
from largebatch.lab.methods import LOSSES, NOISES, PARTS, PERTURBATIONS, RULES
from largebatch.lab.recipes import RECIPES

EXAMPLES = Path(__file__).parents[3] / "examples"
RUN = ["--set", "batch_size=32", "--set", "worker_size=8", "--scale", "smoke"]


@pytest.mark.parametrize("verb", [None, *VERBS])
def test_help(capsys, verb):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"] if verb else ["--help"])
    out, err = capsys.readouterr()
    assert (stop.value.code, err) == (0, "")
    assert out.startswith("usage: largebatch")
    if verb is None:
        assert all(name in out for name in VERBS)


@pytest.mark.parametrize("columns", [50, 80, 200])
def test_list_names_everything_with_its_source(cli, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, err = cli("list")
    assert (code, err) == (0, "")
    lines, text = out.splitlines(), " ".join(out.split())
    assert max(map(len, lines)) <= min(columns, 100)
    for name in (*RULES, *PARTS, *RECIPES, "digits", "cifar100", "longer"):
        assert any(line.startswith(f"  {name} ") for line in lines)
    for method in (*RULES.values(), *PARTS.values()):
        assert f" {method.name} {method.summary} ({method.source})" in text
    assert text.count(" [rho]") == 3
    assert all(f"Update rules: {rule.family}" in lines for rule in RULES.values())
    assert text.count("[+0.5]") == 1  # of all rules one needs more than its gradient
    assert "(Gao and Zhong 2020, Eq. 9-11) [+0.5]" in text


def test_list_as_json(cli):
    found = json.loads(cli("list", "--json")[1])
    parts = {"perturbations": PERTURBATIONS, "gradient noise": NOISES, "losses": LOSSES}
    assert set(found) == {"tasks", "update rules", "options", "probes", "recipes", *parts}
    for title, table in parts.items():
        assert set(found[title]) == set(table)
    assert set(found["recipes"]) == set(RECIPES)
    assert set(RULES) < set(found["update rules"])
    assert found["update rules"]["cblr-hessian"] == {
        "summary": RULES["cblr-hessian"].summary,
        "source": "Gao and Zhong 2020, Eq. 9-11",
        "family": "a rate for each element",
        "extra_gradients": 0.5,
    }
    assert found["perturbations"]["gnc"]["extra_gradients"] == 0
    assert found["perturbations"]["m-sam"] == {
        "summary": PERTURBATIONS["m-sam"].summary,
        "source": "Foret et al. 2021, Sec. 4.1",
        "parameter": "rho",
        "extra_gradients": 1.0,
    }


def test_train_tells_the_score_and_the_folder(cli, tiny, tmp_path):
    code, out, err = cli("train", "--task", tiny, *RUN, "--out", "run")
    assert (code, err) == (0, "")
    value = json.loads((tmp_path / "run" / "result.json").read_text())["value"]
    assert out.startswith(f"accuracy_percent {value:.2f} after 6 updates, ")
    assert out.endswith("Run: run\n")


def test_train_as_json_prints_nothing_else(cli, tiny, tmp_path):
    code, out, err = cli("train", "--task", tiny, *RUN, "--json")
    assert (code, err) == (0, "")
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads(out) == json.loads((run / "result.json").read_text())


def test_options_and_settings_reach_the_configuration(cli, tiny, tmp_path):
    cli("train", "--task", tiny, *RUN, "--seed", 7, "--set", "schedule.kind=linear", "--out", "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (config["task"], config["seed"], config["epochs"]) == (tiny, 7, 2)
    assert config["schedule"]["kind"] == "linear"
    code, *_ = cli("train", "--config", "a/config.json", "--set", "lr=0.2", "--out", "b")
    again = json.loads((tmp_path / "b" / "config.json").read_text())
    assert (code, again) == (0, config | {"lr": 0.2})


@pytest.mark.parametrize(
    ("split", "examples", "worker_size"), [("test", 96, 96), ("validation", 64, 64)]
)
def test_a_full_batch_is_all_training_examples_of_the_split(
    cli, tiny, tmp_path, split, examples, worker_size
):
    run = ["--task", tiny, "--scale", "smoke", "--set", f"split={split}", "--batch", "full"]
    cli("train", *run, "--out", "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (config["batch_size"], config["worker_size"]) == (examples, worker_size)
    assert json.loads((tmp_path / "a" / "result.json").read_text())["updates"] == 2  # epochs
    cli("train", *run, "--set", "worker_size=4", "--out", "b")
    assert json.loads((tmp_path / "b" / "config.json").read_text())["worker_size"] == 4


@pytest.mark.parametrize(("before", "given", "after"), [(8, None, 8), (32, None, 16), (32, 4, 4)])
def test_a_batch_given_keeps_the_workers_size_where_it_can(
    cli, tiny, tmp_path, before, given, after
):
    (tmp_path / "config.json").write_text(
        json.dumps({"task": tiny, "batch_size": 32, "worker_size": before, "epochs": 1})
    )
    sets = [] if given is None else ["--set", f"worker_size={given}"]
    cli("train", "--config", "config.json", *sets, "--batch", 16, "--out", "a")
    found = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (found["batch_size"], found["worker_size"]) == (16, after)


def test_a_batch_is_said_once(cli, tiny):
    code, _, err = cli("train", "--task", tiny, "--set", "batch_size=32", "--batch", 16)
    assert code == 2
    assert "--batch and --set batch_size both say" in err


@pytest.mark.parametrize("batch", ["0", "-1", "half", "1.5"])
def test_a_batch_is_a_number_or_full(cli, batch):
    code, out, err = cli("train", "--batch", batch)
    assert (code, out) == (2, "")
    assert "at least 1 is needed" in err


def test_a_run_that_diverges_is_a_result(cli, tiny):
    code, out, err = cli("train", "--task", tiny, *RUN, "--set", "lr=1e38", "--out", "a")
    assert (code, err) == (0, "")
    assert out.startswith("diverged after ")


def test_compare_prints_the_table_and_the_report(cli, tiny, tmp_path):
    small = ["--methods", "sngm", "--scale", "smoke", "--jobs", 1, "--out", "out"]
    code, out, err = cli("compare", "--task", tiny, *small)
    assert (code, err) == (0, "")
    assert out.startswith(f"{tiny}: msgd, sngm at batch 32, against momentum SGD at 8; 2 epochs")
    assert out.endswith("Report: out/report.html\n")
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    code, again, err = cli("compare", "--task", tiny, *small, "--json")
    assert (code, err) == (0, "")
    assert json.loads(again) == json.loads((tmp_path / "out" / "results.json").read_text())
    (tmp_path / "out" / "report.html").unlink()
    code, table, _ = cli("report", "out", "--figure", "figure.svg")
    assert code == 0
    assert (tmp_path / "out" / "report.html").exists()
    assert (tmp_path / "figure.svg").read_text().lstrip().startswith("<svg")
    assert "sngm" in table


def test_a_reader_that_has_seen_enough(start):
    reading, writing = os.pipe()
    code = (
        "import os, sys; from largebatch.lab.cli import main\n"
        f"os.dup2({writing}, 1); os.close({writing}); sys.exit(main())"
    )
    os.close(reading)
    process = start("list", code=code, pass_fds=[writing])
    os.close(writing)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (1, "")


@pytest.mark.slow
def test_a_task_and_an_optimizer_of_ones_own_in_one_comparison(start, tmp_path):
    methods = "torch.optim:NAdam,torch.optim:SGD+gnc"
    process = start(
        *("compare", "--task", "my_task:task", "--methods", methods, "--scale", "smoke"),
        *("--worker-size", 8, "--jobs", 2, "--json", "--out", tmp_path / "out"),
        cwd=EXAMPLES,
        env={"PYTHONDONTWRITEBYTECODE": "1"},
    )
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    pairs = {(row["method"], row["batch_size"]) for row in json.loads(out)}
    assert pairs == {("msgd", 8), ("msgd", 64), *((m, 64) for m in methods.split(","))}
    assert "my_task:task" in (tmp_path / "out" / "compare.json").read_text()


def test_python_m_largebatch_is_the_command(start, tmp_path):
    process = start("list", code="import runpy; runpy.run_module('largebatch')", cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "sngm" in out
