"""Evaluates all problems of a run on their dev splits while it trains.

Called by the trainer after the steps that `cadence` names. Says whether the evaluation
is the best so far, and whether it is time to give up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from t2t_mm import evaluation
from t2t_mm.cadence import Goal
from t2t_mm.interruption import Interruption
from t2t_mm.preparation import Parts
from t2t_mm.step_errors import memory_explained
from t2t_mm.training_log import TrainingLog
from t2t_mm.training_state import TrainingState

SPLIT = "dev"
NUM_SAMPLES = 2


@dataclass
class Examination:
    """The evaluations of a run.

    Args:
      run_dir: the run's folder.
      parts: the run's settings, problems and vocabularies.
      limit: most examples of each problem, always the same; None for all.
      goal: makes one evaluation better than another, and ends a run in time.
      log: is told each result.
      interruption: a signal ends an evaluation early.

    Attributes:
      results: the last evaluation by problem; empty before the first.
    """

    run_dir: str
    parts: Parts
    limit: int | None
    goal: Goal
    log: TrainingLog
    interruption: Interruption

    def __post_init__(self):
        self.results: dict[str, Mapping[str, Any]] = {}

    def evaluate(self, state: TrainingState) -> bool | None:
        """Evaluates every problem and notes it in log and state.

        Returns:
          Whether it is the best so far; None if a signal ended it early.
        """
        results: dict[str, Mapping[str, Any]] = {}
        for name in self.parts.problems:
            if self.interruption:
                return None
            with state.averaged(), memory_explained(name, self.parts.settings.hparams):
                results[name] = self._evaluate_one(state, name)
        self.results = results
        self.log.write_evaluations(state.step, SPLIT, results)
        best = self.goal.best
        earlier = best.history(self.run_dir, SPLIT, before=state.step)
        is_best = best.is_best(best.value(results), earlier)
        if is_best:
            mean_loss = sum(one["loss"] for one in results.values()) / len(results)
            state.best_loss, state.best_step = mean_loss, state.step
        state.evaluated_step = state.step
        return is_best

    def _evaluate_one(self, state: TrainingState, name: str) -> dict[str, Any]:
        settings = self.parts.settings
        return evaluation.evaluate(
            state.model,
            self.parts.problems[name],
            SPLIT,
            settings.data_dir,
            settings.hparams,
            self.parts.vocabularies,
            limit=self.limit,
            num_samples=NUM_SAMPLES,
            run_dir=self.run_dir,
        )

    def is_patience_over(self, state: TrainingState) -> bool:
        """Tells whether the run should end; says so, too."""
        patience = self.goal.patience
        if patience is None:
            return False
        watched, last = patience.watched, state.evaluated_step
        if not patience.is_over(watched.history(self.run_dir, SPLIT, before=last + 1)):
            return False
        self.log.say(
            f"Ended at step {state.step}: {watched.metric} has not improved for "
            f"{patience.steps} steps."
        )
        return True
