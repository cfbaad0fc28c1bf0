import json
from contextlib import contextmanager

import pytest

from largebatch.lab.compare import pool
from largebatch.lab.compare.grid import Trial
from largebatch.lab.compare.run import Runs
from largebatch.lab.compare.setting import Setting
from largebatch.lab.errors import InputError
from largebatch.lab.setup import load_task

KEYS = {"task", "method", "batch_size", "lr", "seed", "epochs", "metric", "value", "seconds"}
BOOM = """
from torch.optim import SGD
class Boom(SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.fill_(float("nan"))
"""


def runs(folder, read):
    """Every run: its config and its result."""
    return [
        (read(path), read(path.parent / "result.json")) for path in folder.glob("*/config.json")
    ]


def without_time(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_results_are_final_test_runs_in_the_promised_form(ask, answer, tmp_path, read):
    rows = answer(ask(methods=("gnc", "msgd+longer")))
    assert rows == read(tmp_path / "out" / "results.json")
    pairs = [("msgd", 8), ("msgd", 32), ("gnc", 32), ("msgd+longer", 32)]
    assert [(r["method"], r["batch_size"], r["seed"]) for r in rows] == [
        (*pair, seed) for pair in pairs for seed in (0, 1)
    ]
    assert all(set(row) == KEYS for row in rows)
    # Two epochs of all; "longer" makes the reference's 24 updates, 3 of which are its epoch.
    assert [row["epochs"] for row in rows] == [2, 2, 2, 2, 2, 2, 8, 8]
    assert {row["metric"] for row in rows} == {"accuracy_percent"}
    assert all(50 < row["value"] <= 100 for row in rows[:2])


def test_the_longer_run_makes_the_references_updates(ask, answer, tmp_path, read):
    answer(ask(methods=("msgd+longer",)))
    for stage in ("tuning", "final"):
        ended = runs(tmp_path / "out" / stage, read)
        assert {r["updates"] for c, r in ended if c["method"] == "msgd+longer"} == {
            r["updates"] for c, r in ended if c["batch_size"] == 8
        }


def test_every_pair_is_tuned_alike_on_validation_examples(ask, answer, tmp_path, read):
    answer(ask(methods=("gnc", "sngm", "torch.optim:NAdam"), widenings=2))
    tried = {}
    for config, _ in runs(tmp_path / "out" / "tuning", read):
        assert (config["split"], config["seed"]) == ("validation", 1000)
        pair = config["method"], config["batch_size"]
        tried.setdefault(pair, []).append((config["lr"], config["alpha"]))
    choices = read(tmp_path / "out" / "choices.json")
    assert len(choices) == len(tried) == 5
    # With two rates and two alphas every choice is at an edge: two widenings of two trials.
    assert {len(trials) for trials in tried.values()} == {c["trials"] for c in choices} == {8}
    for choice in choices:
        assert (choice["lr"], choice["alpha"]) in tried[choice["method"], choice["batch_size"]]


def test_the_choice_is_the_best_of_validation(ask, answer, tmp_path, read):
    answer(ask(methods=("sngm",), rates=4))
    ended = runs(tmp_path / "out" / "tuning", read)
    for choice in read(tmp_path / "out" / "choices.json"):
        pair = choice["method"], choice["batch_size"]
        mine = [(c, r) for c, r in ended if (c["method"], c["batch_size"]) == pair]
        best = max(mine, key=lambda run: (run[1]["value"], -run[1]["loss"]))
        assert (choice["lr"], choice["validation"]) == (best[0]["lr"], best[1]["value"])


def test_where_less_is_better_the_least_is_chosen(ask, answer, tmp_path, read):
    rows = answer(ask(task="tiny_task:errors", methods=("sngm",), rates=4))
    ended = runs(tmp_path / "out" / "tuning", read)
    for choice in read(tmp_path / "out" / "choices.json"):
        pair = choice["method"], choice["batch_size"]
        mine = [r["value"] for c, r in ended if (c["method"], c["batch_size"]) == pair]
        assert choice["validation"] == min(mine) < max(mine)
    assert {row["metric"] for row in rows} == {"error_percent"}


def test_an_epoch_is_an_epoch_where_its_incomplete_batch_is_left_out(ask, answer):
    rows = answer(ask(methods=("sngm",), batch_sizes=(40,)))
    assert {row["epochs"] for row in rows} == {2}


def test_test_examples_choose_nothing(ask, answer, tmp_path, read, monkeypatch):
    asked = ask(methods=("gnc",), rates=3)
    answer(asked, "honest")
    monkeypatch.setenv("TINY_FLIPPED", "1")  # every test label is wrong
    load_task.cache_clear()
    answer(asked, "flipped")
    there, flipped = (tmp_path / name for name in ("honest", "flipped"))
    assert read(there / "choices.json") == read(flipped / "choices.json")
    for a, b in zip(read(there / "results.json"), read(flipped / "results.json"), strict=True):
        assert a["lr"] == b["lr"]
        assert a["value"] + b["value"] == pytest.approx(100)


def test_diverged_runs_are_null_and_the_rest_goes_on(ask, answer, tmp_path, read):
    (tmp_path / "boom_of_lab.py").write_text(BOOM)
    rows = answer(ask(methods=("boom_of_lab:Boom",)))
    assert [row["value"] is None for row in rows] == [False] * 4 + [True] * 2
    choice = read(tmp_path / "out" / "choices.json")[-1]
    assert (choice["method"], choice["validation"]) == ("boom_of_lab:Boom", None)
    assert choice["lr"] == min(c["lr"] for c, _ in runs(tmp_path / "out" / "tuning", read)
                               if c["method"] == "boom_of_lab:Boom")  # fmt: skip


def test_a_second_start_runs_nothing_again(ask, answer, tmp_path, monkeypatch):
    rows = answer(ask())
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*/*/*")}
    assert len(files) > 30

    def never(*arguments):
        raise AssertionError("a finished run was started again")

    monkeypatch.setattr(pool, "train", never)
    stages = []
    assert answer(ask(), stages=stages) == rows
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*/*/*")} == files
    assert stages == [("Tuning", 12, 12), ("Final runs", 6, 6)]


def test_a_second_start_runs_what_is_missing(ask, answer, tmp_path, monkeypatch):
    rows = answer(ask())
    lost = sorted((tmp_path / "out" / "final").iterdir())[:2]
    for run in lost:
        (run / "result.json").unlink()
    started = []

    def counted(config, out, data_dir, original=pool.train):
        started.append(out)
        return original(config, out, data_dir)

    monkeypatch.setattr(pool, "train", counted)
    assert without_time(answer(ask())) == without_time(rows)
    assert sorted(started) == lost


def test_another_question_in_the_same_folder_is_refused(ask, answer, tmp_path):
    answer(ask())
    with pytest.raises(InputError, match=r"out holds another comparison \(epochs 2 there, 3 asked"):
        answer(ask(epochs=3))


@pytest.mark.parametrize(("text", "message"), [("[1]", "holds another"), ("{", "not valid JSON")])
def test_a_folder_with_another_compare_json(ask, answer, tmp_path, text, message):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "compare.json").write_text(text)
    with pytest.raises(InputError, match=message):
        answer(ask())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"worker_size": 32}, r"method 'gnc'.*worker"),
        ({"worker_size": 12}, r"worker_size=12 cannot share batch_size=32"),
        ({"batch_sizes": (72,)}, r"batch_size=72 is larger than the 64 training examples"),
        ({"train_size": 40}, r"batch_size=32 is larger than the 27 training examples"),
        ({"methods": ("torch.optim:Muon",)}, r"torch.optim:Muon"),
    ],
)
def test_bad_input_makes_no_folder(ask, answer, tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        answer(ask(**given))
    assert not (tmp_path / "out").exists()


def test_batch_norm_keeps_the_worker_size_for_all(ask, answer, tmp_path, read):
    for task, sizes in (("tiny_task:batch_norm", {8}), ("tiny_task:task", {8, 32})):
        answer(ask(task=task), task[-4:])
        configs = [c for c, _ in runs(tmp_path / task[-4:] / "final", read)]
        assert {c["worker_size"] for c in configs} == sizes
        assert {c["worker_size"] for c in configs if c["method"] == "gnc"} == {8}


def test_rules_of_several_optimizers_and_torchs_rivals_are_compared(ask, answer):
    rows = answer(ask(methods=("nesterov", "adamw", "nadam", "muon", "muon+gnc")))
    assert len({row["method"] for row in rows}) == 6
    assert all(row["value"] > 50 for row in rows)


def test_compare_json_says_what_a_report_needs(ask, answer, tmp_path, read):
    answer(ask())
    said = read(tmp_path / "out" / "compare.json")
    sizes = {"train_examples": 96, "tuning_examples": 64, "validation_examples": 32}
    expected = {"format": 4, "task_title": "Which of two", "metric": "accuracy_percent"}
    expected |= {"higher_is_better": True, "test_examples": 60, "small_batch": 8, **sizes}
    assert expected.items() <= said.items()
    assert json.dumps(said)


def test_two_processes_give_the_bits_of_one(ask, answer, tmp_path, read):
    one, two = (answer(ask(), str(n), processes=n) for n in (1, 2))
    assert without_time(one) == without_time(two)
    for path in (tmp_path / "1").glob("*/*/metrics.jsonl"):
        other = tmp_path / "2" / path.relative_to(tmp_path / "1")
        assert without_time(read(path)) == without_time(read(other))


def test_a_configuration_that_is_asked_for_twice_runs_once(ask, tmp_path):
    # Two processes would write the same folder at once.
    setting = Setting.of(ask(), None)
    one, other = (setting.config(("msgd", 32), Trial(lr, None), 0, "test") for lr in (0.1, 0.2))
    shown, ran = [], []

    class Told:
        def run(self, jobs, done):
            ran.extend(job.config for job in jobs)
            return {job: {"lr": job.config.lr} for job in jobs}

    @contextmanager
    def stage(name, jobs):
        shown.append(len(jobs))
        yield lambda job: None

    results = Runs(setting, tmp_path, Told(), stage)("final", "Final runs", [one, other, one])
    assert [r["lr"] for r in results] == [0.1, 0.2, 0.1]
    assert (ran, shown) == ([one, other], [2])
