"""What datagen's worker processes do: raw examples of a split, one shard of them.

Raw examples go to a TFRecord file in datagen's work folder, with a numpy file beside it
that says where each lies; from there shards are written in a seeded random order.
Imports no TensorFlow.
"""

import functools
import io
import os
from collections.abc import Mapping, Sequence

import numpy as np

from t2t_mm import records
from t2t_mm.files import sha256_of, write_atomically, written_aside
from t2t_mm.manifests import (
    seeded_generator,
    shard_name,
    vocabulary_fingerprint,
)
from t2t_mm.problem import Problem, get_problem
from t2t_mm.vocabulary import Vocabulary, load_vocabulary, text_vocabulary_names
from t2t_mm.workers import count

_CHUNK = 512
_COUNT_EVERY = 64


def generate_split(problem_name: str, split: str, raw_path: str, tmp_dir: str) -> int:
    """Writes the raw examples of a split, and where each lies; gives how many.

    Raises:
      TypeError, ValueError: if the problem yields what it should not, or nothing.
      Exception: what `Problem.generate` raises, with a note of where.
    """
    problem = get_problem(problem_name)
    places: list[tuple[int, int]] = []
    with records.RecordWriter(raw_path) as writer:
        try:
            for number, example in enumerate(problem.generate(split, tmp_dir)):
                values = records.raw_values(problem, split, number, example)
                record = records.pack(values)
                places.append((writer.write(record), len(record)))
                if len(places) % _COUNT_EVERY == 0:
                    count(_COUNT_EVERY)
        except Exception as error:
            error.add_note(
                f"This came from problem '{problem_name}', split '{split}', example "
                f"{len(places)}."
            )
            raise
    count(len(places) % _COUNT_EVERY)
    if not places:
        raise ValueError(
            f"Problem '{problem_name}' yields no example for split '{split}'; at least "
            f"one was expected in each of {', '.join(problem.splits)}. Correct "
            "`generate`, or `test_splits`."
        )
    write_array(raw_path + ".npy", np.array(places, np.int64))
    return len(places)


def write_shard(
    problem_name: str,
    split: str,
    shard: int,
    num_shards: int,
    raw_path: str,
    data_dir: str,
    seed: int,
) -> tuple[dict, np.ndarray]:
    """Writes one shard; gives its entry in the manifest and its rows of the index.

    The shards together are a random permutation of the split, which (seed, problem,
    split) decide.
    """
    problem = get_problem(problem_name)
    vocabularies = {
        name: _vocabulary(name, data_dir, vocabulary_fingerprint(name, data_dir))
        for name in text_vocabulary_names([problem])
    }
    places = np.load(raw_path + ".npy")
    generator = seeded_generator(seed, problem_name, split)
    order = np.array_split(generator.permutation(len(places)), num_shards)[shard]
    mine = places[order].tolist()
    path = os.path.join(data_dir, shard_name(problem_name, split, shard, num_shards))
    rows = [records.empty_index(problem)]
    file = records.RecordFile(raw_path)
    with (
        written_aside(path) as temporary,
        records.RecordWriter(temporary) as writer,
    ):
        for begin in range(0, len(mine), _CHUNK):
            chunk = [file.read(*place) for place in mine[begin : begin + _CHUNK]]
            rows.append(_write_chunk(problem, shard, chunk, vocabularies, writer))
            count(len(chunk))
    file.close()
    return described_file(path) | {"examples": len(mine)}, np.concatenate(rows)


def _write_chunk(
    problem: Problem,
    shard: int,
    chunk: Sequence[bytes],
    vocabularies: Mapping[str, Vocabulary],
    writer: records.RecordWriter,
) -> np.ndarray:
    examples = [records.unpack(record) for record in chunk]
    rows = []
    for values in records.encoded_values(problem, examples, vocabularies):
        record = records.pack(values)
        offset = writer.write(record)
        rows.append([shard, offset, len(record), *records.lengths(problem, values)])
    return np.array(rows, np.int64)


@functools.lru_cache(maxsize=16)
def _vocabulary(name: str, data_dir: str, fingerprint: str | None) -> Vocabulary:
    """Loads a vocabulary once per process; the fingerprint tells a new one apart."""
    del fingerprint
    return load_vocabulary(name, data_dir)


def write_array(path: str, array: np.ndarray) -> None:
    """Writes a numpy file, whole or not at all."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    write_atomically(path, content.getvalue())


def described_file(path: str) -> dict:
    """Gives a file's name, size in bytes and sha256, as manifests hold them."""
    return {
        "name": os.path.basename(path),
        "bytes": os.path.getsize(path),
        "sha256": sha256_of(path),
    }
