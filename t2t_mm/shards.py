"""What datagen's processes write in the end: one shard of a split, its rows, its entry.

The shards of a split together are a random permutation of its raw examples, text as
ids. Beside datagen's raw examples lie, for each finished shard, its rows of the index
and its entry of the manifest: so that several machines can share the work. Imports no
TensorFlow.
"""

import functools
import json
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from t2t_mm import records
from t2t_mm.files import sha256_of, write_array, write_atomically, written_aside
from t2t_mm.manifests import (
    seeded_generator,
    shard_name,
    vocabulary_fingerprint,
)
from t2t_mm.problem import AUDIO, TEXT, Problem, get_problem
from t2t_mm.raw_splits import RawReader
from t2t_mm.record_bytes import RawFormat, counted_ids, packed_examples
from t2t_mm.vocabulary import Vocabulary, load_vocabulary, text_vocabulary_names
from t2t_mm.workers import count

_CHUNK = 512


def shard_order(
    problem_name: str, split: str, seed: int, num_examples: int, num_shards: int
) -> list[np.ndarray]:
    """Gives for each shard the numbers of its raw examples, in order.

    They are a random permutation of all, which (seed, problem, split) decide.
    """
    generator = seeded_generator(seed, problem_name, split)
    return np.array_split(generator.permutation(num_examples), num_shards)


def write_shard(
    problem_name: str,
    split: str,
    shard: int,
    num_shards: int,
    raw_paths: Sequence[str],
    data_dir: str,
    work_dir: str,
    seed: int,
) -> None:
    """Writes one shard and what `finished_shard` gives of it, unless it is there."""
    name = shard_name(problem_name, split, shard, num_shards)
    if finished_shard(work_dir, name):
        return
    problem = get_problem(problem_name)
    vocabularies = {
        one: _vocabulary(one, data_dir, vocabulary_fingerprint(one, data_dir))
        for one in text_vocabulary_names([problem])
    }
    path = os.path.join(data_dir, name)
    with RawReader(raw_paths) as raw:
        order = shard_order(problem_name, split, seed, len(raw.places), num_shards)
        chunks = (
            raw.read(order[shard][begin : begin + _CHUNK])
            for begin in range(0, len(order[shard]), _CHUNK)
        )
        with written_aside(path) as temporary:
            rows = write_records(problem, shard, chunks, vocabularies, temporary)
    write_array(os.path.join(work_dir, name + ".npy"), rows)
    entry = described_file(path) | {"examples": len(rows)}
    write_atomically(os.path.join(work_dir, name + ".json"), json.dumps(entry).encode())


def finished_shard(work_dir: str, name: str) -> tuple[dict, np.ndarray] | None:
    """Gives a shard's entry in the manifest and rows of the index, once it is written.

    Args:
      work_dir: datagen's folder.
      name: of the shard's file.
    """
    path = os.path.join(work_dir, name)
    try:
        with open(path + ".json", encoding="utf-8") as file:
            return json.load(file), np.load(path + ".npy")
    except FileNotFoundError:
        return None


def write_records(
    problem: Problem,
    shard: int,
    chunks: Iterable[Sequence[bytes]],
    vocabularies: Mapping[str, Vocabulary],
    path: str,
) -> np.ndarray:
    """Writes a TFRecord file of raw examples, their text as ids.

    Args:
      problem: whose examples.
      shard: its number, for the index.
      chunks: raw examples, packed, some at a time.
      vocabularies: of its text, by name.
      path: the file.

    Returns:
      int64 [N, 3 + features], a row of the index for each.
    """
    rows = [records.empty_index(problem)]
    with records.RecordWriter(path) as writer:
        for chunk in chunks:
            rows.append(_write_chunk(problem, shard, chunk, vocabularies, writer))
            count(len(chunk))
    return np.concatenate(rows)


def _write_chunk(
    problem: Problem,
    shard: int,
    chunk: Sequence[bytes],
    vocabularies: Mapping[str, Vocabulary],
    writer: records.RecordWriter,
) -> np.ndarray:
    form = RawFormat(problem)
    examples = [form.unpack(record) for record in chunk]
    texts = records.packed_texts(problem, examples, vocabularies)
    packed = packed_examples(problem, examples, texts)
    rows = np.zeros((len(chunk), records.empty_index(problem).shape[1]), np.int64)
    rows[:, records.SHARD] = shard
    rows[:, records.OFFSET] = [writer.write(record) for record in packed]
    rows[:, records.SIZE] = [len(record) for record in packed]
    for column, (name, feature) in enumerate(problem.features.items(), records.LENGTHS):
        if feature.modality == TEXT:
            rows[:, column] = counted_ids(texts[name])
        elif feature.modality == AUDIO:
            rows[:, column] = [example[f"{name}/length"] for example in examples]
        else:
            rows[:, column] = 1
    return rows


@functools.lru_cache(maxsize=16)
def _vocabulary(name: str, data_dir: str, fingerprint: str | None) -> Vocabulary:
    """Loads a vocabulary once per process; the fingerprint tells a new one apart."""
    del fingerprint
    return load_vocabulary(name, data_dir)


def described_file(path: str) -> dict:
    """Gives a file's name, size in bytes and sha256, as manifests hold them."""
    return {
        "name": os.path.basename(path),
        "bytes": os.path.getsize(path),
        "sha256": sha256_of(path),
    }
