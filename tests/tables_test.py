import gzip

import pytest

from t2t_mm import sources
from t2t_mm.tables import Table


def rows(path, **options):
    table = Table({"train": str(path)}, **options)
    return [
        row
        for part in table.parts("train", "")
        for row in table.rows("train", "", part)
    ]


def written(folder, name, text, encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


EXPECTED = [{"a": "1", "b": "zwei, Käse"}, {"a": "3", "b": 'vier "4"'}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", 'a,b\n1,"zwei, Käse"\n3,"vier ""4"""\n'),
        ("t.tsv", 'a\tb\r\n1\tzwei, Käse\r\n\r\n3\tvier "4"\r\n'),
        ("t.jsonl", '{"a":"1","b":"zwei, Käse"}\n\n{"a":"3","b":"vier \\"4\\""}\n'),
    ],
)
def test_every_format_gives_the_same_rows_compressed_or_not(name, text, tmp_path):
    path = written(tmp_path, name, text)
    assert [row.values for row in rows(path)] == EXPECTED
    with gzip.open(tmp_path / (name + ".gz"), "wb") as file:
        file.write(text.encode())
    assert [row.values for row in rows(tmp_path / (name + ".gz"))] == EXPECTED


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = written(tmp_path, "t.csv", "\ufeffa,b\n1,2\n")
    assert rows(path)[0].values == {"a": "1", "b": "2"}
    packed = tmp_path / "u.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert rows(packed)[0].values == {"a": "1", "b": "2"}


def test_columns_may_be_named_outside(tmp_path):
    path = written(tmp_path, "t.tsv", "bee\tBiene\n")
    [row] = rows(path, columns=("en", "de"))
    assert row.values == {"en": "bee", "de": "Biene"}
    path = written(tmp_path, "t.csv", "LJ1|with, comma\n")
    [row] = rows(path, columns=("file", "text"), delimiter="|")
    assert row.values == {"file": "LJ1", "text": "with, comma"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "a,b\n1,2\n3\n", r"t.csv, row 3: column 'b' is missing; it has 1"),
        ("t.csv", "a,b\n1,2,3\n", r"t.csv, row 2: a cell after column 'b'.* too many"),
        ("t.csv", 'a,b\n1,"2\n', r"t.csv, row \d: .*quotes"),
        ("t.jsonl", '{"a": 1}\n{"a": \n', r"t.jsonl, row 2, column 7: Expecting"),
        ("t.jsonl", "[1, 2]\n", r"t.jsonl, row 1: '\[1, 2\]' came; a JSON object"),
        ("t.xls", "a", r"ends in '.xls'; a table of .csv, .tsv or .jsonl"),
    ],
)
def test_faults_name_file_row_and_column(name, text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        rows(written(tmp_path, name, text))


def test_text_that_is_no_utf_8_is_refused(tmp_path):
    path = written(tmp_path, "t.csv", "a,b\n1,Käse\n", "latin-1")
    with pytest.raises(ValueError, match=r"t.csv, row 2, is no UTF-8 text.*iconv"):
        rows(path)


def test_a_table_without_anything_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"t.csv is empty; a row of column names"):
        rows(written(tmp_path, "t.csv", ""))


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"a,b\n1,2\n" * 1000)[:-9]],
    ids=["none", "ends early"],
)
def test_a_gzip_file_that_is_none_or_ends_early_is_refused(content, tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"t.csv.gz is no whole gzip file"):
        rows(path)


@pytest.mark.parametrize(
    "line", [b"1,2\n", b"0", b"\xff"], ids=["rows", "line", "bytes"]
)
def test_a_gzip_file_that_unpacks_without_end_is_refused(line, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "ALWAYS_UNPACKED", 1 << 20)
    path = tmp_path / "t.csv.gz"
    content = gzip.compress(b"a,b\n" + line * (1 << 22))
    path.write_bytes(content)
    most = max(100 * len(content), 1 << 20)
    with pytest.raises(
        ValueError, match=rf"t.csv.gz has {len(content)} .*than {most};"
    ):
        rows(path)
    path.with_suffix("").write_bytes(b"a,b\n" + b"1,2\n" * (1 << 18))
    assert len(rows(path.with_suffix(""))) == 1 << 18


def test_text_as_people_write_it_is_far_from_the_bound_on_unpacking(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sources, "ALWAYS_UNPACKED", 0)
    path = tmp_path / "t.csv.gz"
    lines = [f"a row of words and {number},its answer" for number in range(10_000)]
    path.write_bytes(gzip.compress("\n".join(["a,b", *lines]).encode()))
    assert len(rows(path)) == 10_000


def test_files_are_found_beside_the_table_or_in_a_folder(tmp_path):
    (tmp_path / "wavs").mkdir()
    (tmp_path / "wavs" / "one.wav").write_bytes(b"RIFF")
    table = written(tmp_path, "t.csv", "file,text\nwavs/one.wav,eins\n")
    [row] = rows(table, file_columns=("file",))
    assert row.values["file"] == str(tmp_path / "wavs" / "one.wav")
    table = written(tmp_path, "u.csv", "file,text\none,eins\n")
    [row] = rows(table, file_columns=("file",), folder=str(tmp_path / "wavs"))
    assert row.values["file"] == str(tmp_path / "wavs" / "one.wav")
    with pytest.raises(FileNotFoundError, match=r"u.csv, row 2, column 'file': .*one"):
        rows(table, file_columns=("file",))
