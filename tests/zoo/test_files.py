"""Files that are whole or not there."""

import errno
import fcntl
import os

import pytest

from zoo import files
from zoo.errors import UsageError
from zoo.files import make_folder, read_yaml, reserve, write_atomically, write_text


def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path):
    path = tmp_path / "record.json"
    left = [tmp_path / f".record.json.{number}" for number in (1, 99999)]
    for each in [*left, tmp_path / ".record.json.bak", tmp_path / ".other.json.1"]:
        each.write_text("a part")
    with open(left[0]) as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # as if its writer were at work
        write_text(path, "whole")
    names = {each.name for each in tmp_path.iterdir()}
    assert names == {"record.json", ".record.json.1", ".record.json.bak", ".other.json.1"}
    write_text(path, "whole")
    assert not left[0].exists() and path.read_text() == "whole"


def test_a_writer_whose_temporary_file_is_swept_up_writes_again(tmp_path):
    path, tries = tmp_path / "record.json", []

    def write(file):
        tries.append(file.write(b"whole"))
        if len(tries) == 1:
            (temporary,) = tmp_path.iterdir()
            temporary.unlink()

    write_atomically(path, write)
    assert path.read_bytes() == b"whole" and len(tries) == 2
    assert os.listdir(tmp_path) == ["record.json"]


def test_a_folder_that_was_removed_is_made_again(tmp_path, capsys):
    write_text(tmp_path / "results" / "record.json", "whole")
    assert (tmp_path / "results" / "record.json").read_text() == "whole"
    said = capsys.readouterr().err
    assert said == f"{tmp_path / 'results'} does not exist (any more); it is made\n"


def test_a_full_disk_leaves_the_old_file_and_is_named(tmp_path):
    path = tmp_path / "record.json"
    write_text(path, "old")

    def write(file):
        file.write(b"a part")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left on device") as error:
        write_atomically(path, write)
    assert error.value.filename == str(path) and error.value.errno == errno.ENOSPC
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["record.json"]


def test_room_is_had_or_refused(tmp_path, monkeypatch):
    reserve(tmp_path / "room", 10_000)
    assert (tmp_path / "room").stat().st_blocks * 512 >= 10_000

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/more'"):
        reserve(tmp_path / "more", 10_000)
    assert not (tmp_path / "more").exists()


def test_a_folder_whose_name_would_be_taken_for_an_address_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"--runs .*/a::b: a name with '::'"):
        make_folder(tmp_path / "a::b", "--runs")


@pytest.mark.parametrize(
    ("content", "says"),
    [("[", "cannot be read: while"), ("a: \x00", "cannot be read"), (None, "there is no such")],
)
def test_a_bad_yaml_file_is_one_line(content, says, tmp_path):
    path = tmp_path / "a.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=f"the file: {says}") as error:
        read_yaml(path, "the file")
    assert "\n" not in str(error.value)
