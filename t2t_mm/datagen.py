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
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tqdm

from t2t_mm import manifests, registry, shards, vocabulary, vocabulary_learning
from t2t_mm.downloads import fetch_all
from t2t_mm.files import write_atomically
from t2t_mm.manifests import check_manifest, read_manifest
from t2t_mm.problem import Problem, get_problem
from t2t_mm.workers import Workers, available_cores

__all__ = ["check_manifest", "generate_data", "read_manifest"]

# T2T's default of the same flag.
DEFAULT_SEED = 429459
TRAIN_SHARDS = 10
# A larger shard is cut up: one should copy in seconds and be shuffled in memory.
MAX_SHARD_BYTES = 128 << 20


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
    specs = vocabulary_learning.stale_vocabularies(
        problems, settings.data_dir, settings.seed
    )
    unfinished = []
    for problem in problems:
        reason = _reason_to_generate(problem, settings, ignore=tuple(specs))
        if reason:
            unfinished.append(problem)
        elif set(specs) & set(vocabulary.text_vocabulary_names([problem])):
            reason = "finished before, but its vocabulary must be learned again"
        settings.say(f"{problem.name}: {reason or 'finished before, skipped'}")
    if not unfinished and not specs:
        return
    sources = {
        name: [one.name for one in vocabulary_learning.vocabulary_sources(name, spec)]
        for name, spec in specs.items()
    }
    read_for_text = list(dict.fromkeys(sum(sources.values(), [])))
    modules = _modules([*problems, *map(get_problem, read_for_text)])
    if num_processes is None:
        num_processes = available_cores()
    with Workers(num_processes, modules, progress=settings.progress) as workers:
        jobs = _jobs(unfinished) + [(name, "train") for name in read_for_text]
        counts = _generate(jobs, settings, workers)
        for name, spec in specs.items():
            settings.say(f"vocabulary {name}: learning from {', '.join(sources[name])}")
            raw_paths = {one: settings.raw_path(one, "train") for one in sources[name]}
            texts = vocabulary_learning.training_texts(name, raw_paths, settings.seed)
            vocabulary_learning.learn_vocabulary(
                name, spec, texts, settings.data_dir, seed=settings.seed
            )
        # Those that fitted, until a vocabulary was learned again.
        late = [
            one
            for one in problems
            if one not in unfinished and _reason_to_generate(one, settings)
        ]
        if missing := [job for job in _jobs(late) if job not in counts]:
            counts |= _generate(missing, settings, workers)
        _write([*unfinished, *late], counts, settings, workers)


def _jobs(problems: Sequence[Problem]) -> list[tuple[str, str]]:
    return [(one.name, split) for one in problems for split in one.splits]


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
    problems = [get_problem(name) for name in dict.fromkeys(name for name, _ in jobs)]
    downloads = dict.fromkeys(one for each in problems for one in each.downloads)
    fetch_all(list(downloads), settings.tmp_dir, progress=settings.progress)
    tasks = [(*job, settings.raw_path(*job), settings.tmp_dir) for job in jobs]
    done = workers.run(shards.generate_split, tasks, label="generate")
    return {jobs[place]: number for place, number in done}


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
        waiting[problem.name] = {}
        for split in problem.splits:
            raw_path = settings.raw_path(problem.name, split)
            num_shards = _num_shards(split, raw_path, settings.num_shards)
            waiting[problem.name][split] = [None] * num_shards
            tasks += [
                (problem.name, split, shard, num_shards, raw_path)
                + (settings.data_dir, settings.seed)
                for shard in range(num_shards)
            ]
    total = sum(counts[job] for job in _jobs(problems))
    done = workers.run(shards.write_shard, tasks, label="write", total=total)
    for place, result in done:
        name, split, shard = tasks[place][:3]
        waiting[name][split][shard] = result
        if all(None not in results for results in waiting[name].values()):
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


def _finish(problem: Problem, written: dict[str, list], settings: _Settings) -> None:
    """Writes the index of each split, then the manifest."""
    splits = {}
    for split, results in written.items():
        index = np.concatenate([rows for _, rows in results])
        index_path = os.path.join(
            settings.data_dir, manifests.index_name(problem.name, split)
        )
        shards.write_array(index_path, index)
        entries = [entry for entry, _ in results]
        splits[split] = {
            "examples": len(index),
            "bytes": sum(entry["bytes"] for entry in entries),
            "lengths": manifests.describe_lengths(problem, index),
            "index": shards.described_file(index_path),
            "shards": entries,
        }
    manifests.write_manifest(problem, settings.data_dir, splits, settings.seed)
