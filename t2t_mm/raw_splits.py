"""Raw examples on their way from `Problem.generate` to shards, in datagen's folder.

What a source shard of a split yields goes to a TFRecord file, its "part", with a numpy
file that says where each example lies and a JSON file, written last, that says how many
there are. Examples are numbered through the parts of a split, in the order of
`Problem.shards`. Imports no TensorFlow.
"""

import functools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from t2t_mm import raw_examples, records
from t2t_mm.files import write_array, write_atomically, written_aside
from t2t_mm.problem import Problem, get_problem
from t2t_mm.record_bytes import RawFormat
from t2t_mm.workers import count

_COUNT_EVERY = 64
_OPEN_PARTS = 64


@dataclass(frozen=True)
class RawSplit:
    """What all parts of a split hold.

    Args:
      paths: of the parts, in order.
      examples: how many.
      bytes: of the examples.
      dropped: bad examples that were left out, as manifests hold it.
    """

    paths: tuple[str, ...]
    examples: int
    bytes: int
    dropped: dict


def source_shards(problem: Problem, split: str, tmp_dir: str) -> list[str | None]:
    """Gives the shards of a split's source; one None if it is read as a whole.

    Raises:
      ValueError: if two have the same name.
    """
    names: list[str | None] = list(problem.shards(split, tmp_dir))
    if len(set(names)) < len(names):
        raise ValueError(
            f"Problem '{problem.name}' names shards of split '{split}' that are equal; "
            "different names were expected. Correct `shards`."
        )
    return names or [None]


def generate_part(
    problem_name: str, split: str, shard: str | None, path: str, tmp_dir: str
) -> dict:
    """Writes the raw examples of one source shard, unless they are there.

    Returns:
      {"examples", "bytes", "dropped"}.

    Raises:
      TypeError, ValueError: if the problem yields what it should not.
      Exception: what `Problem.generate` raises, with a note of where.
    """
    if os.path.exists(path + ".json"):
        with open(path + ".json", encoding="utf-8") as file:
            return json.load(file)
    dropped = raw_examples.Dropped()
    places: list[tuple[int, int]] = []
    source = raw_records(get_problem(problem_name), split, shard, tmp_dir, dropped)
    with written_aside(path) as temporary, records.RecordWriter(temporary) as writer:
        for record in source:
            places.append((writer.write(record), len(record)))
            if len(places) % _COUNT_EVERY == 0:
                count(_COUNT_EVERY)
    count(len(places) % _COUNT_EVERY)
    write_array(path + ".npy", np.array(places, np.int64).reshape(-1, 2))
    described = {
        "examples": len(places),
        "bytes": sum(size for _, size in places),
        "dropped": dropped.described(),
    }
    write_atomically(path + ".json", json.dumps(described).encode())
    return described


def raw_records(
    problem: Problem,
    split: str,
    shard: str | None,
    tmp_dir: str,
    dropped: raw_examples.Dropped,
) -> Iterator[bytes]:
    """Yields the raw examples of a source shard, checked and packed.

    Args:
      problem, split: whose examples.
      shard: one of `Problem.shards`, or None for all of the split.
      tmp_dir: where its downloads are.
      dropped: counts what a problem with on_bad_example = "drop" loses.
    """
    number = 0
    form = RawFormat(problem)
    try:
        examples: Iterable[dict] = (
            problem.generate(split, tmp_dir)
            if shard is None
            else problem.generate_shard(split, tmp_dir, shard)
        )
        for example in examples:
            try:
                values = raw_examples.raw_values(problem, split, number, example)
            except raw_examples.BadExample as error:
                if problem.on_bad_example == "refuse":
                    raise
                dropped.add(error)
            else:
                yield form.pack(values)
            number += 1
    except Exception as error:
        part = "" if shard is None else f", source shard '{shard}'"
        error.add_note(
            f"This came from problem '{problem.name}', split '{split}'{part}, example "
            f"{number}."
        )
        raise


def gathered(
    problem: Problem, split: str, paths: Sequence[str], parts: Sequence[dict]
) -> RawSplit:
    """Adds up what `generate_part` gave for each part of a split.

    Raises:
      ValueError: if there is no example at all.
    """
    dropped = raw_examples.merged([part["dropped"] for part in parts])
    examples = sum(part["examples"] for part in parts)
    if not examples:
        bad = sum(dropped.get("reasons", {}).values())
        raise ValueError(
            f"Problem '{problem.name}' yields no example for split '{split}'; at least "
            f"one was expected in each of {', '.join(problem.splits)}. "
            + (f"{bad:,} bad ones were dropped. {dropped['first']}" if bad else "")
            + "Correct `generate` or `test_splits`; of few rows, hold out more: "
            "held_out = {dev = 0.2, test = 0.2}." * (not bad)
        )
    size = sum(part["bytes"] for part in parts)
    return RawSplit(tuple(paths), examples, size, dropped)


class RawReader:
    """Reads raw examples of a split by number; a context manager.

    Args:
      paths: of its parts.

    Attributes:
      places: int64 [N, 3], for each example its part, offset and size.
    """

    def __init__(self, paths: Sequence[str]):
        self._paths = list(paths)
        self._file = functools.lru_cache(_OPEN_PARTS)(records.RecordFile)
        arrays = [np.load(path + ".npy") for path in self._paths]
        part = np.repeat(np.arange(len(arrays)), [len(one) for one in arrays])
        self.places = np.column_stack([part, np.concatenate(arrays)])

    def __enter__(self) -> "RawReader":
        return self

    def __exit__(self, *exception):
        self._file.cache_clear()

    def read(self, numbers: Iterable[int] | np.ndarray) -> list[bytes]:
        """Gives the raw examples of some numbers."""
        return [
            self._file(self._paths[part]).read(offset, size)
            for part, offset, size in self.places[np.asarray(numbers)].tolist()
        ]
