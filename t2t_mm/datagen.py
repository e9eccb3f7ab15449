"""`Problem.generate` -> shuffled TFRecord shards, an index and a manifest.

Called by mm-datagen and mm-trainer. The stages, each over all problems at once:

  fetch      downloads, checked against their sha256
  generate   raw examples, a process per split, into the folder `.generating`
  learn      the vocabularies that are not there yet, from the raw training text
  write      shards: a seeded permutation of the whole split, text as ids

Every file is written aside and renamed, a problem's manifest last. So an interrupted
run leaves finished problems, which the next run skips, and nothing else that counts.
The same seed gives the same bytes whatever the number of processes. No TensorFlow.
"""

import contextlib
import functools
import os
import re
import shutil
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tqdm

from t2t_mm import manifests, records, registry, vocabulary
from t2t_mm.downloads import fetch_all
from t2t_mm.files import sha256_of, write_atomically, written_aside
from t2t_mm.manifests import check_manifest, read_manifest
from t2t_mm.problem import TEXT, Problem, get_problem
from t2t_mm.vocabulary import VocabularySpec
from t2t_mm.workers import Workers, available_cores, count

__all__ = ["check_manifest", "generate_data", "read_manifest"]

# T2T's default of the same flag.
DEFAULT_SEED = 429459
TRAIN_SHARDS = 10
# A larger shard is cut up: one should copy in seconds and be shuffled in memory.
MAX_SHARD_BYTES = 128 << 20
# Examples whose text a vocabulary is learned from; more changes it little.
MAX_VOCABULARY_EXAMPLES = 400_000
_CHUNK = 512


@dataclass(frozen=True)
class _Settings:
    """What the stages of one run share."""

    data_dir: str
    tmp_dir: str
    folder: str
    seed: int
    num_shards: int | None
    progress: bool

    def say(self, text: str) -> None:
        if self.progress:
            tqdm.tqdm.write(text, file=sys.stderr)

    def raw_path(self, problem_name: str, split: str) -> str:
        return os.path.join(self.folder, f"{problem_name}-{split}.raw")


def generate_data(
    problem_names: Sequence[str],
    data_dir: str,
    tmp_dir: str,
    *,
    seed: int = DEFAULT_SEED,
    num_shards: int | None = None,
    num_processes: int | None = None,
    progress: bool = True,
) -> dict[str, dict]:
    """Makes the data of problems, unless it is there and fits.

    Data that another seed, version, feature, vocabulary or number of shards made is
    made again. Needs room for the data twice while it works.

    Args:
      problem_names: names of registered problems.
      data_dir: where shards, vocabularies and manifests go.
      tmp_dir: where downloads are kept.
      seed: of the shuffling, and of the choice of text for vocabularies.
      num_shards: of the train split; by default 10, more if they would be large.
      num_processes: by default one per core; 0 works in this process.
      progress: show on stderr what is done.

    Returns:
      The manifest of each problem.

    Raises:
      OSError: if a folder cannot be written, a download fails, or the disk is full.
      ValueError, TypeError: if a problem yields what it should not.
    """
    problems = [get_problem(name) for name in dict.fromkeys(problem_names)]
    _check_folder(data_dir, "data_dir")
    _check_folder(tmp_dir, "tmp_dir")
    with _work_folder(data_dir) as folder:
        settings = _Settings(data_dir, tmp_dir, folder, seed, num_shards, progress)
        _bring_up_to_date(problems, settings, num_processes)
    return {one.name: check_manifest(data_dir, one) for one in problems}


def _bring_up_to_date(
    problems: list[Problem], settings: _Settings, num_processes: int | None
) -> None:
    specs = _stale_vocabularies(problems, settings)
    unfinished = []
    for problem in problems:
        reason = _reason_to_generate(problem, settings, ignore=tuple(specs))
        settings.say(f"{problem.name}: {reason or 'finished before, skipped'}")
        if reason:
            unfinished.append(problem)
    if not unfinished and not specs:
        return
    sources = {name: _sources(name, spec) for name, spec in specs.items()}
    involved = {one.name: one for one in (*problems, *sum(sources.values(), []))}
    if num_processes is None:
        num_processes = available_cores()
    modules = _modules(list(involved.values()))
    with Workers(num_processes, modules, progress=settings.progress) as workers:
        jobs = [(one.name, split) for one in unfinished for split in one.splits]
        jobs += [(one.name, "train") for one in sum(sources.values(), [])]
        counts = _generate(jobs, settings, workers)
        for name, spec in specs.items():
            _learn(name, spec, sources[name], settings)
        # Those that fitted, until a vocabulary was learned again.
        late = [
            one
            for one in problems
            if one not in unfinished and _reason_to_generate(one, settings)
        ]
        jobs = [(one.name, split) for one in late for split in one.splits]
        counts |= _generate(
            [job for job in jobs if job not in counts], settings, workers
        )
        _write([*unfinished, *late], counts, settings, workers)


def _reason_to_generate(
    problem: Problem, settings: _Settings, *, ignore: Sequence[str] = ()
) -> str | None:
    """Gives why a problem's data must be made, or None if it is there and fits."""
    try:
        manifest = read_manifest(settings.data_dir, problem)
    except FileNotFoundError:
        return "to be made"
    except ValueError:
        return "made again, because its manifest is damaged"
    reason = manifests.fault(manifest, settings.data_dir, problem, ignore=ignore)
    if not reason and manifest["seed"] != settings.seed:
        reason = f"seed was {manifest['seed']} and is {settings.seed} now"
    num_shards = len(manifest["splits"].get("train", {}).get("shards", ()))
    if not reason and settings.num_shards and num_shards != settings.num_shards:
        reason = f"there are {num_shards} shards, not {settings.num_shards}"
    return f"made again, because {reason}" if reason else None


def _stale_vocabularies(
    problems: list[Problem], settings: _Settings
) -> dict[str, VocabularySpec]:
    """Gives the specs of vocabularies that must be learned."""
    stale = {}
    for name in vocabulary.text_vocabulary_names(problems):
        spec = vocabulary.vocabulary_spec(name)
        if spec.kind == "byte":
            continue
        stored = vocabulary.read_origin(name, settings.data_dir)
        now = _origin(_sources(name, spec), settings.seed)
        if (
            stored is None
            or VocabularySpec(**_tuples(stored["spec"])) != spec
            or stored["origin"]["seed"] != now["seed"]
            # A problem registered since does not change what others were made with.
            or any(
                version != now["versions"].get(one, version)
                for one, version in stored["origin"]["versions"].items()
            )
        ):
            stale[name] = spec
    return stale


def _tuples(spec: dict) -> dict:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in spec.items()}


def _origin(sources: list[Problem], seed: int) -> dict:
    return {"seed": seed, "versions": {one.name: one.version for one in sources}}


def _sources(name: str, spec: VocabularySpec) -> list[Problem]:
    """Gives the problems whose training text a vocabulary is learned from."""
    if spec.problems:
        return [get_problem(one) for one in sorted(spec.problems)]
    everyone = [get_problem(one) for one in registry.problems.names()]
    return [one for one in everyone if name in vocabulary.text_vocabulary_names([one])]


def _modules(problems: list[Problem]) -> list[str]:
    """Gives the modules that register the problems and their vocabularies."""
    names = {type(one).__module__ for one in problems}
    names |= {
        registry.vocabularies.get(one).__module__
        for one in vocabulary.text_vocabulary_names(problems)
        if one in registry.vocabularies
    }
    return sorted(names - {"__main__"})


def _check_folder(path: str, flag: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
        write_atomically(os.path.join(path, ".writable"), b"")
        os.remove(os.path.join(path, ".writable"))
    except OSError as error:
        raise OSError(
            f"--{flag}={path} cannot be written ({error.strerror}); a folder was "
            "expected that you may write to and that has room. Choose another."
        ) from error


@contextlib.contextmanager
def _work_folder(data_dir: str) -> Iterator[str]:
    """Gives an empty folder for raw examples; one run at a time may have it."""
    folder = os.path.join(data_dir, ".generating")
    with open(os.path.join(data_dir, ".datagen.lock"), "w") as lock:
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OSError(
                    f"Another mm-datagen is at work in {data_dir}; one at a time was "
                    "expected. Wait for it, or choose another --data_dir."
                ) from None
        for name in os.listdir(data_dir):
            if name.startswith(".") and name.endswith(".partial"):
                os.remove(os.path.join(data_dir, name))
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _generate(
    jobs: list[tuple[str, str]], settings: _Settings, workers: Workers
) -> dict[tuple[str, str], int]:
    """Fetches downloads and makes raw examples; gives how many by problem and split."""
    jobs = list(dict.fromkeys(jobs))
    if not jobs:
        return {}
    problems = [get_problem(name) for name in dict.fromkeys(name for name, _ in jobs)]
    downloads = dict.fromkeys(one for each in problems for one in each.downloads)
    fetch_all(list(downloads), settings.tmp_dir, progress=settings.progress)
    tasks = [(*job, settings.raw_path(*job), settings.tmp_dir) for job in jobs]
    done = workers.run(_generate_split, tasks, label="generate")
    return {jobs[place]: number for place, number in done}


def _generate_split(problem_name: str, split: str, path: str, tmp_dir: str) -> int:
    """Writes the raw examples of a split, and where each lies; gives how many."""
    problem = get_problem(problem_name)
    places = []
    with records.RecordWriter(path) as writer:
        number = 0
        try:
            for number, example in enumerate(problem.generate(split, tmp_dir)):
                values = records.raw_values(problem, split, number, example)
                record = records.pack(values)
                places.append((writer.write(record), len(record)))
                if number % 64 == 63:
                    count(64)
        except Exception as error:
            error.add_note(
                f"While generating problem '{problem_name}', split '{split}', near "
                f"example {number}."
            )
            raise
    count(len(places) % 64)
    if not places:
        raise ValueError(
            f"Problem '{problem_name}' yields no example for split '{split}'; at least "
            f"one was expected in each of {', '.join(problem.splits)}. Correct "
            "`generate`, or `test_splits`."
        )
    np.save(path + ".npy", np.array(places, np.int64))
    return len(places)


def _learn(
    name: str, spec: VocabularySpec, sources: list[Problem], settings: _Settings
) -> None:
    settings.say(f"vocabulary {name}: learned from {len(sources)} problems")
    texts = _training_texts(name, sources, settings)
    origin = _origin(sources, settings.seed)
    learned = vocabulary.learn_vocabulary(
        name, spec, texts, settings.data_dir, origin=origin
    )
    settings.say(f"vocabulary {name}: {learned.size} ids")


def _training_texts(
    name: str, sources: list[Problem], settings: _Settings
) -> Iterator[str]:
    """Yields the text of a bounded, seeded choice of training examples."""
    most = MAX_VOCABULARY_EXAMPLES // len(sources)
    for problem in sources:
        columns = [
            column
            for column, feature in problem.features.items()
            if feature.modality == TEXT and feature.vocabulary == name
        ]
        path = settings.raw_path(problem.name, "train")
        places = np.load(path + ".npy")
        if len(places) > most:
            generator = _generator(settings.seed, name, problem.name)
            chosen = generator.choice(len(places), most, replace=False)
            places = places[np.sort(chosen)]
        file = records.RecordFile(path)
        for offset, size in places.tolist():
            example = records.unpack(file.read(offset, size))
            for column in columns:
                yield example[column].decode("utf-8")
        file.close()


def _generator(seed: int, *words: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32("/".join(words).encode())])


def _write(
    problems: list[Problem],
    counts: dict[tuple[str, str], int],
    settings: _Settings,
    workers: Workers,
) -> None:
    """Writes shards; an index per split and the manifest once a problem is complete."""
    tasks = []
    waiting: dict[str, dict[str, list]] = {}
    for problem in problems:
        _remove_old(problem.name, settings.data_dir)
        for split in problem.splits:
            raw = settings.raw_path(problem.name, split)
            num_shards = _num_shards(split, raw, settings.num_shards)
            waiting.setdefault(problem.name, {})[split] = [None] * num_shards
            tasks += [
                (problem.name, split, shard, num_shards, raw, settings)
                for shard in range(num_shards)
            ]
    total = sum(counts[one.name, split] for one in problems for split in one.splits)
    for place, result in workers.run(_write_shard, tasks, label="write", total=total):
        name, split, shard = tasks[place][:3]
        waiting[name][split][shard] = result
        if all(None not in shards for shards in waiting[name].values()):
            _finish(get_problem(name), waiting.pop(name), settings)


def _num_shards(split: str, raw: str, asked: int | None) -> int:
    if split == "train" and asked:
        return asked
    least = TRAIN_SHARDS if split == "train" else 1
    return max(least, -(-os.path.getsize(raw) // MAX_SHARD_BYTES))


def _remove_old(problem_name: str, data_dir: str) -> None:
    """Removes what an earlier run left of a problem, its manifest first."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(manifests.manifest_path(data_dir, problem_name))
    pattern = re.compile(
        re.escape(problem_name) + r"-\w+(-\d{5}-of-\d{5}|\.index\.npy)"
    )
    for name in os.listdir(data_dir):
        if pattern.fullmatch(name):
            os.remove(os.path.join(data_dir, name))


@functools.lru_cache(maxsize=16)
def _vocabulary(name: str, data_dir: str, fingerprint: str) -> vocabulary.Vocabulary:
    return vocabulary.load_vocabulary(name, data_dir)


def _write_shard(
    problem_name: str,
    split: str,
    shard: int,
    num_shards: int,
    raw: str,
    settings: _Settings,
) -> tuple[dict, np.ndarray]:
    """Writes one shard; gives its entry in the manifest and its rows of the index."""
    problem = get_problem(problem_name)
    vocabularies = {
        name: _vocabulary(
            name,
            settings.data_dir,
            manifests.vocabulary_fingerprint(name, settings.data_dir) or "",
        )
        for name in vocabulary.text_vocabulary_names([problem])
    }
    places = np.load(raw + ".npy")
    order = _generator(settings.seed, problem_name, split).permutation(len(places))
    mine = places[np.array_split(order, num_shards)[shard]].tolist()
    name = manifests.shard_name(problem_name, split, shard, num_shards)
    path = os.path.join(settings.data_dir, name)
    rows = [records.empty_index(problem)]
    file = records.RecordFile(raw)
    with (
        written_aside(path) as temporary,
        records.RecordWriter(temporary) as writer,
    ):
        for begin in range(0, len(mine), _CHUNK):
            chunk = [file.read(*place) for place in mine[begin : begin + _CHUNK]]
            rows.append(_write_chunk(problem, shard, chunk, vocabularies, writer))
            count(len(chunk))
    file.close()
    entry = {
        "name": name,
        "examples": len(mine),
        "bytes": os.path.getsize(path),
        "sha256": sha256_of(path),
    }
    return entry, np.concatenate(rows)


def _write_chunk(problem, shard, chunk, vocabularies, writer) -> np.ndarray:
    examples = [records.unpack(record) for record in chunk]
    rows = []
    for values in records.encoded_values(problem, examples, vocabularies):
        record = records.pack(values)
        offset = writer.write(record)
        rows.append([shard, offset, len(record), *records.lengths(problem, values)])
    return np.array(rows, np.int64)


def _finish(problem: Problem, written: dict[str, list], settings: _Settings) -> None:
    """Writes the index of each split, then the manifest."""
    splits = {}
    for split, results in written.items():
        index = np.concatenate([rows for _, rows in results])
        name = manifests.index_name(problem.name, split)
        path = os.path.join(settings.data_dir, name)
        with written_aside(path) as temporary, open(temporary, "wb") as file:
            np.save(file, index)
        shards = [entry for entry, _ in results]
        splits[split] = {
            "examples": len(index),
            "bytes": sum(entry["bytes"] for entry in shards),
            "lengths": manifests.describe_lengths(problem, index),
            "index": {
                "name": name,
                "bytes": os.path.getsize(path),
                "sha256": sha256_of(path),
            },
            "shards": shards,
        }
    manifests.write_manifest(problem, settings.data_dir, splits, settings.seed)
