"""The manifest of a problem's shards: what they hold, and whether they still fit.

Written last by datagen; whoever reads shards calls `check_manifest` first. Also
the one place that knows how shard files are called. Imports no TensorFlow.
"""

import hashlib
import json
import os
import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from t2t_mm.files import sha256_of, write_atomically
from t2t_mm.problem import AUDIO, TEXT, Problem, get_problem
from t2t_mm.records import LENGTHS
from t2t_mm.vocabulary import (
    load_vocabulary,
    text_vocabulary_names,
    vocabulary_path,
    vocabulary_spec,
)

# Raised whenever equal examples would be stored in another way than before.
GENERATOR_VERSION = 1
# Settings of a feature that decide its records. Pictures are stored as they came and
# resized when read, so that another size asks for no new data.
_STORED_SETTINGS = ("modality", "vocabulary", "labels", "sample_rate")
# What `check_contents` reads of a problem at most.
CHECKED_BYTES = 1 << 30
_UNITS = {TEXT: "tokens", AUDIO: "samples"}
# Manifests of the first release have none.
_CHECKSUM = "checksum"
_FILE = {"name": str, "bytes": int, "sha256": str}
_SPLIT = {"examples": int, "bytes": int, "lengths": dict, "index": dict, "shards": list}
_MANIFEST = {
    "problem": str,
    "version": int,
    "generator_version": int,
    "seed": int,
    "licence": str,
    "features": dict,
    "vocabularies": dict,
    "splits": dict,
}


def manifest_path(data_dir: str, problem_name: str) -> str:
    """Gives the path of a problem's manifest."""
    return os.path.join(data_dir, f"{problem_name}.manifest.json")


def shard_name(problem_name: str, split: str, shard: int, num_shards: int) -> str:
    """Gives a shard's file name.

    Example:
      >>> shard_name("digits", "train", 3, 10)
      'digits-train-00003-of-00010'
    """
    return f"{problem_name}-{split}-{shard:05d}-of-{num_shards:05d}"


def index_name(problem_name: str, split: str) -> str:
    """Gives the file name of a split's index."""
    return f"{problem_name}-{split}.index.npy"


def files_of(problem_name: str, data_dir: str) -> list[str]:
    """Gives the names of files that are called like shards or indexes of a problem."""
    pattern = re.compile(
        re.escape(problem_name) + r"-\w+(-\d{5}-of-\d{5}|\.index\.npy)"
    )
    return sorted(name for name in os.listdir(data_dir) if pattern.fullmatch(name))


def named_files(manifest: dict) -> set[str]:
    """Gives the names of the shards and indexes that a manifest names."""
    return {
        file["name"]
        for split in manifest["splits"].values()
        for file in (*split["shards"], split["index"])
    }


def seeded_generator(seed: int, *words: str) -> np.random.Generator:
    """Gives random numbers that the seed and the words decide."""
    return np.random.default_rng([seed, zlib.crc32("/".join(words).encode())])


def vocabulary_fingerprint(name: str, data_dir: str) -> str | None:
    """Gives the fingerprint of a stored vocabulary, or None where there is none."""
    if vocabulary_spec(name).kind == "byte":
        return load_vocabulary(name, data_dir).fingerprint
    path = vocabulary_path(data_dir, name)
    return sha256_of(path) if os.path.exists(path) else None


def described_features(problem: Problem) -> dict:
    """Gives what of a problem's features decides the records, as JSON holds it."""
    described = {
        name: {setting: getattr(one, setting) for setting in _STORED_SETTINGS}
        | ({"spelled": True} if one.spelled else {})
        for name, one in problem.features.items()
    }
    return json.loads(json.dumps(described))


def write_manifest(
    problem: Problem, data_dir: str, splits: dict[str, dict], seed: int
) -> None:
    """Writes a problem's manifest, which says that its data is complete.

    Args:
      problem: the problem.
      data_dir: where its shards and vocabularies are.
      splits: by split: "examples", "bytes", "shards", "index", "lengths".
      seed: that the examples were shuffled with.
    """
    manifest = {
        "problem": problem.name,
        "version": problem.version,
        "generator_version": GENERATOR_VERSION,
        "seed": seed,
        "licence": problem.licence,
        "features": described_features(problem),
        "vocabularies": {
            name: vocabulary_fingerprint(name, data_dir)
            for name in text_vocabulary_names([problem])
        },
        "splits": splits,
    }
    manifest[_CHECKSUM] = _checksum(manifest)
    content = json.dumps(manifest, indent=1)
    write_atomically(manifest_path(data_dir, problem.name), content.encode())


def _checksum(manifest: dict) -> str:
    """Gives the sha256 of all else that a manifest says."""
    rest = {key: value for key, value in manifest.items() if key != _CHECKSUM}
    content = json.dumps(rest, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def describe_lengths(problem: Problem, index: np.ndarray) -> dict[str, dict]:
    """Gives the longest and the mean length of each feature that has a length."""
    described = {}
    for column, (name, feature) in enumerate(problem.features.items(), LENGTHS):
        if feature.modality in _UNITS:
            described[name] = {
                "unit": _UNITS[feature.modality],
                "max": int(index[:, column].max()),
                "mean": round(float(index[:, column].mean()), 3),
            }
    return described


def read_manifest(data_dir: str, problem: Problem | str) -> dict:
    """Reads the manifest of a problem, or of a problem's name.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if it is no manifest.
    """
    name = problem if isinstance(problem, str) else problem.name
    reference = problem if isinstance(problem, str) else problem.reference
    path = manifest_path(data_dir, name)
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
        _check_form(manifest, name)
        return manifest
    except (FileNotFoundError, NotADirectoryError):
        if not os.path.isdir(data_dir):
            raise FileNotFoundError(
                f"There is no folder {data_dir}; the data of problem '{name}' was "
                "expected in it. Say with --data_dir where it is now, if it was moved. "
                f"If it is gone: {_remedy(reference, data_dir)}"
            ) from None
        raise FileNotFoundError(
            f"{path} is not there; the manifest of finished data was expected. "
            f"{_remedy(reference, data_dir)}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); the JSON that mm-datagen writes was "
            f"expected. Delete it. {_remedy(reference, data_dir)}"
        ) from error


def _check_form(manifest: Any, problem_name: str) -> None:
    """Raises ValueError unless this can be what `write_manifest` wrote."""
    _check_keys(manifest, "the manifest", _MANIFEST, {_CHECKSUM})
    if _CHECKSUM in manifest and manifest[_CHECKSUM] != _checksum(manifest):
        raise ValueError("it was changed since it was written")
    if manifest["problem"] != problem_name:
        raise ValueError(f"it is of problem '{manifest['problem']}'")
    for split, entry in manifest["splits"].items():
        _check_keys(entry, f"split '{split}'", _SPLIT, {"dropped"})
        _check_keys(entry["index"], f"index of '{split}'", _FILE)
        for shard in entry["shards"]:
            _check_keys(shard, f"a shard of '{split}'", _FILE | {"examples": int})
        number = len(entry["shards"])
        names = [shard_name(problem_name, split, i, number) for i in range(number)]
        found = [shard["name"] for shard in entry["shards"]]
        if found != names or entry["index"]["name"] != index_name(problem_name, split):
            raise ValueError(f"split '{split}' has files of other names")
        if entry["examples"] != sum(shard["examples"] for shard in entry["shards"]):
            raise ValueError(f"the examples of split '{split}' do not add up")


def _check_keys(
    value: Any, what: str, kinds: dict, optional: set[str] | None = None
) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no table")
    wrong = set(kinds) ^ (set(value) - (optional or set()))
    if wrong:
        raise ValueError(f"{what} lacks or should not have '{min(wrong)}'")
    for key, kind in kinds.items():
        if type(value[key]) is not kind:
            raise ValueError(f"'{key}' of {what} is {str(value[key])[:60]!r}")


def check_manifest(data_dir: str, problem: Problem | str) -> dict:
    """Gives the manifest, having checked that the data is whole and fits.

    Args:
      data_dir: where mm-datagen put the data.
      problem: the problem, or its registered name.

    Raises:
      FileNotFoundError: if there is no manifest.
      ValueError: if a file is missing or has another size, or the problem or a
        vocabulary has changed since.
    """
    if isinstance(problem, str):
        problem = get_problem(problem)
    manifest = read_manifest(data_dir, problem)
    found = fault(manifest, data_dir, problem)
    if found:
        raise ValueError(
            f"The data of problem '{problem.name}' in {data_dir} does not fit: "
            f"{found}. {_remedy(problem.reference, data_dir)}"
        )
    return manifest


def check_contents(manifest: dict, data_dir: str, problem: Problem) -> None:
    """Checks each shard against its sha256, unless a problem has many large ones.

    Those of up to `CHECKED_BYTES` are read in a second or so. What is wrong with larger
    data is noticed when a record is read, or by `mm-datagen --verify`.

    Args:
      manifest: of the problem, checked.
      data_dir: where the shards are.
      problem: whose they are.

    Raises:
      ValueError: if a shard is not what mm-datagen wrote; names it.
    """
    shards = [one for split in manifest["splits"].values() for one in split["shards"]]
    if sum(one["bytes"] for one in shards) > CHECKED_BYTES:
        return
    for shard in shards:
        path = os.path.join(data_dir, shard["name"])
        if sha256_of(path) != shard["sha256"]:
            raise ValueError(
                f"{path} is damaged: it has not the content that mm-datagen wrote "
                "(--verify names the record). Delete the file. "
                f"{_remedy(problem.reference, data_dir)}"
            )


def fault(
    manifest: dict, data_dir: str, problem: Problem, *, ignore: Sequence[str] = ()
) -> str | None:
    """Gives what is wrong with a problem's data, or None.

    Args:
      manifest: of the problem.
      data_dir: where the shards are.
      problem: as it is now.
      ignore: vocabularies that may differ.
    """
    if (made_by := manifest["generator_version"]) != GENERATOR_VERSION:
        return f"generator_version was {made_by} and is {GENERATOR_VERSION} now"
    if manifest["version"] != problem.version:
        return problem.changed_version(manifest["version"])
    features = described_features(problem)
    if set(features) != set(manifest["features"]):
        return (
            f"the features were {', '.join(sorted(manifest['features']))} and are "
            f"{', '.join(sorted(features))} now"
        )
    for name, now in features.items():
        before = manifest["features"][name]
        for setting in dict.fromkeys([*now, *before]):
            if before.get(setting) != now.get(setting):
                return (
                    f"{setting} of feature '{name}' was {before.get(setting)} and is "
                    f"{now.get(setting)} now"
                )
    missing = set(problem.splits) - set(manifest["splits"])
    if missing:
        return f"split '{min(missing)}' is missing"
    for name in text_vocabulary_names([problem]):
        if name not in ignore and (
            manifest["vocabularies"].get(name) != vocabulary_fingerprint(name, data_dir)
        ):
            return f"vocabulary '{name}' is missing or was learned again since"
    for split in manifest["splits"].values():
        for file in (*split["shards"], split["index"]):
            wrong = _file_fault(os.path.join(data_dir, file["name"]), file["bytes"])
            if wrong:
                return wrong
    return None


def _file_fault(path: str, size: int) -> str | None:
    if not os.path.exists(path):
        return f"{path} is missing"
    if os.path.getsize(path) != size:
        return f"{path} has {os.path.getsize(path)} bytes, {size} were written"
    return None


def _remedy(reference: str, data_dir: str) -> str:
    return f"Run mm-datagen --problem={reference} --data_dir={data_dir}."
