"""`Problem.generate` -> the files that datagen writes, as an Apache Beam pipeline.

Called by `mm-datagen --beam`. The same bytes as `datagen.generate_data`, on any runner:

  parts      source shards -> raw examples, numbered; how many there are
  learn      a bounded choice of training text -> vocabularies, one worker each
  write      raw examples by shard, in the order of the seed -> shards, rows, entries
  finish     rows and entries by problem -> indexes and manifest

Workers share nothing but `data_dir`, which Beam's file systems reach (a network drive,
gs://, hdfs://, s3://). They fetch downloads themselves. Imports no TensorFlow.
"""

import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from t2t_mm import (
    datagen,
    manifests,
    raw_examples,
    raw_splits,
    registry,
    shards,
    vocabulary,
    vocabulary_learning,
)
from t2t_mm.downloads import fetch_all
from t2t_mm.files import write_array, write_atomically
from t2t_mm.problem import Problem, get_problem
from t2t_mm.vocabulary import SubwordVocabulary, load_vocabulary
from t2t_mm.work_folder import Task, check_folders, work_folder

_PART = "part"


def generate_data(
    problem_names: Sequence[str],
    data_dir: str,
    tmp_dir: str,
    *,
    options: Sequence[str] = (),
    seed: int = datagen.DEFAULT_SEED,
    num_shards: int | None = None,
) -> dict[str, dict]:
    """Makes the data of problems, unless it is there and fits, on a Beam runner.

    Args:
      problem_names: names of registered problems.
      data_dir: where shards, vocabularies and manifests go, a path or an address that
        Beam's file systems know; at an address everything is made, also what is there.
      tmp_dir: where downloads are kept, here and on each worker.
      options: of the pipeline, as on a command line: "--runner=FlinkRunner".
      seed: of the shuffling, and of the choice of text for vocabularies.
      num_shards: of the train split; by default 10, more if they would be large.

    Returns:
      The manifest of each problem.

    Raises:
      OSError: if a folder cannot be written.
      Exception: what the runner raises, with the message of the worker.
    """
    problems = [get_problem(name) for name in dict.fromkeys(problem_names)]
    is_remote = is_address(data_dir)
    check_folders(tmp_dir=tmp_dir, **({} if is_remote else {"data_dir": data_dir}))
    with contextlib.ExitStack() as stack:
        if not is_remote:
            stack.enter_context(work_folder(data_dir, Task(), "beam"))
        unfinished, specs = datagen.unfinished_work(
            problems, data_dir, seed, num_shards
        )
        if unfinished:
            settings = _Settings(data_dir, tmp_dir, seed, num_shards)
            _run(unfinished, specs, settings, options)
        if is_remote:
            return {one.name: _read_manifest(data_dir, one) for one in problems}
        found = {one.name: manifests.check_manifest(data_dir, one) for one in problems}
        for name, manifest in found.items():
            datagen.remove_others(name, data_dir, keep=manifests.named_files(manifest))
        return found


def is_address(data_dir: str) -> bool:
    """Whether data goes to a file system of Beam's that is no path, such as gs://."""
    return "://" in data_dir


class _Settings:
    """What every step is told; travels to the workers."""

    def __init__(self, data_dir: str, tmp_dir: str, seed: int, num_shards: int | None):
        self.data_dir, self.tmp_dir = data_dir, tmp_dir
        self.seed, self.num_shards = seed, num_shards
        self.modules: list[str] = []

    def problem(self, name: str) -> Problem:
        """Gives a problem, also on a worker that has imported nothing yet."""
        for module in self.modules:
            registry.load(module)
        return get_problem(name)


def _run(
    problems: list[Problem],
    specs: dict,
    settings: _Settings,
    options: Sequence[str],
) -> None:
    """Builds the pipeline and runs it."""
    sources = {
        name: [one.name for one in vocabulary_learning.vocabulary_sources(name, spec)]
        for name, spec in specs.items()
    }
    read_for_text = list(dict.fromkeys(sum(sources.values(), [])))
    settings.modules = datagen.modules_of([*problems, *map(get_problem, read_for_text)])
    jobs = datagen.jobs_of(problems)
    wanted = dict.fromkeys([*jobs, *((name, "train") for name in read_for_text)])
    parts = []
    for name, split in wanted:
        problem = get_problem(name)
        fetch_all(problem.downloads, settings.tmp_dir, progress=False)
        names = raw_splits.source_shards(problem, split, settings.tmp_dir)
        parts += [(name, split, part, shard) for part, shard in enumerate(names)]
    known = {
        name: _stored_model(name, settings.data_dir)
        for name in vocabulary.text_vocabulary_names(problems)
        if name not in specs and vocabulary.vocabulary_spec(name).kind != "byte"
    }
    with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
        made = (
            pipeline
            | "parts" >> beam.Create(parts)
            | "spread" >> beam.Reshuffle()
            | "generate"
            >> beam.FlatMap(_generate, settings).with_outputs(_PART, main="raw")
        )
        described = beam.pvalue.AsDict(
            made[_PART]
            | "by split" >> beam.GroupByKey()
            | beam.Map(_described, settings)
        )
        learned = (
            made["raw"]
            | "choose text" >> beam.FlatMap(_chosen_text, described, sources, settings)
            | "by vocabulary" >> beam.GroupByKey()
            | "learn" >> beam.Map(_learned, specs, sources, settings)
        )
        models = beam.pvalue.AsDict(
            (learned, pipeline | "known" >> beam.Create(list(known.items())))
            | "vocabularies" >> beam.Flatten()
        )
        placed = made["raw"] | "place" >> beam.FlatMap(
            _placed, described, set(jobs), settings
        )
        empty = (
            pipeline
            | "jobs" >> beam.Create(jobs)
            | "every shard" >> beam.FlatMap(_every_shard, described, settings)
        )
        _ = (
            (placed, empty)
            | "all places" >> beam.Flatten()
            | "by shard" >> beam.GroupByKey()
            | "write" >> beam.Map(_written, models, settings)
            | "by problem" >> beam.GroupByKey()
            | "finish" >> beam.Map(_finished, described, models, settings)
        )


def _generate(task: tuple, settings: _Settings) -> Iterator[Any]:
    """Yields ((problem, split), (part, number, raw example)); tells how many."""
    name, split, part, shard = task
    problem = settings.problem(name)
    fetch_all(problem.downloads, settings.tmp_dir, progress=False)
    dropped = raw_examples.Dropped()
    size = number = 0
    source = raw_splits.raw_records(problem, split, shard, settings.tmp_dir, dropped)
    for number, record in enumerate(source, 1):
        size += len(record)
        yield (name, split), (part, number - 1, record)
    told = {"examples": number, "bytes": size, "dropped": dropped.described()}
    yield beam.pvalue.TaggedOutput(_PART, ((name, split), (part, told)))


def _described(item: tuple, settings: _Settings) -> tuple[Any, Any]:
    """Gives (job, (numbers that parts begin with, what the split holds))."""
    (name, split), parts = item
    told = [one for _, one in sorted(parts, key=lambda pair: pair[0])]
    begins = np.cumsum([0, *(one["examples"] for one in told)]).tolist()
    whole = raw_splits.gathered(settings.problem(name), split, (), told)
    return (name, split), (begins, whole)


def _chosen_text(
    item: tuple, described: dict, sources: dict, settings: _Settings
) -> Iterator[tuple[Any, Any]]:
    """Yields (vocabulary, (place of the source, number, texts)) if it is chosen."""
    (name, split), (part, number, record) = item
    if split != "train":
        return
    begins, whole = described[name, split]
    number += begins[part]
    for word, names in sources.items():
        if name in names and number in _choice(
            word, name, whole.examples, len(names), settings.seed
        ):
            problem = settings.problem(name)
            texts = list(vocabulary_learning.texts_of(word, problem, [record]))
            yield word, (names.index(name), number, texts)


@functools.lru_cache(maxsize=8)
def _choice(word: str, name: str, examples: int, num_sources: int, seed: int) -> set:
    chosen = vocabulary_learning.chosen_numbers(word, name, examples, num_sources, seed)
    return set(chosen.tolist())


def _learned(
    item: tuple, specs: dict, sources: dict, settings: _Settings
) -> tuple[Any, Any]:
    """Learns a vocabulary and writes its files; gives (name, content)."""
    name, found = item
    settings.problem(sources[name][0])
    ordered = sorted(found, key=lambda one: one[:2])
    texts = (text for _, _, some in ordered for text in some)
    with tempfile.TemporaryDirectory() as folder:
        vocabulary_learning.learn_vocabulary(
            name, specs[name], texts, folder, seed=settings.seed
        )
        path = vocabulary.vocabulary_path(folder, name)
        _publish([path, path + ".json"], settings.data_dir)
        with open(path, "rb") as file:
            return name, file.read()


def _placed(
    item: tuple, described: dict, jobs: set, settings: _Settings
) -> Iterator[tuple[Any, Any]]:
    """Yields ((problem, split, shard, shards), (place in it, raw example))."""
    (name, split), (part, number, record) = item
    if (name, split) not in jobs:
        return
    begins, whole = described[name, split]
    of = datagen.number_of_shards(split, whole.bytes, settings.num_shards)
    shard_of, place_of = _places(name, split, settings.seed, whole.examples, of)
    number += begins[part]
    yield (name, split, int(shard_of[number]), of), (int(place_of[number]), record)


@functools.lru_cache(maxsize=8)
def _places(
    name: str, split: str, seed: int, examples: int, num_shards: int
) -> tuple[np.ndarray, np.ndarray]:
    """Gives for each raw example its shard and its place there."""
    shard_of, place_of = np.zeros((2, examples), np.int64)
    order = shards.shard_order(name, split, seed, examples, num_shards)
    for shard, numbers in enumerate(order):
        shard_of[numbers] = shard
        place_of[numbers] = np.arange(len(numbers))
    return shard_of, place_of


def _every_shard(
    job: tuple, described: dict, settings: _Settings
) -> Iterator[tuple[Any, Any]]:
    """Yields each shard without an example, so that empty ones are written, too."""
    name, split = job
    size = described[name, split][1].bytes
    of = datagen.number_of_shards(split, size, settings.num_shards)
    yield from (((name, split, shard, of), None) for shard in range(of))


def _written(item: tuple, models: dict, settings: _Settings) -> tuple[Any, Any]:
    """Writes a shard; gives (problem, (split, shard, entry, rows))."""
    (name, split, shard, of), found = item
    problem = settings.problem(name)
    ordered = sorted((one for one in found if one is not None), key=lambda one: one[0])
    words = {
        one: SubwordVocabulary(one, models[one])
        if one in models
        else load_vocabulary(one, settings.data_dir)
        for one in vocabulary.text_vocabulary_names([problem])
    }
    examples = [record for _, record in ordered]
    chunks = (examples[i : i + 512] for i in range(0, len(examples), 512))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, manifests.shard_name(name, split, shard, of))
        rows = shards.write_records(problem, shard, chunks, words, path)
        entry = shards.described_file(path) | {"examples": len(rows)}
        _publish([path], settings.data_dir)
    return name, (split, shard, entry, rows)


def _finished(item: tuple, described: dict, models: dict, settings: _Settings) -> None:
    """Writes indexes and manifest of a problem."""
    name, found = item
    problem = settings.problem(name)
    splits: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        for word, content in models.items():
            write_atomically(vocabulary.vocabulary_path(folder, word), content)
        paths = []
        for split in problem.splits:
            mine = sorted((one for one in found if one[0] == split), key=_by_shard)
            index = np.concatenate([rows for *_, rows in mine])
            paths.append(os.path.join(folder, manifests.index_name(name, split)))
            write_array(paths[-1], index)
            splits[split] = datagen.described_split(
                problem,
                index,
                shards.described_file(paths[-1]),
                [entry for _, _, entry, _ in mine],
                described[name, split][1].dropped,
            )
        manifests.write_manifest(problem, folder, splits, settings.seed)
        _publish([*paths, manifests.manifest_path(folder, name)], settings.data_dir)


def _by_shard(written: tuple) -> int:
    return written[1]


def _publish(paths: Iterable[str], data_dir: str) -> None:
    """Copies files to where data goes: under another name, then renamed."""
    for path in paths:
        final = FileSystems.join(data_dir, os.path.basename(path))
        aside = FileSystems.join(
            data_dir, f".{os.path.basename(path)}.{os.urandom(4).hex()}.partial"
        )
        with (
            open(path, "rb") as source,
            FileSystems.create(
                aside, compression_type=CompressionTypes.UNCOMPRESSED
            ) as target,
        ):
            shutil.copyfileobj(source, target)
        FileSystems.rename([aside], [final])


def _stored_model(name: str, data_dir: str) -> bytes:
    with open(vocabulary.vocabulary_path(data_dir, name), "rb") as file:
        return file.read()


def _read_manifest(data_dir: str, problem: Problem) -> dict:
    """Reads a manifest back from an address."""
    name = os.path.basename(manifests.manifest_path("", problem.name))
    with tempfile.TemporaryDirectory() as folder:
        with (
            FileSystems.open(FileSystems.join(data_dir, name)) as source,
            open(os.path.join(folder, name), "wb") as target,
        ):
            shutil.copyfileobj(source, target)
        return manifests.read_manifest(folder, problem)
