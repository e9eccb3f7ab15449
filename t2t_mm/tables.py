"""Tables of examples: CSV, TSV and JSON-lines files, compressed or not.

A `Source` (see `sources`); every fault is named with file, row and column.
"""

import csv
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from t2t_mm.sources import (
    PICTURE_ENDINGS,
    SOUND_ENDINGS,
    Row,
    Source,
    column_of,
    faults_named,
    opened,
    paths_of,
    present,
)

_MAX_CELL = 1 << 26


class Table(Source):
    """CSV, TSV or JSON-lines files, told apart by their endings; .gz goes, too.

    Args:
      splits: a path or several, with * and ?, of all rows or by split.
      columns: names of the columns of CSV and TSV files without a header.
      delimiter: between cells; by default a comma in CSV and a tab in TSV files.
      file_columns: columns that name picture or sound files.
      folder: where those files lie; by default beside the table.
      refuse_ragged: stop at a row with too few or too many cells; otherwise its values
        are None, which mm-datagen drops and counts.
      held_out, key: as `Source`.

    Example:
      >>> import tempfile
      >>> path = os.path.join(tempfile.mkdtemp(), "pairs.tsv")
      >>> with open(path, "w") as file:
      ...     _ = file.write("english\\tgerman\\nbee\\tBiene\\n")
      >>> table = Table({"train": path})
      >>> [row.values for row in table.rows("train", "", path)]
      [{'english': 'bee', 'german': 'Biene'}]
    """

    def __init__(
        self,
        splits: Any,
        *,
        columns: Sequence[str] = (),
        delimiter: str = "",
        file_columns: Sequence[str] = (),
        folder: str = "",
        refuse_ragged: bool = True,
        **options: Any,
    ):
        super().__init__(splits, **options)
        self.columns = tuple(columns)
        self.delimiter = delimiter
        self.file_columns = tuple(file_columns)
        self.folder = os.path.expanduser(folder)
        self.refuse_ragged = refuse_ragged

    def files(self):
        """Gives the tables."""
        return present(self.contents)

    def parts_of(self, content, tmp_dir):
        """Gives the files."""
        return paths_of(content)

    def rows_of(self, part, tmp_dir):
        """Yields the rows of a file; file names become paths."""
        folder = self.folder or os.path.dirname(part)
        for row in self._table_rows(part):
            if self.file_columns:
                paths = {
                    column: _file_of(row, column, folder)
                    for column in self.file_columns
                }
                row = Row(row.place, {**row.values, **paths})
            yield row

    def _table_rows(self, part: str) -> Iterator[Row]:
        ending = os.path.splitext(part.removesuffix(".gz"))[1].lower()
        readers = {".csv": ",", ".tsv": "\t", ".jsonl": None, ".json": None}
        if ending not in readers:
            raise ValueError(
                f"{part} ends in '{ending}'; a table of .csv, .tsv or .jsonl was "
                "expected, perhaps with .gz behind. Rename or convert it."
            )
        with faults_named(part), opened(part) as file:
            delimiter = readers[ending]
            if delimiter is None:
                yield from _json_rows(file, part)
            else:
                mark = self.delimiter or delimiter
                yield from _delimited_rows(
                    file, part, mark, self.columns, self.refuse_ragged
                )


def _fault_of(cells: Sequence[str], header: Sequence[str]) -> str:
    """Gives what is wrong with a row that has too few or too many cells."""
    if len(cells) < len(header):
        where = f"column '{header[len(cells)]}' is missing"
    else:
        extra = repr(cells[len(header)])
        where = f"a cell after column '{header[-1]}', {extra:.40}, is too many"
    return (
        f"{where}; it has {len(cells)} cells, {len(header)} were expected "
        f"({', '.join(header)})"
    )


def _file_of(row: Row, column: str, folder: str) -> str | None:
    """Gives the path of the file that a row names, its ending left out or not."""
    if column_of(row, column) is None:  # of a ragged row that is to be dropped
        return None
    name = str(column_of(row, column))
    path = os.path.join(folder, os.path.expanduser(name))
    for ending in ("", *SOUND_ENDINGS, *PICTURE_ENDINGS):
        if name and os.path.isfile(path + ending):
            return path + ending
    raise FileNotFoundError(
        f"{row.place}, column '{column}': {path} is not there; a picture or sound file "
        "was expected. Correct the row, or say where the files lie: files = ..."
    )


def _delimited_rows(
    file: TextIO,
    path: str,
    delimiter: str,
    columns: Sequence[str],
    refuse_ragged: bool,
) -> Iterator[Row]:
    csv.field_size_limit(_MAX_CELL)
    # Between tabs or bars a quote is an ordinary mark.
    quoting: Any = csv.QUOTE_MINIMAL if delimiter in ",;" else csv.QUOTE_NONE
    reader = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)
    header: Sequence[str] = columns
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"{path}, row {number}: {error}; one row of cells was expected. "
                "Correct the quotes."
            ) from error
        if cells is None and not header:
            raise ValueError(
                f"{path} is empty; a row of column names and rows of cells were "
                "expected. Check the file."
            )
        if cells is None:
            return
        if not cells:
            continue
        if not header:
            header = cells
            continue
        if len(cells) != len(header):
            if refuse_ragged:
                fault = _fault_of(cells, header)
                raise ValueError(f"{path}, row {number}: {fault}. Correct the row.")
            yield Row(f"{path}, row {number}", dict.fromkeys(header))
            continue
        yield Row(f"{path}, row {number}", dict(zip(header, cells, strict=True)))


def _json_rows(file: TextIO, path: str) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line.rstrip("\r\n"))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, row {number}, column {error.colno}: {error.msg}; one JSON "
                "object a line was expected. Correct the line."
            ) from error
        if not isinstance(values, dict):
            raise ValueError(
                f"{path}, row {number}: {str(values)[:40]!r} came; a JSON object "
                'such as {"inputs": "a", "targets": "b"} was expected. '
                "Correct the line."
            )
        yield Row(f"{path}, row {number}", values)
