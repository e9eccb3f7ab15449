"""What a run is: its model, hparams and data, as asked for and as kept in its folder.

The trainer settles them once (`settle`), writes hparams.json, run.json and
operative_config.gin, and refuses to go on with a run under other settings. Every later
command reads run.json with `load_run_record`. Imports no TensorFlow.
"""

import contextlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from t2t_mm import configuration, declared_problems, locks, run_vocabularies
from t2t_mm.configuration import HParams
from t2t_mm.files import write_atomically
from t2t_mm.mixture import Mixture, get_problems, parse_problems
from t2t_mm.run_history import RUN_FILE

DEFAULT_SEED = 1
_DATA_FROM_RUN = "data_dir_from_run"
_LOCK_FILE = ".mm-trainer.lock"
_PLACE = "expected a folder, or a place for a new one"
_VERSIONED = ("t2t_mm", "tensorflow", "keras", "numpy", "sentencepiece")


@dataclass(frozen=True)
class Request:
    """What the user asked for; None where the run's own setting should stand.

    Args:
      model: name of a registered model.
      hparams_set: name of a registered set.
      hparams: changes to the set, as text "a=1,b=2" or by field.
      problem: a problem, a mixture or a comma list.
      data_dir: folder of the shards.
      random_seed: of initial weights, data order, mixture and dropout.
      freeze: the hparam of that name.
    """

    model: str | None = None
    hparams_set: str | None = None
    hparams: str | Mapping[str, Any] = ""
    problem: str | None = None
    data_dir: str | None = None
    random_seed: int | None = None
    freeze: str | None = None


@dataclass(frozen=True)
class Settings:
    """What holds for a run.

    Args:
      model, hparams_set, hparams, data_dir, random_seed: as asked for or as kept.
      mixture: the problems.
      is_new: whether the folder holds no run yet.
    """

    model: str
    hparams_set: str
    hparams: HParams
    mixture: Mixture
    data_dir: str
    random_seed: int
    is_new: bool


def load_run_record(run_dir: str) -> dict[str, Any] | None:
    """Reads `<run_dir>/run.json`.

    Returns:
      {"model", "hparams_set", "problems", "rates", "data_dir", "random_seed",
      "train_steps", "vocabularies", "longest_targets", "versions",
      "declarations"}, or None where there is no such file. "data_dir" is where the
      data lies now, if run and data were moved together; else where it lay. Problems
      that were declared in a file are registered again.

    Raises:
      ValueError: if the file is not one that the trainer wrote.
    """
    path = os.path.join(run_dir, RUN_FILE)
    if not os.path.exists(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        for key in ("model", "problems", "rates", "data_dir", "random_seed"):
            record[key]
        record["data_dir"] = _found_data_dir(record, run_dir)
        declared_problems.restore_all(record.get("declarations", {}))
    except (UnicodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error!r}); expected the JSON that mm-trainer "
            "writes. Restore the file, or train into another --output_dir."
        ) from error
    return record


def save_run_record(record: Mapping[str, Any], run_dir: str) -> None:
    """Writes `<run_dir>/run.json`, which says where the data lies in two ways.

    The full path serves every working directory, the way from the run's folder a run
    and data that were moved together.
    """
    data_dir = os.path.abspath(record["data_dir"])
    way = os.path.relpath(data_dir, os.path.abspath(run_dir))
    record = {**record, "data_dir": data_dir, _DATA_FROM_RUN: way}
    path = os.path.join(run_dir, RUN_FILE)
    write_atomically(path, json.dumps(record, indent=1).encode())


def _found_data_dir(record: Mapping[str, Any], run_dir: str) -> str:
    saved = str(record["data_dir"])
    if _DATA_FROM_RUN in record and not os.path.isdir(saved):
        moved = os.path.normpath(
            os.path.join(os.path.abspath(run_dir), record[_DATA_FROM_RUN])
        )
        if os.path.isdir(moved):
            return moved
    return saved


def settle(request: Request, run_dir: str) -> Settings:
    """Joins what was asked for with what the run's folder keeps.

    Raises:
      UnknownNameError: if a name is not registered.
      OSError: if the folder is a file, lies below one, or cannot be written; or if
        its run lacks a file.
      ValueError: if something is missing, or differs from the run's own setting; names
        the fields.
    """
    _check_place(run_dir)
    record = load_run_record(run_dir) or {}
    if "averaged_from" in record:
        raise ValueError(
            f"{run_dir} is an average that mm-average made; expected a run, since an "
            "average has no optimizer or data position to go on with. Train into "
            f"another --output_dir, with --warm_start_from={run_dir}."
        )
    saved = configuration.load_hparams(run_dir) if record else None
    if record and not saved:
        raise FileNotFoundError(
            f"{run_dir} has {RUN_FILE} and no {configuration.HPARAMS_FILE}; expected "
            "both, as mm-trainer writes them. Restore the file, or use another "
            "--output_dir."
        )
    named_set = request.hparams_set or (saved[1] if saved else None)
    problems = request.problem or ",".join(record.get("problems", ()))
    model = request.model or record.get("model")
    data_dir = request.data_dir or record.get("data_dir")
    given = _check_given(
        run_dir, model=model, hparams_set=named_set, problem=problems, data_dir=data_dir
    )
    hparams = _hparams(request, given["hparams_set"], saved)
    seed = request.random_seed
    if seed is None:
        seed = record.get("random_seed", DEFAULT_SEED)
    if not 0 <= seed < 2**32:
        raise ValueError(
            f"random_seed is {seed}; expected 0 to {2**32 - 1}. Set --random_seed to "
            "such a number, or leave it out for 1."
        )
    mixture = parse_problems(problems)
    if not request.problem and record:
        mixture = Mixture(mixture.problems, record["rates"])
    settings = Settings(
        model=given["model"],
        hparams_set=given["hparams_set"],
        hparams=hparams,
        mixture=mixture,
        data_dir=given["data_dir"],
        random_seed=seed,
        is_new=not record,
    )
    if record:
        _check_record(
            record,
            {"model": model, "problems": list(mixture.problems), "random_seed": seed},
            run_dir,
        )
        declared_problems.check_same(record.get("declarations", {}), run_dir)
    if saved:
        configuration.check_same(saved[0], hparams, run_dir)
    return settings


def only_trainer_in(run_dir: str) -> contextlib.AbstractContextManager[None]:
    """Within it, no other process trains into the folder, which is made.

    Raises:
      OSError: if another one does already, or the folder cannot be written.
    """
    try:
        os.makedirs(run_dir, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"--output_dir={run_dir} cannot be made ({error.strerror}); {_PLACE}. "
            "Choose another."
        ) from error
    return locks.alone(
        os.path.join(run_dir, _LOCK_FILE),
        f"Another mm-trainer is at work in {run_dir}; one at a time was expected, "
        "since both would write the same checkpoints. Wait for it, or choose another "
        "--output_dir.",
    )


def _check_place(run_dir: str) -> None:
    """Refuses a folder that cannot be written before there is anything to write."""
    if not run_dir:
        raise ValueError(f"output_dir came empty; {_PLACE}. Name one.")
    there = os.path.abspath(run_dir)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        which = "is" if os.path.abspath(run_dir) == there else f"lies below {there},"
        raise NotADirectoryError(
            f"--output_dir={run_dir} {which} a file; {_PLACE}. Choose another."
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(
            f"--output_dir={run_dir} came, and nothing may be written to {there}; "
            f"{_PLACE}. Choose another, or change its permissions."
        )


def _check_given(run_dir: str, **values: str | None) -> dict[str, str]:
    missing = [f"--{name}" for name, value in values.items() if not value]
    if missing:
        raise ValueError(
            f"{' '.join(missing)} did not come, and {run_dir} holds no run to go on "
            "with. Give them; mm-registry lists models, sets and problems."
        )
    return {name: str(value) for name, value in values.items()}


def _hparams(
    request: Request, named_set: str, saved: tuple[HParams, str] | None
) -> HParams:
    changes = request.hparams
    if isinstance(changes, str):
        named = configuration.named_hparams(named_set)
        changes = configuration.parse_overrides(changes, named)
    elif not isinstance(changes, Mapping):
        raise TypeError(
            f"hparams came as {changes!r}; expected a text such as 'hidden_size=64' or "
            "a mapping such as {'hidden_size': 64}. Write one of these."
        )
    if request.freeze is not None:
        if changes.get("freeze", request.freeze) != request.freeze:
            raise ValueError(
                f"freeze came as {request.freeze!r} and, in hparams, as "
                f"{changes['freeze']!r}; expected one pattern. Leave one out."
            )
        changes = {**changes, "freeze": request.freeze}
    if saved and not request.hparams_set:
        return configuration.override(saved[0], **changes)
    return configuration.configured_hparams(named_set, **changes)


def _check_record(
    record: Mapping[str, Any], asked: Mapping[str, Any], run_dir: str
) -> None:
    """Refuses to go on with a run under other settings; names the fields."""
    differing = [
        f"{name} (run {record.get(name)!r}, asked {value!r})"
        for name, value in asked.items()
        if record.get(name) != value
    ]
    if differing:
        raise ValueError(
            f"{run_dir} was started with other settings: {'; '.join(differing)}. "
            "Leave them as the run has them, or use another --output_dir."
        )


def save_run(
    settings: Settings,
    run_dir: str,
    *,
    rates: Mapping[str, float],
    vocabularies: Mapping[str, str],
    train_steps: int,
) -> None:
    """Writes run.json and hparams.json of a new run; checks those of an old one.

    Also keeps the vocabularies beside them, so that the folder is enough to answer.

    Args:
      settings: what `settle` gave.
      run_dir: the run's output directory.
      rates: share of steps by problem.
      vocabularies: fingerprint by vocabulary name.
      train_steps: the step at which training ends.

    Raises:
      ValueError: if rates or vocabularies differ from the run's; names them.
      OSError: if the folder cannot be written.
    """
    record = load_run_record(run_dir)
    facts = {"rates": dict(rates), "vocabularies": dict(vocabularies)}
    if record:
        _check_record(record, facts, run_dir)
    else:
        configuration.save_hparams(settings.hparams, settings.hparams_set, run_dir)
    problems = get_problems(settings.mixture)
    run_vocabularies.keep(problems, settings.data_dir, run_dir)
    record = {
        "model": settings.model,
        "hparams_set": settings.hparams_set,
        "problems": list(settings.mixture.problems),
        "declarations": declared_problems.remembered(settings.mixture.problems),
        **facts,
        "data_dir": settings.data_dir,
        "random_seed": settings.random_seed,
        "train_steps": train_steps,
        "longest_targets": run_vocabularies.longest_targets(
            problems, settings.data_dir
        ),
        "versions": _versions(),
    }
    save_run_record(record, run_dir)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _VERSIONED:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions
