"""`Problem.generate` -> shuffled TFRecord shards, an index and a manifest.

Called by mm-datagen and mm-trainer. The stages, each over all problems at once:

  fetch      downloads, checked against their sha256
  generate   raw examples, a process per split or source shard, into `.generating`
  learn      the vocabularies that are not there yet, from the raw training text
  write      shards: a seeded permutation of the whole split, text as ids

Every file is written aside and renamed, a problem's manifest last. So an interrupted
run leaves finished problems, which the next run skips, and nothing else that counts.
The same seed gives the same bytes whatever the number of processes, of tasks that share
the work on several machines (see `Task`), or of Beam workers. No TensorFlow.
"""

import contextlib
import hashlib
import os
import shutil
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import tqdm

from t2t_mm import (
    manifests,
    raw_splits,
    registry,
    shards,
    vocabulary,
    vocabulary_learning,
)
from t2t_mm.downloads import fetch_all
from t2t_mm.files import write_array
from t2t_mm.manifests import check_manifest, read_manifest
from t2t_mm.problem import Problem, get_problem
from t2t_mm.raw_splits import RawSplit
from t2t_mm.work_folder import Task, check_folders, work_folder
from t2t_mm.workers import Workers, available_cores

__all__ = ["Task", "check_manifest", "generate_data", "read_manifest"]

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
    task: Task
    progress: bool

    def say(self, text: str) -> None:
        if self.progress:
            tqdm.tqdm.write(text, file=sys.stderr)

    def raw_path(self, problem_name: str, split: str, part: int) -> str:
        return os.path.join(self.folder, f"{problem_name}-{split}-{part:05d}.raw")


def generate_data(
    problem_names: Sequence[str],
    data_dir: str,
    tmp_dir: str,
    *,
    seed: int = DEFAULT_SEED,
    num_shards: int | None = None,
    num_processes: int | None = None,
    task: Task | None = None,
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
      task: which share of the shards is made here; all of them by default. Whichever
        task is the last writes the manifests.
      progress: show on stderr what is done.

    Returns:
      The manifest of each problem that is finished: of every one, unless other tasks
      have yet to do their share.

    Raises:
      OSError: if a folder cannot be written, a download fails, or the disk is full.
      ValueError, TypeError: if a problem yields what it should not.
    """
    problems = [get_problem(name) for name in dict.fromkeys(problem_names)]
    task = task or Task()
    check_folders(data_dir=data_dir, tmp_dir=tmp_dir)
    job = _job_name(problems, seed, num_shards)
    with work_folder(data_dir, task, job) as folder:
        settings = _Settings(
            data_dir, tmp_dir, folder, seed, num_shards, task, progress
        )
        _bring_up_to_date(problems, settings, num_processes)
        if task.is_whole:
            return {one.name: check_manifest(data_dir, one) for one in problems}
        finished = {}
        for one in problems:
            if _reason_to_generate(one, settings):
                settings.say(f"{one.name}: other tasks have yet to do their share")
            else:
                finished[one.name] = check_manifest(data_dir, one)
        if len(finished) == len(problems):
            shutil.rmtree(folder, ignore_errors=True)
        return finished


def _job_name(problems: list[Problem], seed: int, num_shards: int | None) -> str:
    """Gives a word that tells apart jobs whose raw examples differ."""
    words = [
        (one.name, one.version, manifests.described_features(one)) for one in problems
    ]
    key = repr((manifests.GENERATOR_VERSION, words, seed, num_shards))
    return hashlib.sha256(key.encode()).hexdigest()[:12]


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
    modules = modules_of([*problems, *map(get_problem, read_for_text)])
    if num_processes is None:
        num_processes = available_cores()
    with Workers(num_processes, modules, progress=settings.progress) as workers:
        jobs = jobs_of(unfinished) + [(name, "train") for name in read_for_text]
        raw = _generate(jobs, settings, workers)
        for name, spec in specs.items():
            settings.say(f"vocabulary {name}: learning from {', '.join(sources[name])}")
            texts = vocabulary_learning.training_texts(
                name, {one: raw[one, "train"] for one in sources[name]}, settings.seed
            )
            vocabulary_learning.learn_vocabulary(
                name, spec, texts, settings.data_dir, seed=settings.seed
            )
        # Those that fitted, until a vocabulary was learned again.
        late = [
            one
            for one in problems
            if one not in unfinished and _reason_to_generate(one, settings)
        ]
        if missing := [job for job in jobs_of(late) if job not in raw]:
            raw |= _generate(missing, settings, workers)
        _write([*unfinished, *late], raw, settings, workers)


def jobs_of(problems: Sequence[Problem]) -> list[tuple[str, str]]:
    """Gives (problem, split) for every split of some problems."""
    return [(one.name, split) for one in problems for split in one.splits]


def unfinished_work(
    problems: list[Problem], data_dir: str, seed: int, num_shards: int | None
) -> tuple[list[Problem], dict[str, vocabulary.VocabularySpec]]:
    """Gives the problems whose data must be made, and the vocabularies to learn.

    A problem whose vocabulary must be learned again counts as unfinished.
    """
    specs = vocabulary_learning.stale_vocabularies(problems, data_dir, seed)
    settings = _Settings(data_dir, "", "", seed, num_shards, Task(), False)
    unfinished = [
        one
        for one in problems
        if _reason_to_generate(one, settings)
        or set(specs) & set(vocabulary.text_vocabulary_names([one]))
    ]
    return unfinished, specs


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
    made = os.path.getmtime(manifests.manifest_path(settings.data_dir, problem.name))
    if not reason and (newer := problem.changed_since(made)):
        reason = f"{newer} changed since"
    num_shards = len(manifest["splits"].get("train", {}).get("shards", ()))
    if not reason and settings.num_shards and num_shards != settings.num_shards:
        reason = f"there are {num_shards} shards, not {settings.num_shards}"
    return f"made again, because {reason}" if reason else None


def modules_of(problems: list[Problem]) -> list[str]:
    """Gives the modules that register some problems and their vocabularies."""
    names = {one.origin for one in problems}
    names |= {
        registry.vocabularies.get(one).__module__
        for one in vocabulary.text_vocabulary_names(problems)
        if one in registry.vocabularies
    }
    return sorted(names - {"__main__"})


def _generate(
    jobs: list[tuple[str, str]], settings: _Settings, workers: Workers
) -> dict[tuple[str, str], RawSplit]:
    """Fetches downloads and makes raw examples, by problem and split."""
    jobs = list(dict.fromkeys(jobs))
    problems = [get_problem(name) for name in dict.fromkeys(name for name, _ in jobs)]
    downloads = dict.fromkeys(one for each in problems for one in each.downloads)
    fetch_all(list(downloads), settings.tmp_dir, progress=settings.progress)
    paths: dict[tuple[str, str], list[str]] = {}
    tasks = []
    for name, split in jobs:
        names = raw_splits.source_shards(get_problem(name), split, settings.tmp_dir)
        paths[name, split] = [
            settings.raw_path(name, split, part) for part in range(len(names))
        ]
        tasks += [
            (name, split, shard, path, settings.tmp_dir)
            for shard, path in zip(names, paths[name, split], strict=True)
        ]
    tasks = settings.task.rotated(tasks)
    parts: dict[str, dict] = {}
    gathered = {}
    for place, part in workers.run(raw_splits.generate_part, tasks, label="generate"):
        name, split, _, path, _ = tasks[place]
        parts[path] = part
        mine = paths[name, split]
        if all(one in parts for one in mine):
            whole = raw_splits.gathered(
                get_problem(name), split, mine, [parts[one] for one in mine]
            )
            gathered[name, split] = whole
            if whole.dropped:
                settings.say(_dropped_line(name, split, whole))
    return gathered


def _dropped_line(problem_name: str, split: str, raw: RawSplit) -> str:
    reasons = raw.dropped["reasons"]
    dropped = sum(reasons.values())
    counts = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
    return (
        f"{problem_name}: {dropped:,} of {raw.examples + dropped:,} examples of split "
        f"'{split}' dropped ({counts}). The first: {raw.dropped['first']}"
    )


def _write(
    problems: list[Problem],
    raw: dict[tuple[str, str], RawSplit],
    settings: _Settings,
    workers: Workers,
) -> None:
    """Writes shards; an index per split and the manifest once a problem is complete."""
    if not settings.task.is_whole:
        # Another task may have finished some in the meantime.
        problems = [one for one in problems if _reason_to_generate(one, settings)]
    tasks = []
    for problem in problems:
        with contextlib.suppress(FileNotFoundError):
            os.remove(manifests.manifest_path(settings.data_dir, problem.name))
        if settings.task.is_whole:
            remove_others(problem.name, settings.data_dir, keep=())
        for split in problem.splits:
            whole = raw[problem.name, split]
            num_shards = number_of_shards(split, whole.bytes, settings.num_shards)
            tasks += [
                (problem.name, split, shard, num_shards, whole.paths)
                + (settings.data_dir, settings.folder, settings.seed)
                for shard in range(num_shards)
            ]
    mine = tasks[settings.task.number :: settings.task.of]
    total = None
    if settings.task.is_whole:
        total = sum(raw[job].examples for job in jobs_of(problems))
    left = Counter(name for name, *_ in mine)
    for place, _ in workers.run(shards.write_shard, mine, label="write", total=total):
        name = mine[place][0]
        left[name] -= 1
        if not left[name]:
            _finish(get_problem(name), tasks, raw, settings)


def number_of_shards(split: str, size: int, asked: int | None) -> int:
    """Gives the number of shards of a split of some bytes; `asked` is for train."""
    if split == "train" and asked:
        return asked
    least = TRAIN_SHARDS if split == "train" else 1
    return max(least, -(-size // MAX_SHARD_BYTES))


def remove_others(problem_name: str, data_dir: str, keep: Collection[str]) -> None:
    """Removes shards and indexes of a problem but those named in `keep`."""
    for name in set(manifests.files_of(problem_name, data_dir)) - set(keep):
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(data_dir, name))


def _finish(
    problem: Problem,
    tasks: Sequence[tuple],
    raw: dict[tuple[str, str], RawSplit],
    settings: _Settings,
) -> None:
    """Writes each index and the manifest, unless a shard is still to be written."""
    splits = {}
    keep = set()
    for split in problem.splits:
        written = [
            shards.finished_shard(
                settings.folder, manifests.shard_name(problem.name, split, *numbers)
            )
            for name, of, *numbers in (task[:4] for task in tasks)
            if (name, of) == (problem.name, split)
        ]
        finished = [one for one in written if one is not None]
        if len(finished) < len(written):
            return
        index = np.concatenate([rows for _, rows in finished])
        path = os.path.join(
            settings.data_dir, manifests.index_name(problem.name, split)
        )
        write_array(path, index)
        splits[split] = described_split(
            problem,
            index,
            shards.described_file(path),
            [entry for entry, _ in finished],
            raw[problem.name, split].dropped,
        )
        keep |= {os.path.basename(path), *(entry["name"] for entry, _ in finished)}
    remove_others(problem.name, settings.data_dir, keep)
    manifests.write_manifest(problem, settings.data_dir, splits, settings.seed)


def described_split(
    problem: Problem,
    index: np.ndarray,
    index_file: dict,
    entries: Sequence[dict],
    dropped: dict,
) -> dict:
    """Gives what a manifest holds of a split.

    Args:
      problem: whose split.
      index: of the split.
      index_file: its file, as `shards.described_file` gives it.
      entries: of the shards, in order.
      dropped: bad examples that were left out.
    """
    return {
        "examples": len(index),
        "bytes": sum(entry["bytes"] for entry in entries),
        "lengths": manifests.describe_lengths(problem, index),
        "index": index_file,
        "shards": list(entries),
    } | ({"dropped": dropped} if dropped else {})
