import pytest

from largebatch.lab.ablate.arms import GNC
from largebatch.lab.ablate.course import _Course
from largebatch.lab.compare import pool
from largebatch.lab.compare.grid import Trial
from largebatch.lab.compare.setting import Setting
from largebatch.lab.errors import InputError
from largebatch.lab.setup import load_task

ARMS = [arm.arm for arm in GNC.arms]


def configs(folder, read):
    return [read(path) for path in sorted(folder.glob("*/config.json"))]


def test_every_arm_runs_with_every_seed_on_test_data(done, read):
    rows, out = done
    assert rows == read(out / "results.json")
    assert [(row["seed"], row["arm"]) for row in rows] == [(s, a) for s in (0, 1) for a in ARMS]
    assert {c["split"] for c in configs(out / "final", read)} == {"test"}
    assert {row["batch_size"] for row in rows} == {32}
    assert all(row["value"] is not None for row in rows)


def test_tuning_and_pilot_see_validation_data_and_seeds_of_their_own(done, read):
    _, out = done
    tuning, pilot = (configs(out / folder, read) for folder in ("tuning", "pilot"))
    assert {c["split"] for c in (*tuning, *pilot)} == {"validation"}
    assert {c["seed"] for c in tuning} == {1000}
    assert {c["seed"] for c in pilot} == {2000, 2001}
    assert {c["seed"] for c in configs(out / "final", read)} == {0, 1}
    assert {c["method"] for c in pilot} == {"gnc", "matched", "msgd"}


def test_matched_arms_have_gncs_rate_and_alpha_and_others_their_own(done, read):
    _, out = done
    chosen = {row["arm"]: row for row in read(out / "choices.json")}
    gnc = chosen["gnc"]["lr"], chosen["gnc"]["alpha"]
    assert (chosen["matched"]["lr"], chosen["matched"]["alpha"]) == gnc
    assert (chosen["matched-iso"]["lr"], chosen["matched-iso"]["alpha"]) == gnc
    assert (chosen["same-rate"]["lr"], chosen["same-rate"]["alpha"]) == (gnc[0], None)
    tried = {}
    for config in configs(out / "tuning", read):
        tried.setdefault(config["method"], []).append(config)
    assert set(tried) == {"msgd", "gnc", "rnc", "matched"}
    assert {len(of) for of in tried.values()} == {2}
    for arm in GNC.arms:
        assert chosen[arm.arm]["lr"] in [c["lr"] for c in tried[arm.tuned_as]]


def test_final_runs_of_a_seed_differ_in_method_rate_and_alpha_alone(done, read):
    _, out = done
    own = ("method", "lr", "alpha")
    for seed in (0, 1):
        mine = [c for c in configs(out / "final", read) if c["seed"] == seed]
        rest = [{k: v for k, v in c.items() if k not in own} for c in mine]
        assert len(mine) > 4
        assert all(each == rest[0] for each in rest)


def test_the_first_seed_looks_and_sees_where_workers_look(done, read):
    _, out = done
    looks = {}
    for path in (out / "final").glob("*/config.json"):
        config = read(path)
        rows = [r for r in read(path.parent / "metrics.jsonl") if r["kind"] == "probe"]
        # Before the first update of each epoch and before the last.
        assert [r["step"] for r in rows] == ([0, 3, 5] if config["seed"] == 0 else [])
        if rows:
            looks.setdefault(config["method"], rows)
    assert set(looks) == {"gnc", "matched", "matched-iso", "msgd", "rnc"}
    for method, rows in looks.items():
        seen = [row["offsets"] is not None for row in rows]
        # Gradient noise is there after the first step, random noise at once.
        assert seen == {"msgd": [False] * 3, "rnc": [True] * 3}.get(method, [False, True, True])
        assert all(row["gradients"]["workers"] == 4 for row in rows)


def test_a_second_start_runs_nothing_again(ask, answer, monkeypatch):
    rows = answer(ask())

    def never(*arguments):
        raise AssertionError("a finished run was started again")

    monkeypatch.setattr(pool, "train", never)
    assert answer(ask()) == rows


def test_interrupted_it_goes_on_where_it_stopped(ask, answer, tmp_path, read, monkeypatch):
    whole = answer(ask(), "whole")
    real, started = pool.train, []

    def ends(config, out, data_dir):
        if len(started) == 11:
            raise KeyboardInterrupt
        started.append(out.name)
        return real(config, out, data_dir)

    monkeypatch.setattr(pool, "train", ends)
    with pytest.raises(KeyboardInterrupt):
        answer(ask())
    assert not (tmp_path / "out" / "results.json").exists()
    again = []

    def counts(config, out, data_dir):
        again.append(out.name)
        return real(config, out, data_dir)

    monkeypatch.setattr(pool, "train", counts)
    rows = answer(ask())
    assert not set(again) & set(started)
    without = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    assert without == [{k: v for k, v in row.items() if k != "seconds"} for row in whole]
    for name in ("power.json", "choices.json", "ablate.json"):
        assert read(tmp_path / "out" / name) == read(tmp_path / "whole" / name)


def test_test_examples_choose_nothing(ask, answer, tmp_path, read, monkeypatch):
    answer(ask(), "honest")
    monkeypatch.setenv("TINY_FLIPPED", "1")  # every test label is wrong
    load_task.cache_clear()
    answer(ask(), "flipped")
    there, flipped = (tmp_path / name for name in ("honest", "flipped"))
    for name in ("choices.json", "power.json"):
        assert read(there / name) == read(flipped / name)
    for a, b in zip(read(there / "results.json"), read(flipped / "results.json"), strict=True):
        assert a["value"] + b["value"] == pytest.approx(100)


def test_a_folder_of_something_else_is_refused(ask, answer, tmp_path):
    answer(ask())
    with pytest.raises(InputError, match=r"another ablation \(detect None there, 3.0 asked\)"):
        answer(ask(detect=3.0))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "compare.json").write_text("{}")
    with pytest.raises(InputError, match="holds a comparison"):
        answer(ask(), "other")


def test_an_arm_takes_the_rate_and_alpha_of_what_it_is_tuned_as(ask):
    asked = ask()
    course = _Course(asked, Setting.of(asked.question, None))
    trials = {"gnc": Trial(0.4, 0.1), "rnc": Trial(0.3, 0.2), "msgd": Trial(0.2, None),
              "matched": Trial(0.1, 0.3)}  # fmt: skip
    settings = {}
    for arm in GNC.arms:
        run = course.config(arm, trials, 0, "test")
        settings[arm.arm] = (run.method, run.lr, run.alpha)
    assert settings == {
        "gnc": ("gnc", 0.4, 0.1),
        "matched": ("matched", 0.4, 0.1),
        "matched-iso": ("matched-iso", 0.4, 0.1),
        "same-rate": ("msgd", 0.4, None),
        "none": ("msgd", 0.2, None),
        "rnc": ("rnc", 0.3, 0.2),
        "matched-own": ("matched", 0.1, 0.3),
    }
