import json

import pytest

from largebatch.lab.report.read import read_comparison


def first_run(folder, stage="final"):
    return sorted((folder / stage).iterdir())[0]


def test_reads_what_was_written(make):
    found = read_comparison(make(seeds=2, batches=(128, 1024)))
    assert found.large_batches == [128, 1024]
    assert found.seeds == [0, 1]
    assert len(found.final) == 2 + 2 * 2 * 8
    assert {run.status for run in found.final} == {"done"}


def test_a_torn_last_line_is_left_out_and_the_rest_kept(make):
    folder = make(seeds=1)
    path = first_run(folder) / "metrics.jsonl"
    whole = len(path.read_text().splitlines())
    with path.open("a") as file:
        file.write('{"kind": "train", "st')
    assert len(read_comparison(folder).final[0].metrics) == whole


def test_a_broken_line_in_the_middle_is_an_error_that_names_it(make):
    folder = make(seeds=1)
    path = first_run(folder) / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "{torn", *lines[1:]]))
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 2 is not valid JSON"):
        read_comparison(folder)


def test_a_run_without_result_is_unfinished(make):
    folder = make(seeds=1)
    (first_run(folder) / "result.json").unlink()
    assert read_comparison(folder).final[0].status == "unfinished"


def test_a_done_run_without_a_value_counts_as_diverged(make):
    folder = make(seeds=1)
    path = first_run(folder) / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"value": float("nan")}))
    assert read_comparison(folder).final[0].status == "diverged"


def test_stages_that_have_not_begun_are_empty(make):
    folder = make(seeds=1)
    for path in ("choices.json",):
        (folder / path).unlink()
    for stage in ("final", "tuning"):
        (folder / stage).rename(folder / f"{stage}-away")
    found = read_comparison(folder)
    assert (found.final, found.tuning, found.choices) == ((), (), ())


def test_a_folder_that_is_no_comparison(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"compare.json, which is not there: give"):
        read_comparison(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "compare.json is not valid JSON"),
        ("[]", "must hold a JSON object: it holds list"),
        ('{"task": "digits"}', "must say small_batch"),
    ],
)
def test_a_compare_json_that_is_none(tmp_path, text, message):
    (tmp_path / "compare.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_comparison(tmp_path)
