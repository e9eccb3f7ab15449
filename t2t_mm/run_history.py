"""Reads back what a run wrote about itself: settings, progress, scores.

The files, all in the run's folder: `run.json` and `hparams.json` (settings),
`metrics.jsonl` (one object a line: training, evaluation, expert use) and `eval.json`
(mm-eval). `report` draws them. Needs neither TensorFlow nor the zoo.
"""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

METRICS_FILE = "metrics.jsonl"
EVAL_FILE = "eval.json"
RUN_FILE = "run.json"
HPARAMS_FILE = "hparams.json"


@dataclass(frozen=True)
class Curve:
    """One value over the steps of training; steps rise, values are finite."""

    steps: tuple[int, ...]
    values: tuple[float, ...]

    def __bool__(self) -> bool:
        return bool(self.steps)


@dataclass(frozen=True)
class RunHistory:
    """All that a run's folder says.

    Args:
      folder: the run's folder.
      run, hparams, evaluation: the JSON files; empty where there is none yet.
      records: the lines of metrics.jsonl by step; where a run was killed and went
        on from an earlier step, the later line of a step counts.
    """

    folder: str
    run: dict[str, Any]
    hparams: dict[str, Any]
    evaluation: dict[str, Any]
    records: tuple[dict[str, Any], ...]

    def problems(self) -> list[str]:
        """Gives the names of the run's problems, in the order of training."""
        named = [
            *self.run.get("problems", ()),
            *self.evaluation.get("problems", ()),
            *(record["problem"] for record in self.records if "problem" in record),
        ]
        return list(dict.fromkeys(named))

    def of(self, kind: str, problem: str) -> list[dict[str, Any]]:
        """Gives the records of a kind about a problem, by step."""
        return [
            record
            for record in self.records
            if record["kind"] == kind and record.get("problem") == problem
        ]

    def curve(self, kind: str, problem: str, *path: str) -> Curve:
        """Gives a value over the steps; `path` leads to it: "metrics", "bleu"."""
        points = [
            (record["step"], _value_at(record, path))
            for record in self.of(kind, problem)
        ]
        finite = [(s, float(v)) for s, v in points if is_finite(v)]
        return Curve(tuple(s for s, _ in finite), tuple(v for _, v in finite))

    def last_step(self) -> int:
        """Gives the last step that any file mentions."""
        steps = [record["step"] for record in self.records]
        return max([*steps, self.evaluation.get("step") or 0])

    def training_seconds(self) -> float | None:
        """Gives the time spent in training steps, or None where it is not known."""
        spent = [
            record["seconds"]
            for record in self.records
            if record["kind"] == "train" and is_finite(record.get("seconds"))
        ]
        return math.fsum(spent) if spent else None


def _value_at(record: dict[str, Any], path: Iterable[str]) -> Any:
    value: Any = record
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def is_finite(value: Any) -> bool:
    """Tells whether a value is a number that can be drawn."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def read_history(folder: str) -> RunHistory:
    """Reads a run's folder.

    Raises:
      ValueError: if it holds neither metrics.jsonl nor eval.json, or if one of the
        files is not what mm-trainer and mm-eval write.
    """
    history = RunHistory(
        folder,
        _read_json(os.path.join(folder, RUN_FILE)),
        _read_json(os.path.join(folder, HPARAMS_FILE)),
        read_evaluation(folder),
        tuple(_read_lines(os.path.join(folder, METRICS_FILE))),
    )
    if not history.records and not history.evaluation:
        raise ValueError(
            f"{folder} has neither {METRICS_FILE} nor {EVAL_FILE}; expected the "
            "folder of a run. Give the --output_dir of mm-trainer."
        )
    return history


def read_evaluation(folder: str) -> dict[str, Any]:
    """Gives what mm-eval wrote about a run, empty where it did not yet.

    Raises:
      ValueError: if the file is damaged.
    """
    return _read_json(os.path.join(folder, EVAL_FILE))


def _read_json(path: str) -> dict[str, Any]:
    if not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except ValueError as error:
        raise _unreadable(path, str(error)) from error
    if not isinstance(content, dict):
        raise _unreadable(path, f"it holds a {type(content).__name__}")
    return content


def _read_lines(path: str) -> list[dict[str, Any]]:
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    latest: dict[tuple, dict[str, Any]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            key = [record["step"], record["kind"]]
        except (ValueError, KeyError, TypeError) as error:
            # A run that was killed while it wrote leaves a last line without end.
            if number == len(lines):
                break
            raise _unreadable(path, f"line {number}: {error}") from error
        key += [record.get(name) for name in ("problem", "split", "layer")]
        latest[tuple(key)] = record
    return sorted(latest.values(), key=lambda record: record["step"])


def _unreadable(path: str, reason: str) -> ValueError:
    return ValueError(
        f"{path} cannot be read ({reason}); expected what mm-trainer and mm-eval "
        "write. Restore the file or remove it."
    )
