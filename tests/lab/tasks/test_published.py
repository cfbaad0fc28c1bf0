"""Bugs that turn these red: checksums not compared, half a file left behind, files overwritten."""

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from largebatch.lab.tasks import TaskError
from largebatch.lab.tasks.published import Archive, File, data_folder, ensure, read


def md5(content):
    return hashlib.md5(content).hexdigest()


def published(path, content):
    return File(path, len(content), (md5(content),))


def everything_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def server(tmp_path):
    """A folder that stands for the web, as file: addresses, with one tar and one gz in it."""
    web = tmp_path / "web"
    web.mkdir()
    with tarfile.open(web / "set.tar.gz", "w:gz") as tar:
        for name, content in (("set/a", b"aaaa"), ("set/b", b"bbb"), ("../evil", b"!")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    (web / "one.gz").write_bytes(gzip.compress(b"one file"))
    return web


def archives(web, **changes):
    tar = (web / "set.tar.gz").read_bytes()
    one = (web / "one.gz").read_bytes()
    files = published("set/a", b"aaaa"), published("set/b", b"bbb")
    set_ = {"path": "set.tar.gz", "md5": md5(tar), "files": files}
    set_ |= {"urls": ((web / "set.tar.gz").as_uri(),)} | changes
    one_ = Archive(
        "x/one.gz", md5(one), ((web / "one.gz").as_uri(),), (published("x/one", b"one file"),)
    )
    return [Archive(**set_), one_]


def test_folder_is_the_argument_then_the_environment_then_the_cache(monkeypatch):
    monkeypatch.setenv("LARGEBATCH_DATA", "/from/environment")
    assert data_folder(Path("given")) == Path("given")
    assert data_folder(None) == Path("/from/environment")
    for unset in ("", None):
        monkeypatch.setenv("LARGEBATCH_DATA", "") if unset == "" else monkeypatch.delenv(
            "LARGEBATCH_DATA"
        )
        assert data_folder(None) == Path.home() / ".cache" / "largebatch"


def test_what_is_missing_is_downloaded_checked_and_unpacked(server, tmp_path, capsys):
    folder = tmp_path / "new" / "data"
    both = archives(server)
    ensure(folder, both)
    assert everything_in(folder) == ["set.tar.gz", "set/a", "set/b", "x/one", "x/one.gz"]
    assert [read(folder, f) for a in both for f in a.files] == [b"aaaa", b"bbb", b"one file"]
    assert not (tmp_path / "new" / "evil").exists()
    assert "downloading file:" in capsys.readouterr().err


def test_what_is_there_is_left_alone_and_nothing_is_fetched(server, tmp_path, capsys):
    both = archives(server)
    ensure(tmp_path / "data", both)
    capsys.readouterr()
    (tmp_path / "data" / "set" / "a").write_bytes(b"mine")
    (tmp_path / "data" / "set" / "b").unlink()
    for gone in server.iterdir():
        gone.unlink()
    ensure(tmp_path / "data", both)  # b comes back from the archive that is there
    assert (tmp_path / "data" / "set" / "a").read_bytes() == b"mine"
    assert read(tmp_path / "data", both[0].files[1]) == b"bbb"
    assert capsys.readouterr().err == ""


def test_the_second_mirror_serves_where_the_first_does_not(server, tmp_path):
    urls = ((server / "absent").as_uri(), (server / "set.tar.gz").as_uri())
    ensure(tmp_path / "data", archives(server, urls=urls))
    assert (tmp_path / "data" / "set" / "a").exists()


def test_without_a_network_the_error_says_what_to_do(server, tmp_path):
    urls = ("http://127.0.0.1:9/set.tar.gz",)  # nobody listens at the discard port
    message = (
        rf"set/a is not in {tmp_path / 'data'} and could not be downloaded "
        r"\(http://127.0.0.1:9/set.tar.gz: .*\): put torchvision's files there, or name a folder "
        r"that has them \(--data-dir, or LARGEBATCH_DATA\)"
    )
    with pytest.raises(TaskError, match=message):
        ensure(tmp_path / "data", archives(server, urls=urls))
    assert everything_in(tmp_path / "data") == []


def test_an_archive_that_is_not_the_published_one_is_not_kept(server, tmp_path):
    with pytest.raises(TaskError, match=f"what came has MD5 .*, must have {'0' * 32}"):
        ensure(tmp_path / "data", archives(server, md5="0" * 32))
    assert everything_in(tmp_path / "data") == []


def test_a_damaged_archive_in_the_folder_is_replaced_or_named(server, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "set.tar.gz").write_bytes(b"half")
    with pytest.raises(TaskError, match=f"set.tar.gz has MD5 {md5(b'half')}, must have"):
        ensure(folder, archives(server, urls=((server / "absent").as_uri(),)))
    ensure(folder, archives(server))
    assert (folder / "set" / "a").read_bytes() == b"aaaa"


def test_an_archive_without_the_file_says_so(server, tmp_path):
    wanted = (published("set/c", b"c"),)
    with pytest.raises(TaskError, match=r"set/c is not in .* 'set/c' not found"):
        ensure(tmp_path / "data", archives(server, files=wanted))


def test_a_folder_that_cannot_be_made_is_a_task_error(server, tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(TaskError, match="could not be downloaded"):
        ensure(tmp_path / "data", archives(server))


def test_a_truncated_file_is_refused_with_both_sizes(tmp_path):
    (tmp_path / "f").write_bytes(b"12345")
    with pytest.raises(TaskError, match=rf"{tmp_path / 'f'} has 5 bytes, must have 6: delete it"):
        read(tmp_path, published("f", b"123456"))


def test_a_flipped_bit_is_refused_with_both_md5s(tmp_path):
    good = bytes(range(100))
    bad = bytearray(good)
    bad[50] ^= 1
    (tmp_path / "f").write_bytes(bad)
    message = f"f has MD5 {md5(bad)}, must have {md5(good)}: delete it"
    with pytest.raises(TaskError, match=message):
        read(tmp_path, published("f", good))


def test_any_of_the_accepted_md5s_will_do(tmp_path):
    (tmp_path / "f").write_bytes(b"other order")
    file = File("f", 11, (md5(b"order other"), md5(b"other order")))
    assert read(tmp_path, file) == b"other order"
