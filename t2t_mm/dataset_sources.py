"""Data sets of other libraries as sources: tensorflow-datasets, Hugging Face's folders.

Both are read in their own files: tfds through its builder, a folder that
`datasets.save_to_disk` wrote through pyarrow, for which the library itself is not
needed. They are imported where they are used; TensorFlow only while rows are read.
"""

import contextlib
import functools
import json
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from t2t_mm.sources import ALL, Row, Source, column_of

# Rows of one part, so that several processes share a split.
ROWS_PER_PART = 20_000
# Hosts that are tried, and for how long each, before a data set is fetched.
_MOST_HOSTS, _CONNECT_SECONDS = 4, 5.0
_PORTS = {"http": 80, "https": 443, "ftp": 21}
_DEV_NAMES = ("validation", "valid", "dev")


class Tfds(Source):
    """A data set of tensorflow-datasets, prepared under `<tmp_dir>/tfds` when needed.

    Pictures come as they are compressed, classes as numbers, sounds with their rate.

    Args:
      name: "mnist", "wmt14_translate/de-en".
      splits: what tfds calls each split: {"dev": "validation", "train": "train[:90%]"}.
        None: "test" is its test split or else its validation split or else the last 5 %
        of train, "dev" its validation split if that is free, or else 5 % of train.
      columns: which are read; the others are not even decoded.
      data_dir: where prepared data sets lie; by default `<tmp_dir>/tfds`.
      layout: of files that its licence lets nobody fetch for you, for the message.

    Example:
      >>> Tfds("mnist", {"train": "train[:55000]", "dev": "train[55000:]"}).split_names
      ('train', 'dev')
    """

    def __init__(
        self,
        name: str,
        splits: Mapping[str, str] | None = None,
        *,
        columns: Sequence[str] = (),
        data_dir: str = "",
        layout: str = "",
    ):
        super().__init__(splits or dict.fromkeys(("train", "dev", "test"), ""))
        self.name = name
        self.columns = tuple(columns)
        self.data_dir = os.path.expanduser(data_dir)
        self.layout = layout

    def builder(self, tmp_dir: str = "") -> Any:
        """Gives tfds' builder of the data set.

        Raises:
          ValueError: if tfds knows no such data set.
        """
        import tensorflow_datasets as tfds

        folder = self.data_dir or os.path.join(tmp_dir, "tfds")
        try:
            return tfds.builder(self.name, data_dir=folder)
        except (tfds.core.DatasetNotFoundError, KeyError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"tensorflow-datasets has no '{self.name}' ({reason:.200}); the name "
                "of one of its data sets was expected, such as mnist or "
                "wmt14_translate/de-en. tensorflow.org/datasets/catalog lists them."
            ) from error

    def prepared(self, tmp_dir: str) -> Any:
        """Gives the builder of a data set that is there, fetched if it was not.

        Raises:
          OSError: if it cannot be fetched; says what is expected where.
        """
        import tensorflow_datasets as tfds

        builder = self.builder(tmp_dir)
        if builder.info.splits:
            return builder
        downloads = os.path.join(tmp_dir, "tfds", "downloads")
        manual = os.path.join(downloads, "manual")
        with _one_at_a_time(os.path.join(tmp_dir, "tfds")):
            builder = self.builder(tmp_dir)  # another process may have been quicker
            if builder.info.splits:
                return builder
            self._check_network(builder, downloads, manual)
            try:
                builder.download_and_prepare(
                    download_dir=downloads,
                    download_config=tfds.download.DownloadConfig(manual_dir=manual),
                )
            except Exception as error:
                raise OSError(self._not_there(builder, manual, error)) from error
        return builder

    def _check_network(self, builder: Any, downloads: str, manual: str) -> None:
        """Says at once what tfds says after some minutes, where nothing was fetched."""
        if not builder.MANUAL_DOWNLOAD_INSTRUCTIONS and not _holds_files(downloads):
            if reason := _unreachable(builder.url_infos):
                raise OSError(self._not_there(builder, manual, OSError(reason)))

    def _not_there(self, builder: Any, manual: str, error: Exception) -> str:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        expected = self.layout.format(manual=manual) or (
            f"the prepared data set in {builder.data_dir}, or what its builder fetches"
        )
        advice = " ".join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
        return (
            f"The data set '{self.name}' of tensorflow-datasets is not there and "
            f"cannot be made: {reason:.300}. Expected: {expected}. "
            + (f"tensorflow-datasets says: {advice:.600} " if advice else "")
            + "Put it there, or prepare it elsewhere and give that folder's copy."
        )

    def instruction(self, split: str, available: Sequence[str]) -> str:
        """Gives what tfds calls a split, which of its own being available.

        Example:
          >>> source = Tfds("mnist")
          >>> [source.instruction(s, ("train", "test")) for s in ("train", "dev")]
          ['train[:95%]', 'train[95%:]']
        """
        given = self._content(split)
        if given:
            return given
        dev = next((name for name in _DEV_NAMES if name in available), "")
        test = "test" if "test" in available else dev
        dev = dev if "test" in available else ""
        free = [name for name, own in (("dev", dev), ("test", test)) if not own]
        edges = {"dev": f"[{100 - 5 * len(free)}%:95%]", "test": "[95%:]"}
        if len(free) == 1:
            edges[free[0]] = "[95%:]"
        if split == "train":
            return f"train[:{100 - 5 * len(free)}%]" if free else "train"
        return (dev if split == "dev" else test) or f"train{edges[split]}"

    def parts(self, split, tmp_dir):
        """Gives the ranges of rows of a split."""
        import tensorflow_datasets as tfds

        builder = self.prepared(tmp_dir)
        available = list(builder.info.splits)
        wanted = self.instruction(split, available)
        missing = {one.split("[")[0] for one in wanted.split("+")} - set(available)
        if missing:
            raise ValueError(
                f"Data set '{self.name}' has no split '{min(missing)}'; it has "
                f"{', '.join(available)}. Name one of them in splits."
            )
        return list(_ranges(tfds, builder, wanted))

    def parts_of(self, content, tmp_dir):
        """Gives one part: a split of tfds is cut up by `parts`."""
        return [content]

    def rows_of(self, part, tmp_dir):
        """Yields the rows of a range of a split."""
        import tensorflow_datasets as tfds

        builder = self.prepared(tmp_dir)
        features = builder.info.features
        config = tfds.ReadConfig(
            interleave_cycle_length=1, try_autocache=False, add_tfds_id=False
        )
        dataset = builder.as_dataset(
            split=part,
            shuffle_files=False,
            decoders=_decoders(tfds, features, self.columns),
            read_config=config,
        )
        for number, example in enumerate(tfds.as_numpy(dataset)):
            values = {
                name: _plain(features[name] if name in features else None, value)
                for name, value in example.items()
            }
            yield Row(f"tfds {self.name} {part}, row {number}", values)


def _ranges(tfds: Any, builder: Any, wanted: str) -> Iterator[str]:
    """Yields ranges of a bounded number of rows, in tfds' own notation."""
    instruction = tfds.core.ReadInstruction.from_spec(wanted)
    sizes = {name: one.num_examples for name, one in builder.info.splits.items()}
    for piece in instruction.to_absolute(builder.info.splits):
        end = sizes[piece.splitname] if piece.to is None else piece.to
        for begin in range(piece.from_ or 0, end, ROWS_PER_PART):
            yield f"{piece.splitname}[{begin}:{min(begin + ROWS_PER_PART, end)}]"


def _decoders(tfds: Any, features: Any, columns: Sequence[str]) -> Any:
    """Leaves pictures compressed, and reads no other columns than those asked for."""
    wanted = {column.replace("/", ".").split(".")[0] for column in columns}
    wanted |= {column for column in columns if column in features}
    kept = {name: features[name] for name in features if not wanted or name in wanted}
    skipped = {
        name: tfds.decode.SkipDecoding()
        for name, one in kept.items()
        if isinstance(one, tfds.features.Image)
    }
    if len(kept) == len(features):
        return skipped or None
    return tfds.decode.PartialDecoding(kept, decoders=skipped or None)


def _plain(feature: Any, value: Any) -> Any:
    """Gives a value of tfds as the problem kinds take it."""
    import numpy as np

    kind = type(feature).__name__
    if kind == "Audio":
        rate = feature.sample_rate or 16000
        return np.asarray(value).astype(np.int16), int(rate)
    if isinstance(value, Mapping):
        inner = getattr(feature, "feature", feature)
        return {
            name: _plain(inner[name] if name in inner else None, one)
            for name, one in value.items()
        }
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_plain(None, one) for one in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes) and kind != "Image":
        return value.decode("utf-8", errors="strict")
    return value


def _holds_files(folder: str) -> bool:
    """Whether there are files in a folder that are not half of a download."""
    return any(
        files and ".tmp." not in path for path, _, files in os.walk(os.fspath(folder))
    )


def _unreachable(addresses: Iterable[str]) -> str:
    """Gives why no host of some addresses can be reached, or "" if one can."""
    if urllib.request.getproxies():
        return ""
    reason = ""
    hosts = dict.fromkeys(urllib.parse.urlsplit(one)[:2] for one in addresses)
    for scheme, host in list(hosts)[:_MOST_HOSTS]:
        name, _, port = host.partition(":")
        place = (name, int(port) if port else _PORTS.get(scheme, 443))
        try:
            socket.create_connection(place, _CONNECT_SECONDS).close()
            return ""
        except OSError as error:
            reason = f"there is no connection to {host} ({error.strerror or error})"
    return reason


@contextlib.contextmanager
def _one_at_a_time(folder: str) -> Iterator[None]:
    """Lets one process prepare a data set while the others wait."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, ".preparing.lock"), "w") as lock:
        if os.name == "posix":
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class HuggingFace(Source):
    """A folder that `datasets.save_to_disk` wrote: Arrow files and what they hold.

    Args:
      folder: of a DatasetDict (a folder per split) or of one Dataset.
      splits: which of its splits is which: {"dev": "validation"}; by default as they
        are called, "validation" being dev; a single Dataset is dealt out by `held_out`.
      held_out, key: as `Source`.
    """

    def __init__(
        self,
        folder: str,
        splits: Mapping[str, str] | None = None,
        **options: Any,
    ):
        self.folder = os.path.expanduser(folder)
        super().__init__(splits or self._found_splits(), **options)

    def _found_splits(self) -> dict[str, str]:
        path = os.path.join(self.folder, "dataset_dict.json")
        if not os.path.exists(path):
            self._check(self.folder)
            return {ALL: ""}
        with open(path, encoding="utf-8") as file:
            names = json.load(file)["splits"]
        return {("dev" if name in _DEV_NAMES else name): name for name in names}

    def _check(self, folder: str) -> None:
        if not os.path.exists(os.path.join(folder, "state.json")):
            raise FileNotFoundError(
                f"{folder} holds no state.json; a folder that "
                "datasets.save_to_disk wrote was expected. Save the data set with "
                f"dataset.save_to_disk({self.folder!r})."
            )

    def parts_of(self, content, tmp_dir):
        """Gives the Arrow files of a split."""
        folder = os.path.join(self.folder, content)
        self._check(folder)
        with open(os.path.join(folder, "state.json"), encoding="utf-8") as file:
            files = json.load(file)["_data_files"]
        return [os.path.join(folder, one["filename"]) for one in files]

    def features_of(self, split: str) -> dict[str, Any]:
        """Gives the features of a split as `dataset_info.json` has them."""
        path = os.path.join(self.folder, self._content(split), "dataset_info.json")
        return _features(path)

    def rows_of(self, part, tmp_dir):
        """Yields the rows of an Arrow file."""
        import pyarrow

        features = _features(os.path.join(os.path.dirname(part), "dataset_info.json"))
        with pyarrow.memory_map(part) as file:
            number = 0
            for batch in pyarrow.ipc.open_stream(file):
                for values in batch.to_pylist():
                    number += 1
                    named = {
                        name: _named(features.get(name), value)
                        for name, value in values.items()
                    }
                    yield Row(f"{part}, row {number}", named)


@functools.lru_cache(maxsize=8)
def _features(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        return json.load(file).get("features") or {}


def _named(feature: Any, value: Any) -> Any:
    """Gives the name of a class instead of its number."""
    if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
        return feature["names"][value] if isinstance(value, int) else value
    return value


def labels_in(source: Source, column: str, splits: Sequence[str]) -> list[str]:
    """Gives every label of a column, sorted, by reading the rows of splits."""
    found = {
        str(column_of(row, column))
        for split in splits
        for part in source.parts(split, "")
        for row in source.rows(split, "", part)
    }
    return sorted(found)
