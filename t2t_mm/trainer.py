"""The whole training of a run: read it top to bottom.

`train` settles what the run is, builds network, optimizer and data, goes on where the
folder's newest checkpoint stands, and loops: draw a problem, take its next batch, run
its compiled step (`train_step`); every so often write the log, evaluate, save.
mm-trainer calls it with flags; Python and gin with keyword arguments.

To change something: how data, network and optimizer come about, `preparation`; the
numbers of one update, `train_step`; when what happens and what counts as best,
`cadence`; on which devices, `strategy`; what is kept, `training_state`; how it is
saved, `checkpoints`; what is said, `training_log`.
"""

import contextlib
import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gin
import keras

from t2t_mm import configuration, input_pipeline
from t2t_mm.cadence import Cadence, make_goal
from t2t_mm.checkpoint_folders import checkpoints_of, newest_checkpoint
from t2t_mm.checkpoints import Checkpoints, check_keep
from t2t_mm.dry_run import check_run
from t2t_mm.examination import Examination
from t2t_mm.fields import typed
from t2t_mm.interruption import Interruption
from t2t_mm.keras_callbacks import KerasCallbacks, check_callbacks
from t2t_mm.mixture import draw_problem, get_problems
from t2t_mm.precision import computing_in
from t2t_mm.preparation import Parts, check_same_run, describe, keep_settings, prepare
from t2t_mm.profiling import Profile
from t2t_mm.run_settings import Request, only_trainer_in, settle
from t2t_mm.schedules import make_schedule
from t2t_mm.step_errors import memory_explained, workers_explained
from t2t_mm.strategy import make_distribution
from t2t_mm.training_log import TrainingDivergedError, TrainingLog


@dataclass(frozen=True)
class TrainingResult:
    """How a call of `train` ended.

    Args:
      step: updates done.
      evaluations: the last evaluation, by problem; empty where none was made.
      signal: number of the signal that ended it early, or None; SIGTERM where the
        signal came to another worker.
      stopped_early: whether it ended because evaluations no longer got better.
    """

    step: int
    evaluations: Mapping[str, Mapping[str, Any]]
    signal: int | None = None
    stopped_early: bool = False


@gin.configurable("train")
@typed
def train(
    *,
    output_dir: str,
    train_steps: int,
    model: str | None = None,
    hparams_set: str | None = None,
    hparams: str | Mapping[str, Any] = "",
    problem: str | None = None,
    data_dir: str | None = None,
    tmp_dir: str | None = None,
    random_seed: int | None = None,
    rates: str = "explicit",
    temperature: float | None = None,
    warm_start_from: str | None = None,
    freeze: str | None = None,
    strategy: str = "auto",
    tpu_name: str | None = None,
    precision: str = "float32",
    tf32: bool = True,
    xla: bool = False,
    eval_frequency: int = 1000,
    eval_examples: int | None = 200,
    evaluate: bool = True,
    log_frequency: int = 50,
    max_minutes: float | None = None,
    keep_checkpoint_max: int = 3,
    keep_best_metric: str = "loss",
    eval_early_stopping_steps: int | None = None,
    eval_early_stopping_metric: str = "loss",
    eval_early_stopping_metric_delta: float = 0.0,
    profile: bool = False,
    check: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: bool = True,
) -> TrainingResult:
    """Trains a network until `train_steps`, from where the run in `output_dir` stands.

    Called again after any end, a kill included, it goes on to the same weights as if
    it had never stopped. What is left out is as the run in `output_dir` has it.

    Args:
      What is trained, and on what:

      output_dir: folder of the run.
      train_steps: updates in total, over all calls.
      model: a registered model.
      hparams_set: a registered set.
      hparams: changes to the set, "hidden_size=64" or {"hidden_size": 64}.
      problem: a problem, a mixture or a comma list of them.
      data_dir: folder of the shards.
      tmp_dir: given, data that is missing is generated, downloads kept there.
      random_seed: of weights, data order, mixture and dropout; 1 by default.
      rates: how often each problem is trained: "explicit" (the mixture's own),
        "equal", "proportional" or "temperature".
      temperature: of that last rule, 2 by default.
      warm_start_from: a run or checkpoint; a new run starts from its weights.
      freeze: regular expression; what it finds in the path of a variable keeps the
        variable as it is.

      Where it computes, and in which numbers:

      strategy: the devices, tpu_name: of "tpu", xla: see `make_distribution`.
      precision, tf32: see `computing_in`.

      What happens beside the steps:

      eval_frequency: steps between evaluations, each with a checkpoint; 0 for one at
        the end only.
      eval_examples: dev examples of each problem that an evaluation looks at, the
        same each time; None for all.
      evaluate: false to save only, where an evaluation would be.
      log_frequency: steps between lines of the log.
      max_minutes: evaluate, save and stop after this time; None for never.
      keep_checkpoint_max: newest checkpoints kept, beside the best.
      keep_best_metric: what makes an evaluation the best; see `Watched`.
      eval_early_stopping_steps: stop when the next metric has not improved for so
        many steps; None for never.
      eval_early_stopping_metric, eval_early_stopping_metric_delta: see `Patience`.
      profile: record a trace; see `Profile`.
      check: only try everything out, and leave nothing behind; see `check_run`.
      callbacks: of Keras; see `KerasCallbacks`.
      progress: show a bar, evaluations and samples.

    Returns:
      How it ended.

    Raises:
      UnknownNameError: if a name is not registered.
      TypeError, ValueError: if settings are missing, wrong, or not those of the run.
      TrainingDivergedError: if a loss is not finite; nothing of it is saved.
      OSError: if data is missing or a file cannot be written, memory runs out, or
        another worker is lost.
    """
    start = time.monotonic()
    # What the run is, and what is wanted of it. Nothing is made yet: what can be
    # refused, is refused here or at the beginning of `prepare`.
    cadence = Cadence(
        train_steps, eval_frequency, eval_examples, log_frequency, max_minutes, evaluate
    )
    settings = settle(
        Request(model, hparams_set, hparams, problem, data_dir, random_seed, freeze),
        output_dir,
    )
    configuration.refuse_unused_gin_bindings("train.", "hparams.")
    problems = get_problems(settings.mixture)
    goal = make_goal(
        problems,
        cadence,
        keep_best_metric=keep_best_metric,
        early_stopping_steps=eval_early_stopping_steps,
        early_stopping_metric=eval_early_stopping_metric,
        early_stopping_metric_delta=eval_early_stopping_metric_delta,
    )
    check_keep(keep_checkpoint_max)
    check_callbacks(callbacks)
    saved_step = max(checkpoints_of(output_dir), default=0)
    trace = Profile(output_dir, num_steps=train_steps - saved_step) if profile else None
    distribution = make_distribution(strategy, use_xla=xla, tpu=tpu_name)
    is_chief = distribution.is_chief
    with computing_in(precision, tf32=tf32), workers_explained():
        # Data, network and optimizer; --check tries them out and ends here.
        parts = prepare(
            settings,
            problems,
            distribution,
            cadence=cadence,
            precision=precision,
            tmp_dir=tmp_dir,
            rates=rates,
            temperature=temperature,
            warm_start_from=None if newest_checkpoint(output_dir) else warm_start_from,
            progress=progress,
        )
        said = describe(parts)
        if check:
            return TrainingResult(check_run(parts), {})
        # Where the run stands; from here on the folder holds one.
        state = parts.state
        with (
            _taken_up(
                parts, output_dir, keep_checkpoint_max, train_steps
            ) as checkpoints,
            Interruption() as interruption,
            trace or contextlib.nullcontext(),
            TrainingLog(
                output_dir,
                step=state.step,
                evaluated_step=state.evaluated_step,
                train_steps=train_steps,
                progress=progress,
                is_writer=is_chief,
            ) as log,
        ):
            # What goes along with the steps, and the steps.
            run = _Run(
                parts,
                cadence,
                checkpoints,
                Examination(output_dir, parts, eval_examples, goal, log, interruption),
                log,
                interruption,
                KerasCallbacks(
                    callbacks, state, train_steps=train_steps, period=eval_frequency
                ),
                trace if is_chief else None,
            )
            log.say(said)
            log.say(f"Run in {output_dir}, from step {state.step} to {train_steps}.")
            if state.step >= train_steps:
                log.say("Nothing is left to train: raise --train_steps to go on.")
            run.train_until(start + 60 * max_minutes if max_minutes else math.inf)
    if is_chief:
        configuration.save_operative_gin(output_dir)
        configuration.refuse_unused_gin_bindings()
    return TrainingResult(
        state.step, run.examination.results, run.signal, run.is_patience_over
    )


@contextlib.contextmanager
def _taken_up(
    parts: Parts, run_dir: str, keep: int, train_steps: int
) -> Iterator[Checkpoints]:
    """Goes on where the last checkpoint of the run stands, or begins a new run.

    From here on the folder holds a run, or is known to hold this one; nobody else
    trains into it until the end. Gives what saves the run.
    """
    state, distribution = parts.state, parts.distribution
    is_chief = distribution.is_chief
    with only_trainer_in(run_dir) if is_chief else contextlib.nullcontext():
        checkpoints = Checkpoints(run_dir, state, keep=keep, is_writer=is_chief)
        if is_chief:
            keep_settings(parts, run_dir, train_steps)
        checkpoints.restore()
        check_same_run(parts, run_dir)
        distribution.spread_seeds(state.model.variables)
        yield checkpoints


@dataclass
class _Run:
    """The loop over the steps of a run, and what goes along with them."""

    parts: Parts
    cadence: Cadence
    checkpoints: Checkpoints
    examination: Examination
    log: TrainingLog
    interruption: Interruption
    callbacks: KerasCallbacks
    profile: Profile | None

    def __post_init__(self):
        self.state, self.distribution = self.parts.state, self.parts.distribution
        self.settings = self.parts.settings
        self._learning_rate = make_schedule(
            self.settings.hparams, self.cadence.train_steps
        )
        self._batches: dict[str, Iterator] = {}
        self.is_patience_over = self._has_no_patience()
        self.signal: int | None = None

    def train_until(self, deadline: float) -> None:
        """Trains until the last step or a reason to stop before; then all is saved."""
        state, cadence = self.state, self.cadence
        is_missing = cadence.evaluates and state.evaluated_step != state.step
        if cadence.is_evaluation(state.step) and is_missing:
            self._evaluate_and_save()
        is_over = self._anybody(self._wants_stop())
        while state.step < cadence.train_steps and not is_over:
            self._train_one_step()
            is_log = cadence.is_log(state.step)
            # Several workers talk to each other about stopping at these steps only.
            is_asked = is_log or self.distribution.num_workers == 1
            is_late = is_asked and self._anybody(time.monotonic() > deadline)
            if is_late or is_log:
                self._write_log()
            if is_late or cadence.is_evaluation(state.step):
                self._evaluate_and_save()
            is_over = is_late or (is_asked and self._anybody(self._wants_stop()))
        self.callbacks.end()
        if self._anybody(bool(self.interruption)):
            # All workers end alike: what starts runs again must start all of them.
            self.signal = self.interruption.signal or signal.SIGTERM
        if self.signal or self._anybody(self.callbacks.wants_stop):
            self._write_log()
            self.log.write_expert_use(state.step)
            self._say_saved(self.checkpoints.save())

    def _anybody(self, flag: bool) -> bool:
        """Tells whether a flag is set on any worker; all of them must ask."""
        return self.distribution.total(float(flag)) > 0

    def _wants_stop(self) -> bool:
        stops = bool(self.interruption) or self.callbacks.wants_stop
        return stops or self.is_patience_over

    def _train_one_step(self) -> None:
        """Makes one update: of one batch, or of as many as are accumulated."""
        state, steps = self.state, self.parts.steps
        num_batches = steps.batches_per_update
        self.callbacks.before_step(state.step)
        for draw in range(state.step * num_batches, (state.step + 1) * num_batches):
            start = time.perf_counter()
            name = draw_problem(self.settings.random_seed, draw, self.parts.rates)
            position, batch = next(self._batches_of(name))
            with memory_explained(name, self.settings.hparams, batch):
                output = steps(name, batch)
            state.positions[name] = position
            seconds = time.perf_counter() - start
            self.log.record(state.step + 1, name, seconds, output)
        self.callbacks.after_step(state.step, output)
        state.step += 1
        if state.averages:
            state.averages.update(state.step, self.distribution)
        if self.profile:
            self.profile.after_step()

    def _batches_of(self, name: str) -> Iterator:
        if name not in self._batches:
            epoch, batch = (int(number) for number in self.state.positions[name])
            dataset = input_pipeline.training_batches(
                self.parts.problems[name],
                self.settings.data_dir,
                self.settings.hparams,
                seed=self.settings.random_seed,
                start=(epoch, batch),
            )
            self._batches[name] = iter(dataset)
        return self._batches[name]

    def _write_log(self) -> None:
        try:
            self.log.write_training(float(self._learning_rate(self.state.step)))
        except TrainingDivergedError as error:
            last = newest_checkpoint(self.examination.run_dir) or "none yet"
            raise TrainingDivergedError(
                f"{error} The network since then was not saved; the last checkpoint "
                f"is {last}. Lower learning_rate or raise warmup_steps, and train into "
                "another --output_dir."
            ) from error

    def _evaluate_and_save(self) -> None:
        """Evaluates every problem, then saves; left out when a signal comes."""
        state, results, is_best = self.state, {}, False
        self.log.write_expert_use(state.step)
        if self.cadence.evaluates:
            if not self.distribution.is_chief:
                state.evaluated_step = state.step
                return
            self.callbacks.before_evaluation()
            found = self.examination.evaluate(state)
            if found is None:
                return
            results, is_best = self.examination.results, found
        self.callbacks.after_evaluation(state.step, results)
        self.checkpoints.save(is_best=is_best)
        self.is_patience_over = self._has_no_patience()

    def _has_no_patience(self) -> bool:
        is_chief = self.distribution.is_chief
        return is_chief and self.examination.is_patience_over(self.state)

    def _say_saved(self, path: str) -> None:
        self.log.say(
            f"Stopped at step {self.state.step} of {self.cadence.train_steps}, saved "
            f"as {path}. Run the same command again to go on from there."
        )
