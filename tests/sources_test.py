import collections

import pytest
from fake_datasets import png
from numpy import zeros

from t2t_mm import sources
from t2t_mm.sources import ParallelText, PictureFolder, Row
from t2t_mm.tables import Table


def all_rows(source, split):
    return [
        row for part in source.parts(split, "") for row in source.rows(split, "", part)
    ]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "t.csv"
    lines = [f"{number},word {number % 97}" for number in range(1000)]
    path.write_text("number,word\n" + "\n".join(lines))
    return str(path)


def test_every_row_is_in_one_split_by_its_key(table):
    source = Table(table, held_out={"dev": 0.2, "test": 0.1}, key="word")
    assert source.split_names == ("train", "dev", "test")
    words = {
        s: {r.values["word"] for r in all_rows(source, s)} for s in source.split_names
    }
    assert sum(map(len, words.values())) == 97
    assert len(set.union(*words.values())) == 97
    numbers = [r.values["number"] for s in words for r in all_rows(source, s)]
    assert sorted(numbers, key=int) == [str(number) for number in range(1000)]


def test_the_shares_are_kept(table):
    source = Table(table, held_out={"dev": 0.2, "test": 0.1}, key="number")
    sizes = collections.Counter({s: len(all_rows(source, s)) for s in ("dev", "test")})
    assert 150 < sizes["dev"] < 250
    assert 60 < sizes["test"] < 140


def test_the_split_of_a_row_does_not_depend_on_other_rows(table, tmp_path):
    source = Table(table, held_out={"dev": 0.2}, key="number")
    held_out = {r.values["number"] for r in all_rows(source, "dev")}
    other = tmp_path / "u.csv"
    other.write_text("number,word\n7,x\n8,y\n5,z\n")
    shorter = Table(str(other), held_out={"dev": 0.2}, key="number")
    found = {r.values["number"] for r in all_rows(shorter, "dev")}
    assert found == held_out & {"5", "7", "8"}


def test_a_missing_key_column_is_named_with_its_row(table):
    source = Table(table, key="wort")
    message = r"t.csv, row 2: there is no column 'wort'; it has number, word"
    with pytest.raises(ValueError, match=message):
        all_rows(source, "train")


@pytest.mark.parametrize("shares", [{"dev": 0.5, "test": 0.5}, {"dev": 0.0}])
def test_shares_that_are_none_are_refused(shares, table):
    with pytest.raises(ValueError, match="expected shares above 0"):
        Table(table, held_out=shares)


def test_named_splits_are_not_dealt_out_as_well(table):
    with pytest.raises(ValueError, match="held_out came beside the splits"):
        Table({"train": table}, held_out={"dev": 0.1})
    with pytest.raises(ValueError, match="Split 'dev' came; this source has train"):
        Table({"train": table}).parts("dev", "")


def test_a_pattern_that_matches_nothing_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="Check the path"):
        sources.paths_of(str(tmp_path / "*.csv"))


def test_nested_columns_are_reached():
    row = Row("here", {"a": {"b": 3}, "c": [{"d": "x"}, {"d": "y"}], "e/f": 5})
    assert sources.column_of(row, "a.b") == 3
    assert sources.column_of(row, "c/d") == ["x", "y"]
    assert sources.column_of(row, "e/f") == 5


def test_parallel_lines_belong_together(tmp_path):
    (tmp_path / "a").write_text("one\ntwo\r\n\nfour")
    (tmp_path / "b").write_text("eins\nzwei\n\nvier\n")
    source = ParallelText({"train": [str(tmp_path / "a"), str(tmp_path / "b")]})
    pairs = [tuple(row.values.values()) for row in all_rows(source, "train")]
    assert pairs == [("one", "eins"), ("two", "zwei"), ("", ""), ("four", "vier")]


def test_parallel_files_of_unequal_length_are_refused(tmp_path):
    (tmp_path / "a").write_text("one\ntwo\nthree\n")
    (tmp_path / "b").write_text("eins\nzwei\n")
    source = ParallelText({"train": [str(tmp_path / "a"), str(tmp_path / "b")]})
    with pytest.raises(ValueError, match=r"b ends before row 3, which .*a has"):
        all_rows(source, "train")
    with pytest.raises(ValueError, match="two paths were expected"):
        ParallelText({"train": [str(tmp_path / "a")]}).parts("train", "")


def test_a_parallel_line_that_is_no_utf_8_is_named(tmp_path):
    paths = [tmp_path / "a.en", tmp_path / "a.de"]
    paths[0].write_text("one\ntwo\n")
    paths[1].write_bytes("eins\nzwölf\n".encode("latin-1"))
    text = ParallelText({"train": [str(path) for path in paths]})
    with pytest.raises(ValueError, match=r"a.de, row 2, is no UTF-8 text"):
        all_rows(text, "train")


def test_folders_are_classes(tmp_path):
    for label, number in (("cat", 2), ("dog", 1)):
        (tmp_path / label).mkdir()
        for i in range(number):
            (tmp_path / label / f"{i}.png").write_bytes(png(zeros((2, 3), "uint8")))
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    source = PictureFolder({"train": str(tmp_path)})
    found = [(r.values["path"], r.values["targets"]) for r in all_rows(source, "train")]
    assert found == [("cat/0.png", "cat"), ("cat/1.png", "cat"), ("dog/0.png", "dog")]
    (tmp_path / "emu").mkdir()
    with pytest.raises(ValueError, match=r"emu holds no pictures; files that end in"):
        all_rows(source, "train")


def test_a_folder_without_folders_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not there; a folder with"):
        PictureFolder("nowhere").class_names("nowhere")
    with pytest.raises(ValueError, match="a folder for each class was expected"):
        PictureFolder({"train": str(tmp_path)}).parts("train", "")
