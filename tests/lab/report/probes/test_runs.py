import json

import pytest

from largebatch.lab.errors import InputError
from largebatch.lab.report.probes import write_probe_report
from largebatch.lab.report.probes.runs import read_probed

HOSTILE = '<script>alert("x")</script>\'&é\x1b[31m'
ROW = {"kind": "probe", "probe": "gradient_cosine", "step": 4, "epoch": 1.0}


def labels(folders, out):
    return [probed.label for probed in read_probed(out, folders)]


def test_a_label_says_what_tells_runs_apart_and_no_more(write, tmp_path):
    a = write(tmp_path / "a", rows=[])
    b = write(tmp_path / "b", rows=[], seed=1)
    c = write(tmp_path / "c", rows=[], method="gnc", lr=0.1)
    assert labels([a], tmp_path) == ["msgd"]
    assert labels([a, b], tmp_path) == ["msgd · seed 0", "msgd · seed 1"]
    assert labels([a, c], tmp_path) == ["msgd", "gnc"]
    assert labels([a, a], tmp_path) == ["msgd · a (1)", "msgd · a (2)"]
    same = write(tmp_path / "same", rows=[])
    assert labels([a, same], tmp_path) == ["msgd · a", "msgd · same"]


def test_further_rows_join_the_runs_own_and_stand_for_them(write, tmp_path):
    folder = write(tmp_path / "run", rows=[ROW | {"cosine": 0.1}])
    further = tmp_path / "out" / "run" / "probes.jsonl"
    further.parent.mkdir(parents=True)
    lines = [ROW | {"cosine": 0.2}, ROW | {"cosine": 0.3, "step": 8, "epoch": 2.0}]
    further.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "pro')
    (probed,) = read_probed(tmp_path / "out", [folder])
    assert [row["cosine"] for row in probed.of("gradient_cosine")] == [0.2, 0.3]


def test_two_runs_cannot_share_one_file_of_further_rows(write, tmp_path):
    runs = [write(tmp_path / a / "run", rows=[], seed=s) for s, a in enumerate("ab")]
    assert len(read_probed(tmp_path / "out", runs)) == 2
    further = tmp_path / "out" / "run" / "probes.jsonl"
    further.parent.mkdir(parents=True)
    further.write_text("")
    with pytest.raises(ValueError, match="can be of one run only, and 2 run folders are named run"):
        read_probed(tmp_path / "out", runs)


def test_what_is_missing_is_named(write, tmp_path):
    with pytest.raises(ValueError, match="at least one run folder"):
        write_probe_report(tmp_path, [], "x")
    with pytest.raises(FileNotFoundError, match=r"has a config.json, .*nowhere has none"):
        write_probe_report(tmp_path, [tmp_path / "nowhere"], "x")
    folder = write(tmp_path / "run", rows=[])
    text = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text("{broken\n" + text)
    with pytest.raises(InputError, match=r"metrics.jsonl, line 1 is not valid JSON"):
        write_probe_report(tmp_path, [folder], "x")
    assert not (tmp_path / "report.html").exists()


def test_hostile_names_are_text_everywhere(write, every_row, tmp_path):
    layers = [HOSTILE, f"{HOSTILE}2"]
    rows = [*every_row(layers=layers, places=[1, 2]), ROW | {"probe": HOSTILE, "what": HOSTILE}]
    folder = write(tmp_path / "run", method=HOSTILE, rows=rows, task=HOSTILE, split=HOSTILE)
    html = write_probe_report(tmp_path / "out", [folder], f"largebatch probe {HOSTILE}").read_text()
    assert html.count("<script") == 1  # our own
    assert html.count("&lt;script&gt;alert(") > 50
    assert "http" not in html.replace("http-equiv", "")


def test_the_page_says_what_was_asked_and_how_to_make_it_again(write, tmp_path):
    folder = write(tmp_path / "run", method="sngm+gnc", batch_size=2048, every=10)
    out = tmp_path / "out"
    html = write_probe_report(out, [folder], "largebatch probe run --out out").read_text()
    for words in ("sngm+gnc", "2,048", "91.5", "largebatch probe run --out out", "run/config.json"):
        assert words in html
    first = html
    (folder / "result.json").unlink()
    html = write_probe_report(out, [folder], "largebatch probe run --out out").read_text()
    assert html != first
    assert "<td>unfinished</td>" in html
