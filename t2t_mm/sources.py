"""Where examples lie in files: tables, parallel texts, folders of pictures and sounds.

A source yields rows, each a mapping of columns with the place it came from, so that
a fault names file, row and column. The problem kinds read them; `declarations` makes
them from a few lines of TOML. Data sets of other libraries: `dataset_sources`.
No TensorFlow.
"""

import contextlib
import glob
import gzip
import hashlib
import io
import itertools
import json
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple, TextIO

ALL = "all"  # files that no split claims: rows are dealt out by their key
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")
# What a compressed text may unpack to, times its size; text comes to 3 to 30 times.
MOST_UNPACKED, ALWAYS_UNPACKED = 100, 1 << 26
SOUND_ENDINGS = (".wav", ".flac", ".mp3", ".ogg", ".sph", ".wv1")


class Row(NamedTuple):
    """One example as its source has it.

    Attributes:
      place: "pairs.tsv, row 17".
      values: by column.
    """

    place: str
    values: Mapping[str, Any]


def fraction_of(key: str) -> float:
    """Gives a number in [0, 1), evenly spread over keys, the same on every machine."""
    digest = hashlib.blake2b(key.encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


class Source(ABC):
    """Rows of splits, in parts that can be read apart.

    Args:
      splits: what holds each split, by its name; or under "all" what holds all rows,
        which are then dealt out by the hash of a column.
      held_out: share of rows by split, {"dev": 0.05, "test": 0.05}; the rest trains.
        Only with "all".
      key: the column that is hashed; rows with equal values are in one split. Empty
        means whatever `key_column` says.

    Raises:
      ValueError: if shares are no shares, or there is neither split nor "all".
    """

    key_column = ""

    def __init__(
        self,
        splits: Any,
        *,
        held_out: Mapping[str, float] | None = None,
        key: str = "",
    ):
        self.contents = splits if isinstance(splits, Mapping) else {ALL: splits}
        default = {"dev": 0.05, "test": 0.05} if ALL in self.contents else {}
        self.held_out = dict(default if held_out is None else held_out)
        self.key = key or self.key_column
        if ALL in self.contents and len(self.contents) > 1:
            raise ValueError(
                f"Splits {', '.join(self.contents)} came; expected either "
                f"'{ALL}', dealt out by held_out, or splits by name. Leave out one."
            )
        if ALL not in self.contents and held_out:
            raise ValueError(
                f"held_out came beside the splits {', '.join(self.contents)}; "
                "expected it only where one source holds all rows. Leave it out."
            )
        shares = list(self.held_out.values())
        if not all(0 < share < 1 for share in shares) or sum(shares) >= 1:
            raise ValueError(
                f"held_out is {self.held_out}; expected shares above 0 that sum to "
                "less than 1. Write held_out = {dev = 0.05, test = 0.05}."
            )

    @property
    def split_names(self) -> tuple[str, ...]:
        """The splits that rows go to: train first, then dev, then the others."""
        names = set(self.contents) - {ALL} | set(self.held_out)
        if ALL in self.contents:
            names.add("train")
        order = {"train": 0, "dev": 1, "test": 2}
        return tuple(sorted(names, key=lambda name: (order.get(name, 3), name)))

    def split_of(self, key: str) -> str:
        """Gives the split of a row by its key: shares of held_out, from 0 up."""
        point, edge = fraction_of("row:" + key), 0.0
        for name, share in sorted(self.held_out.items()):
            edge += share
            if point < edge:
                return name
        return "train"

    def parts(self, split: str, tmp_dir: str) -> list[str]:
        """Gives names of the parts of a split, for `rows`."""
        return self.parts_of(self._content(split), tmp_dir)

    def rows(self, split: str, tmp_dir: str, part: str) -> Iterator[Row]:
        """Yields the rows of one part that belong to a split."""
        found = self.rows_of(part, tmp_dir)
        if ALL not in self.contents:
            yield from found
            return
        for row in found:
            if self.split_of(self._key_of(row)) == split:
                yield row

    def _content(self, split: str) -> Any:
        if split not in self.contents and ALL not in self.contents:
            raise ValueError(
                f"Split '{split}' came; this source has {', '.join(self.contents)}. "
                "Add the split, or name one of them."
            )
        return self.contents.get(split, self.contents.get(ALL))

    def _key_of(self, row: Row) -> str:
        if not self.key:
            return json.dumps(
                {name: str(value) for name, value in row.values.items()}, sort_keys=True
            )
        value = column_of(row, self.key)
        return str(value)

    def files(self) -> list[str]:
        """Gives files and folders whose change means other rows, those that exist."""
        return []

    @abstractmethod
    def parts_of(self, content: Any, tmp_dir: str) -> list[str]:
        """Gives names of the parts of what a split, or "all", holds."""

    @abstractmethod
    def rows_of(self, part: str, tmp_dir: str) -> Iterator[Row]:
        """Yields every row of a part."""


def column_of(row: Row, column: str) -> Any:
    """Gives a value of a row; "a.b" or "a/b" reaches into nested ones.

    Raises:
      ValueError: if the row has no such column; names place and column.
    """
    value: Any = row.values
    if column in value:
        return value[column]
    for name in column.replace("/", ".").split("."):
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif isinstance(value, list | tuple) and value:
            value = [one[name] for one in value if name in one]
        else:
            raise ValueError(
                f"{row.place}: there is no column '{column}'; it has "
                f"{', '.join(map(str, row.values))}. Correct the name of the column, "
                "or the row."
            )
    return value


def paths_of(patterns: str | Sequence[str]) -> list[str]:
    """Gives the files of one or more paths; * and ? match any.

    Raises:
      FileNotFoundError: if nothing matches a pattern.
    """
    patterns = [patterns] if isinstance(patterns, str) else patterns
    found = []
    for pattern in patterns:
        path = os.path.expanduser(pattern)
        matching = [path] if os.path.exists(path) else sorted(glob.glob(path))
        if not matching:
            raise FileNotFoundError(
                f"{pattern} is not there; a file or folder of examples was expected. "
                "Check the path; it is taken from the folder of the declaration."
            )
        found += matching
    return found


def opened(path: str) -> TextIO:
    """Opens a text file as UTF-8, also one that gzip compressed; see `Unpacked`."""
    return io.TextIOWrapper(_opened_bytes(path), encoding="utf-8-sig", newline="")


def _opened_bytes(path: str) -> BinaryIO:
    return (
        io.BufferedReader(Unpacked(path)) if path.endswith(".gz") else open(path, "rb")
    )


class Unpacked(io.RawIOBase):
    """The content of a gzip file that was made to be read, not to fill a disk.

    A few kilobytes can unpack to gigabytes. Reading stops beyond `MOST_UNPACKED` times
    the file's own size (and `ALWAYS_UNPACKED` bytes, which harm nobody).

    Args:
      path: of the file.

    Raises:
      ValueError: when more is read.
    """

    def __init__(self, path: str):
        self._path = path
        self._size = os.path.getsize(path)
        self._most = max(MOST_UNPACKED * self._size, ALWAYS_UNPACKED)
        self._left = self._most
        self._file = gzip.open(path)

    def readable(self) -> bool:
        """Tells that it can be read."""
        return True

    def readinto(self, room: Any) -> int:
        """Fills a buffer; gives the number of bytes."""
        count = self._file.readinto(room)
        self._left -= count
        if self._left < 0:
            raise ValueError(
                f"{self._path} has {self._size} bytes and unpacks to more than "
                f"{self._most}; at most {MOST_UNPACKED} times its size was expected of "
                "compressed text. If it is meant so, unpack it (gunzip) and name the "
                "unpacked file."
            )
        return count

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()


@contextlib.contextmanager
def faults_named(*paths: str) -> Iterator[None]:
    """Names the file, and the row, where text is read that is no UTF-8 or no gzip.

    Raises:
      ValueError: if what runs inside meets such a fault.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        for path in paths:
            if row := _first_undecodable(path):
                raise ValueError(
                    f"{path}, row {row}, is no UTF-8 text ({error.reason}); UTF-8 was "
                    "expected. Convert the file: iconv -f latin1 -t utf-8."
                ) from error
        raise
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(
            f"{' or '.join(paths)} is no whole gzip file ({error}); one was expected "
            "where a name ends in .gz. Fetch it again, or rename it."
        ) from error


def _first_undecodable(path: str) -> int:
    """Gives the number of the first line that is no UTF-8, from 1, or 0."""
    with _opened_bytes(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 0


def present(contents: Any) -> list[str]:
    """Gives the paths that exist of a source's `contents`, however nested."""
    if isinstance(contents, Mapping):
        contents = list(contents.values())
    if isinstance(contents, str):
        path = os.path.expanduser(contents)
        return [path] if os.path.exists(path) else sorted(glob.glob(path))
    return [path for one in contents for path in present(one)]


class ParallelText(Source):
    """Text files whose lines belong together: line i of one to line i of the other.

    Args:
      splits: (path of inputs, path of targets), of all rows or by split.
      held_out, key: as `Source`; the columns are "inputs" and "targets".
    """

    key_column = "inputs"

    def files(self):
        """Gives the text files."""
        return present(self.contents)

    def parts_of(self, content, tmp_dir):
        """Gives the one pair of files."""
        if isinstance(content, str) or len(content) != 2:
            raise ValueError(
                f"{content!r} came as parallel text; two paths were expected. "
                'Write parallel = ["train.en", "train.de"].'
            )
        return ["\n".join(paths_of(content))]

    def rows_of(self, part, tmp_dir):
        """Yields the lines of both files."""
        left, right = part.split("\n")
        missing = object()
        with (
            faults_named(left, right),
            opened(left) as inputs,
            opened(right) as targets,
        ):
            lines = itertools.zip_longest(inputs, targets, fillvalue=missing)
            for number, pair in enumerate(lines, 1):
                if missing in pair:
                    short, long = (left, right) if pair[0] is missing else (right, left)
                    raise ValueError(
                        f"{short} ends before row {number}, which {long} has; as many "
                        "lines were expected in both. Check that they belong together."
                    )
                ends = [str(line).rstrip("\r\n") for line in pair]
                place = f"{left} and {right}, row {number}"
                yield Row(place, {"inputs": ends[0], "targets": ends[1]})


class PictureFolder(Source):
    """Folders of pictures by class: pets/cat/1.jpg, pets/dog/2.png.

    Args:
      splits: a folder, of all pictures or by split.
      held_out, key: as `Source`; the columns are "inputs", "targets" and "path".
    """

    key_column = "path"

    def files(self):
        """Gives the folders, which change when a picture comes or goes."""
        roots = present(self.contents)
        return roots + [
            entry.path for root in roots for entry in os.scandir(root) if entry.is_dir()
        ]

    def parts_of(self, content, tmp_dir):
        """Gives the folder of each class."""
        [folder] = paths_of(content)
        return [os.path.join(folder, name) for name in self.class_names(folder)]

    def class_names(self, folder: str) -> list[str]:
        """Gives the classes of a folder: the names of its folders.

        Raises:
          FileNotFoundError: if it is not there.
          ValueError: if there is no folder in it.
        """
        if not os.path.isdir(folder):
            raise FileNotFoundError(
                f"{folder} is not there; a folder with a folder of pictures for each "
                "class was expected. Check the path."
            )
        names = sorted(
            entry.name
            for entry in os.scandir(folder)
            if entry.is_dir() and not entry.name.startswith(".")
        )
        if not names:
            raise ValueError(
                f"{folder} holds no folders; a folder for each class was expected, "
                f"such as {os.path.join(folder, 'cat', '1.jpg')}. Sort the pictures."
            )
        return names

    def rows_of(self, part, tmp_dir):
        """Yields the pictures of a class, in the order of their names."""
        names = sorted(os.listdir(part))
        pictures = [name for name in names if name.lower().endswith(PICTURE_ENDINGS)]
        label = os.path.basename(part)
        if not pictures:
            raise ValueError(
                f"{part} holds no pictures; files that end in "
                f"{', '.join(PICTURE_ENDINGS)} were expected. Add some, or remove it."
            )
        for name in pictures:
            path = os.path.join(part, name)
            relative = f"{label}/{name}"
            yield Row(path, {"inputs": path, "targets": label, "path": relative})
