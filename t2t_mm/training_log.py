"""What a run says while it trains: a progress bar, metrics.jsonl, TensorBoard.

The trainer records each step (`TrainingLog.record`: keeps the tensors, waits for no
device), and every so often asks for the lines (`write_training`). Lines of
metrics.jsonl are objects with "step" and "kind": train, expert_use or eval.
"""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm

from t2t_mm import metrics
from t2t_mm.files import write_atomically
from t2t_mm.run_history import METRICS_FILE
from t2t_mm.train_step import NUMBERS, StepOutput

# What is kept of an ExpertBlock's statistics.
EXPERT_NUMBERS = ("use", "balance_loss", "dropped")


class TrainingDivergedError(ValueError):
    """The loss or the gradient stopped being a finite number."""


class TrainingLog:
    """Collects the numbers of steps and writes them out.

    Args:
      run_dir: the run's output directory.
      step: where the run starts; later lines of an earlier attempt are removed.
      evaluated_step: the last step whose evaluation counts.
      train_steps: where the bar ends.
      progress: whether a bar is shown.
      is_writer: false on workers that leave files and words to another.
    """

    def __init__(
        self,
        run_dir: str,
        *,
        step: int,
        evaluated_step: int,
        train_steps: int,
        progress: bool = True,
        is_writer: bool = True,
    ):
        self._is_writer = is_writer
        self._path = os.path.join(run_dir, METRICS_FILE) if is_writer else os.devnull
        if is_writer:
            trim_lines(self._path, step, evaluated_step)
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115
        self._board = (
            tf.summary.create_file_writer(run_dir)
            if is_writer
            else tf.summary.create_noop_writer()
        )
        is_silent = not (progress and is_writer)
        self._bar = tqdm.tqdm(
            total=train_steps, initial=step, disable=is_silent, unit="step"
        )
        self._pending: list[tuple[int, str, float, StepOutput]] = []
        # By problem and layer, sums over steps: they may be many.
        self._experts: dict[tuple[str, str], dict[str, Any]] = {}

    def __enter__(self) -> "TrainingLog":
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.close()
        self._board.close()
        try:
            self._flush()
        finally:
            with contextlib.suppress(OSError):  # it would say the same once more
                self._file.close()

    def say(self, text: str) -> None:
        """Prints text above the bar."""
        if not self._bar.disable:
            self._bar.write(text)

    def record(
        self, step: int, problem: str, seconds: float, output: StepOutput
    ) -> None:
        """Keeps what a step gave; costs microseconds, waits for nothing."""
        self._pending.append((step, problem, seconds, output))
        self._bar.update(step - self._bar.n)  # one step may have several batches

    def write_training(self, learning_rate: float) -> None:
        """Writes a line per problem about the steps since the last call.

        Args:
          learning_rate: the rate of the last step.

        Raises:
          TrainingDivergedError: if a loss or gradient was not finite; names the first.
        """
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        rows = np.stack([np.asarray(output[0]) for _, _, _, output in pending])
        _check_finite([entry[:2] for entry in pending], rows)
        last_step = pending[-1][0]
        for problem in dict.fromkeys(problem for _, problem, _, _ in pending):
            chosen = [i for i, entry in enumerate(pending) if entry[1] == problem]
            seconds = math.fsum(pending[i][2] for i in chosen)
            line = _summarise(rows[chosen], seconds) | {"learning_rate": learning_rate}
            self._write({"step": last_step, "kind": "train", "problem": problem} | line)
            self._scalars(f"train/{problem}", line, last_step)
            for i in chosen if self._is_writer else ():
                for layer, statistics in pending[i][3][1].items():
                    sums = self._experts.setdefault((problem, layer), {"steps": 0})
                    sums["steps"] += 1
                    for name in EXPERT_NUMBERS:
                        value = np.asarray(statistics[name], np.float64)
                        sums[name] = sums.get(name, 0.0) + value
        self._show(rows, math.fsum(entry[2] for entry in pending))
        self._flush()

    def write_expert_use(self, step: int) -> None:
        """Writes how every expert was used since the last call, by problem.

        "use" is each expert's mean share of the gates, "dead" how many were never
        chosen, "dropped" the mean share of choices that found their expert full.
        """
        for (problem, layer), sums in self._experts.items():
            use, balance_loss, dropped = (
                sums[name] / sums["steps"] for name in EXPERT_NUMBERS
            )
            line = {
                "dead": int((use == 0).sum()),
                "largest": float(use.max()),
                "balance_loss": float(balance_loss),
                "dropped": float(dropped),
            }
            self._write(
                {"step": step, "kind": "expert_use", "problem": problem}
                | {"layer": layer, "use": [round(float(u), 6) for u in use]}
                | line
            )
            self._scalars(f"experts/{layer}/{problem}", line, step)
        self._experts.clear()
        self._flush()

    def write_evaluations(
        self, step: int, split: str, evaluations: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Writes a line per problem, and a table and the samples above the bar.

        Args:
          step: updates done.
          split: which split was evaluated.
          evaluations: what `evaluation.evaluate` gave, by problem.
        """
        for problem, result in evaluations.items():
            head = {"step": step, "kind": "eval", "problem": problem, "split": split}
            self._write(head | dict(result))
            scalars = {"loss": result["loss"], "accuracy": result["accuracy"]}
            self._scalars(f"{split}/{problem}", scalars | result["metrics"], step)
        self._flush()
        self._board.flush()
        self.say(_evaluation_text(step, split, evaluations))

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._failure_explained():
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _flush(self) -> None:
        with self._failure_explained():
            self._file.flush()

    @contextlib.contextmanager
    def _failure_explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(
                f"{self._path} cannot be written: {error.strerror or error}. Expected "
                "room and permission to write. Make room and run the same command "
                "again: it goes on from the last checkpoint."
            ) from error

    def _scalars(self, prefix: str, values: Mapping[str, Any], step: int) -> None:
        with self._board.as_default():
            for name, value in values.items():
                tf.summary.scalar(f"{prefix}/{name}", value, step=step)

    def _show(self, rows: np.ndarray, seconds: float) -> None:
        numbers = dict(zip(NUMBERS, rows.sum(axis=0), strict=True))
        loss = float(rows[:, NUMBERS.index("loss")].mean())
        self._bar.set_postfix_str(
            f"loss {loss:.3f}, {numbers['weight'] / seconds:.0f} tokens/s",
            refresh=False,
        )


def _summarise(rows: np.ndarray, seconds: float) -> dict[str, float]:
    """Gives the values of a training line from the numbers of some steps."""
    total = dict(zip(NUMBERS, rows.astype(np.float64).sum(axis=0), strict=True))
    steps, weight = len(rows), max(total["weight"], 1.0)
    return {
        "loss": total["loss_sum"] / weight,
        "accuracy": total["correct"] / weight,
        "auxiliary_loss": total["auxiliary_loss"] / steps,
        "gradient_norm": total["gradient_norm"] / steps,
        "tokens_per_second": total["weight"] / seconds,
        "padding": 1.0 - total["filled"] / steps,
        "steps": steps,
        "seconds": seconds,
    }


def _check_finite(places: list[tuple[int, str]], rows: np.ndarray) -> None:
    checked = rows[:, [NUMBERS.index("loss"), NUMBERS.index("gradient_norm")]]
    broken = np.flatnonzero(~np.isfinite(checked).all(axis=1))
    if broken.size:
        step, problem = places[broken[0]]
        loss, norm = checked[broken[0]]
        raise TrainingDivergedError(
            f"Problem '{problem}' gave loss {loss} with gradient norm {norm} at step "
            f"{step}; expected finite numbers."
        )


def _evaluation_text(
    step: int, split: str, evaluations: Mapping[str, Mapping[str, Any]]
) -> str:
    lines = [f"-- step {step}, {split} --"]
    width = max(map(len, evaluations), default=0)
    for problem, result in evaluations.items():
        scores = ", ".join(
            f"{metrics.title_of(name)} {metrics.format_score(name, value)}"
            for name, value in result["metrics"].items()
        )
        lines.append(
            f"{problem:<{width}}  loss {result['loss']:.3f}, "
            f"accuracy {result['accuracy']:.3f}, {scores} "
            f"({result['examples']} examples)"
        )
        for sample in result["samples"]:
            lines.append(
                f"    {_short(sample.get('inputs') or sample.get('inputs_file') or '')}"
                f" -> {_short(sample['prediction'])}"
                f"   (expected: {_short(sample['reference'])})"
            )
    return "\n".join(lines)


def _short(text: str, longest: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


def trim_lines(path: str, step: int, evaluated_step: int) -> None:
    """Removes the lines that a resumed run will write again.

    Args:
      path: a metrics.jsonl, or none yet.
      step: lines of later steps go.
      evaluated_step: evaluations of later steps go.

    Raises:
      ValueError: if a line is none of a run; names it.
    """
    if not os.path.exists(path):
        return
    with open(path, "rb") as file:
        lines = file.read().splitlines(keepends=True)
    kept = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            is_kept = _is_kept(line, step, evaluated_step)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} cannot be read: line {number} is {line[:60]!r} ({error!r}). "
                "Expected a JSON object with step and kind, as mm-trainer writes it. "
                "Remove the line."
            ) from error
        if is_kept:
            kept.append(line)
    if len(kept) < len(lines):
        write_atomically(path, b"".join(kept))


def _is_kept(line: bytes, step: int, evaluated_step: int) -> bool:
    if not line.endswith(b"\n"):
        return False
    record = json.loads(line)
    last = evaluated_step if record["kind"] == "eval" else step
    return record["step"] <= last
