"""When a run does what beside training: log, evaluate, keep the best, stop early.

Called by the trainer. Everything here is a function of the step and of the evaluations
in metrics.jsonl, so that a run that goes on decides as if it had never stopped. Imports
no TensorFlow.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from t2t_mm import metrics, registry
from t2t_mm.problem import Problem
from t2t_mm.run_history import METRICS_FILE

LOSS, ACCURACY = "loss", "accuracy"
History = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Cadence:
    """When a run does what.

    Args:
      train_steps: updates in total.
      eval_frequency: steps between evaluations, each with a checkpoint; 0 for one at
        the end only.
      eval_examples: most examples of a problem in an evaluation; None for all.
      log_frequency: steps between lines of the log.
      max_minutes: evaluate, save and stop after this time; None for never.
      evaluates: false to save only, where an evaluation would be.
    """

    train_steps: int
    eval_frequency: int
    eval_examples: int | None
    log_frequency: int
    max_minutes: float | None
    evaluates: bool = True

    def __post_init__(self):
        for name in ("train_steps", "log_frequency"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; expected 1 or more. "
                    f"Set --{name} to a number of steps."
                )
        if self.eval_frequency < 0:
            raise ValueError(
                f"eval_frequency is {self.eval_frequency}; expected 0 (at the end "
                "only) or a number of steps. Set --eval_frequency=1000."
            )
        if self.eval_examples is not None and self.eval_examples < 1:
            raise ValueError(
                f"eval_examples is {self.eval_examples}; expected 1 or more of each "
                "problem. Set it to None, as --eval_examples=0 does, for all."
            )
        if self.max_minutes is not None and not 0 < self.max_minutes < math.inf:
            raise ValueError(
                f"max_minutes is {self.max_minutes:g}; expected a time above 0. Leave "
                "--max_minutes out to train until --train_steps."
            )

    def is_evaluation(self, step: int) -> bool:
        """Tells whether a step is followed by an evaluation and a checkpoint."""
        is_multiple = bool(self.eval_frequency) and step % self.eval_frequency == 0
        return step > 0 and (is_multiple or step >= self.train_steps)

    def is_log(self, step: int) -> bool:
        """Tells whether lines are written after a step."""
        return step % self.log_frequency == 0 or self.is_evaluation(step)


class Watched:
    """One number of every evaluation, whose direction is known.

    Args:
      metric: "loss", "accuracy" or a registered metric: the mean over the problems
        that have it; "problem/metric" is that of one problem.
      problems: of the run.

    Raises:
      UnknownNameError: if no metric has the name.
      ValueError: if none of the problems has the metric.
    """

    def __init__(self, metric: str, problems: Sequence[Problem]):
        name, slash, short = metric.rpartition("/")
        known = {problem.name: problem for problem in problems}
        if slash and name not in known:
            raise ValueError(
                f"Metric '{metric}' is of problem '{name}'; this run trains "
                f"{', '.join(known)}. Name one of these before the slash."
            )
        candidates = [known[name]] if name else problems
        self.metric = metric
        self._short = short
        self._problems = [one.name for one in candidates if self._has(one, short)]
        if short in (LOSS, ACCURACY):
            self.is_higher_better = short == ACCURACY
        else:
            registry.metrics.get(short)  # an unknown name says what is near
            self.is_higher_better = metrics.is_higher_better(short)
        if not self._problems:
            found = {name: ", ".join(one.metric_names) for name, one in known.items()}
            raise ValueError(
                f"Metric '{metric}' is of no problem of this run; they have {found}, "
                "and each has loss and accuracy. Name one of these."
            )

    @staticmethod
    def _has(problem: Problem, metric: str) -> bool:
        return metric in (LOSS, ACCURACY, *problem.metric_names)

    def value(self, evaluations: Mapping[str, Mapping[str, Any]]) -> float:
        """Gives the number of an evaluation: the mean over the problems that count."""
        values = []
        for name in self._problems:
            result = evaluations[name]
            found = result if self._short in (LOSS, ACCURACY) else result["metrics"]
            values.append(float(found[self._short]))
        return math.fsum(values) / len(values)

    def is_better(self, value: float, other: float, *, by: float = 0.0) -> bool:
        """Tells whether a value beats another by more than a margin.

        Any number beats one that is none, or one such loss would never be beaten.
        """
        if math.isnan(other):
            return not math.isnan(value)
        gain = value - other if self.is_higher_better else other - value
        return gain > by

    def history(self, run_dir: str, split: str, before: int) -> list[tuple[int, float]]:
        """Gives (step, value) of the complete evaluations before a step, in order.

        Args:
          run_dir: whose metrics.jsonl is read.
          split: which evaluations count.
          before: steps from this one on are left out.
        """
        path = os.path.join(run_dir, METRICS_FILE)
        found: dict[int, dict[str, Any]] = {}
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                for line in file:
                    record = json.loads(line)
                    if record["kind"] == "eval" and record["split"] == split:
                        of_step = found.setdefault(record["step"], {})
                        of_step[record["problem"]] = record
        return [
            (step, self.value(of_step))
            for step, of_step in sorted(found.items())
            if step < before and set(self._problems) <= set(of_step)
        ]

    def is_best(self, value: float, history: History) -> bool:
        """Tells whether a value beats all before it."""
        return all(self.is_better(value, other) for _, other in history)


@dataclass(frozen=True)
class Patience:
    """Stops a run whose evaluations no longer get better.

    Args:
      watched: the number that must improve.
      steps: how long it may fail to.
      delta: by how much it must improve to count.
    """

    watched: Watched
    steps: int
    delta: float

    def __post_init__(self):
        if self.steps < 1 or not 0 <= self.delta < math.inf:
            raise ValueError(
                f"Early stopping came with {self.steps} steps and delta {self.delta}; "
                "expected 1 step or more, and 0 or more. Set "
                "--eval_early_stopping_steps and --eval_early_stopping_metric_delta."
            )

    def is_over(self, history: History) -> bool:
        """Tells whether the last evaluation is `steps` or more after the best.

        Args:
          history: (step, value) of all evaluations, in order.
        """
        if not history:
            return False
        best_step, best = history[0]
        for step, value in history[1:]:
            if self.watched.is_better(value, best, by=self.delta):
                best_step, best = step, value
        return history[-1][0] - best_step >= self.steps


@dataclass(frozen=True)
class Goal:
    """What the evaluations of a run are for; see `make_goal`.

    Args:
      best: the number by which one evaluation is the best so far.
      patience: ends a run that gets no better; None for never.
    """

    best: Watched
    patience: Patience | None


def make_goal(
    problems: Sequence[Problem],
    cadence: Cadence,
    *,
    keep_best_metric: str,
    early_stopping_steps: int | None,
    early_stopping_metric: str,
    early_stopping_metric_delta: float,
) -> Goal:
    """Gives what is best and when it is enough, from what the user says of both.

    Raises:
      UnknownNameError, ValueError: as `Watched`, `make_patience`, `refuse_in_vain`.
    """
    goal = Goal(
        Watched(keep_best_metric, problems),
        make_patience(
            problems,
            early_stopping_steps,
            metric=early_stopping_metric,
            delta=early_stopping_metric_delta,
        ),
    )
    refuse_in_vain(cadence, goal.best, goal.patience)
    return goal


def refuse_in_vain(cadence: Cadence, best: Watched, patience: Patience | None) -> None:
    """Refuses to watch evaluations that are never made.

    Raises:
      ValueError: if something is to be watched although nothing is evaluated.
    """
    if not cadence.evaluates and (patience or best.metric != LOSS):
        watched = patience.watched.metric if patience else best.metric
        raise ValueError(
            f"Training without evaluations came with metric '{watched}' to watch; "
            "expected evaluations for that. Leave out --schedule=train, or "
            "--keep_best_metric and --eval_early_stopping_steps."
        )


def make_patience(
    problems: Sequence[Problem], steps: int | None, *, metric: str, delta: float
) -> Patience | None:
    """Gives what ends a run early, or None.

    Args:
      problems: of the run.
      steps: how long the metric may fail to improve; None for ever.
      metric, delta: what must improve, and by how much.

    Raises:
      ValueError: if metric or delta came without steps, or no problem has the metric.
    """
    if steps is not None:
        return Patience(Watched(metric, problems), steps, delta)
    if metric != LOSS or delta:
        raise ValueError(
            f"Early stopping came with metric '{metric}' and delta {delta:g}, but "
            "without a number of steps; expected how long the metric may fail to "
            "improve. Add --eval_early_stopping_steps, or leave the others out."
        )
    return None
