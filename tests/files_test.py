"""Files are whole or not there."""

import errno
import hashlib
import os

import pytest

from t2t_mm import files


def test_a_file_is_written_under_its_name_and_nothing_else_stays(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    files.write_atomically(str(path), b"whole")
    assert path.read_bytes() == b"whole"
    assert os.listdir(path.parent) == ["file.txt"]


def test_an_error_while_writing_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="No space left"):
        with files.written_aside(str(path)) as temporary:
            with open(temporary, "wb") as file:
                file.write(b"ha")
            raise OSError(errno.ENOSPC, "No space left on device", temporary)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_the_temporary_file_lies_beside_the_final_one(tmp_path):
    with files.written_aside(str(tmp_path / "file.txt")) as temporary:
        assert os.path.dirname(temporary) == str(tmp_path)
        assert os.path.basename(temporary).startswith(".file.txt.")
        with open(temporary, "wb"):
            pass
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_file_in_the_way_of_its_folder_is_an_os_error(tmp_path):
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(OSError):
        files.write_atomically(str(tmp_path / "taken" / "file.txt"), b"x")


def test_sha256_is_that_of_the_content(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"abc" * 1000)
    assert files.sha256_of(str(path)) == hashlib.sha256(b"abc" * 1000).hexdigest()


def test_a_place_where_the_result_can_be_put_is_taken(tmp_path):
    (tmp_path / "file").write_text("old")
    files.check_place(str(tmp_path / "file"), "--out")
    files.check_place(str(tmp_path / "new" / "deep" / "file"), "--out")
    files.check_place(str(tmp_path), "--out", is_folder=True)
    files.check_place("here", "--out")


@pytest.mark.parametrize(
    ("name", "is_folder", "message"),
    [
        ("", False, "is a folder; expected a place for a file"),
        ("file", True, "is a file; expected a place for a folder"),
        ("file/x", False, "file is no folder; expected a place in one"),
        ("file/x/y", True, "file is no folder; expected a place in one"),
    ],
)
def test_another_place_is_refused_before_the_work(tmp_path, name, is_folder, message):
    (tmp_path / "file").write_text("old")
    with pytest.raises(OSError, match=f"--out=.*{message}"):
        files.check_place(str(tmp_path / name), "--out", is_folder=is_folder)


def test_a_folder_of_others_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="you may not write into .*; expected"):
        files.check_place(str(tmp_path / "new" / "x"), "--out")


def test_a_flag_that_names_no_file_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="--in=.* is not a file; expected one"):
        files.check_lines(str(tmp_path), "--in")
