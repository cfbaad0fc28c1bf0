import json
import math
import os

import pytest

from largebatch.lab.errors import InputError
from largebatch.lab.records import RunFolder, finite, read_json, read_result, write_json


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "deep" / "run")
    made.start({"lr": 1}, {}, 0)
    for step in (1, 2, 3):
        made.write("train", step=step, loss=1 / step)
    return made


def test_a_crash_at_any_byte_loses_the_last_line_and_no_more(folder):
    whole = folder.metrics.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(last, len(whole) + 1):
        folder.metrics.write_bytes(whole[:end])
        steps = [row["step"] for row in folder.rows()]
        # The line is whole without its newline.
        assert steps == ([1, 2, 3] if end >= len(whole) - 1 else [1, 2])


def test_going_on_after_a_crash_leaves_whole_lines_once(folder):
    with folder.metrics.open("a") as file:
        file.write('{"kind": "train", "st')
    folder.start({"lr": 1}, {}, 2)
    folder.write("train", step=3, loss=0.0)
    lines = folder.metrics.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


def test_starting_anew_drops_what_was_measured(folder):
    folder.start({"lr": 1}, {}, 0)
    assert folder.rows() == []


def test_not_a_number_is_null(folder):
    folder.write("train", step=4, loss=math.nan, lr=math.inf)
    assert folder.rows()[-1] == {"kind": "train", "step": 4, "loss": None, "lr": None}
    assert finite({"a": [1.0, -math.inf, (math.nan, "x")]}) == {"a": [1.0, None, [None, "x"]]}


def test_json_is_old_or_new_but_never_half(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"value": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"value": 2})
    assert read_json(path) == {"value": 1}


def test_a_write_that_fails_half_way_loses_nothing_written(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"value": 1})
    with pytest.raises(TypeError):
        write_json(path, {"fine": 1, "broken": object()})
    assert read_json(path) == {"value": 1}


def test_damaged_json_is_named(tmp_path):
    path = tmp_path / "a.json"
    for damage in (b'{"a"', b"", b"\xff\xfe"):
        path.write_bytes(damage)
        with pytest.raises(
            InputError, match=r"a\.json is not valid JSON .*: delete it, and what wrote"
        ):
            read_json(path)


def test_only_the_last_line_may_be_torn(folder):
    with folder.metrics.open("a") as file:
        file.write('{"kind": "tr\n{"kind": "train"}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 4 is not valid JSON .*: repeat"):
        folder.rows()


def test_without_a_result_a_run_has_not_ended(folder):
    assert folder.result({"lr": 1}) is None
    assert read_result(folder.path) is None
    folder.finish({"status": "done", "value": math.nan})
    assert folder.result({"lr": 1}) == read_result(folder.path) == {"status": "done", "value": None}


def test_another_configuration_is_refused_whether_its_run_has_ended_or_not(folder):
    for _ in range(2):
        with pytest.raises(InputError, match=r"holds another run \(differs in lr, alpha\): choose"):
            folder.result({"lr": 2, "alpha": None})
        folder.finish({"status": "done"})
