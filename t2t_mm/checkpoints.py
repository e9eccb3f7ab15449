"""Saving and restoring runs: `<run>/checkpoints/ckpt-<step>` and `<run>/best`.

The trainer saves a `TrainingState`; inference restores the model's part of it. A
checkpoint is written aside and renamed by TensorFlow, then entered in the folder's
index, so that a kill at any moment leaves the ones before it whole.
"""

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from t2t_mm.checkpoint_folders import (
    BEST_DIR,
    CHECKPOINT_DIR,
    check_nothing_lost,
    finished_in,
    newest_checkpoint,
)
from t2t_mm.step_errors import first_line
from t2t_mm.training_state import AVERAGE, MODEL, TrainingState, flat_map

if TYPE_CHECKING:
    import keras

_LOG = logging.getLogger(__name__)
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_OWN_KEYS = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter")


class BrokenCheckpointError(ValueError):
    """A checkpoint whose files are damaged; the ones before it may be whole."""


def check_keep(keep: int) -> None:
    """Checks how many checkpoints are to be kept.

    Raises:
      ValueError: if it is below 1.
    """
    if keep < 1:
        raise ValueError(
            f"keep_checkpoint_max is {keep}; expected 1 or more, or the run could "
            "not go on. Set --keep_checkpoint_max=1 to keep the newest only."
        )


class Checkpoints:
    """The checkpoints of one run: the newest few, and the best.

    Args:
      run_dir: the run's output directory.
      state: what is saved.
      keep: how many of the newest are kept.
      is_writer: false on workers that leave saving to another.

    Raises:
      ValueError: if keep is below 1.
    """

    def __init__(
        self,
        run_dir: str,
        state: TrainingState,
        *,
        keep: int = 3,
        is_writer: bool = True,
    ):
        check_keep(keep)
        self._run_dir = run_dir
        self._state = state
        self._variables = state.variables()
        self._is_writer = is_writer
        if not is_writer:
            return
        checkpoint = tf.train.Checkpoint(**self._variables)
        self._newest, self._best = (
            tf.train.CheckpointManager(
                checkpoint, os.path.join(run_dir, folder), max_to_keep=number
            )
            for folder, number in ((CHECKPOINT_DIR, keep), (BEST_DIR, 1))
        )
        self._remove_half_written()

    def _remove_half_written(self) -> None:
        """Removes what a killed save left behind; it is in no index and never read."""
        for folder in (CHECKPOINT_DIR, BEST_DIR):
            folder = os.path.join(self._run_dir, folder)
            for name in os.listdir(folder) if os.path.isdir(folder) else ():
                if name.endswith("_temp"):
                    shutil.rmtree(os.path.join(folder, name), ignore_errors=True)

    def save(self, *, is_best: bool = False) -> str:
        """Saves the state as of now.

        Args:
          is_best: keep it also as the best of the run.

        Returns:
          The checkpoint's path prefix.

        Raises:
          OSError: if it cannot be written; the older ones are untouched.
        """
        if not self._is_writer:
            return newest_checkpoint(self._run_dir) or ""
        self._state.to_variables()
        with self._failure_explained():
            path = self._newest.save(checkpoint_number=self._state.step)
            if is_best:
                self._best.save(checkpoint_number=self._state.step)
        return path

    @contextlib.contextmanager
    def _failure_explained(self) -> Iterator[None]:
        try:
            yield
        except (tf.errors.OpError, OSError) as error:
            self._remove_half_written()
            raise OSError(
                f"The checkpoint of step {self._state.step} could not be written to "
                f"{self._run_dir}: {first_line(error)} Expected room and permission to "
                f"write. The last whole one is {newest_checkpoint(self._run_dir)}; "
                "make room and run the same command again."
            ) from error

    def restore(self) -> bool:
        """Restores the newest whole checkpoint into the state, if there is one.

        A broken one is passed over with a warning that names it.

        Returns:
          Whether there was one.

        Raises:
          OSError: if the best is yet to be written, and cannot be; or if the folder's
            index names checkpoints and none is there.
          BrokenCheckpointError: if all are broken.
          ValueError: if the newest whole one holds other variables than the state.
        """
        folder = os.path.join(self._run_dir, CHECKPOINT_DIR)
        paths = finished_in(folder)
        if not paths:
            check_nothing_lost(folder)
            return False
        _first_whole(paths, lambda path: _restore(path, self._variables))
        self._state.from_variables()
        self._complete_best()
        return True

    def _complete_best(self) -> None:
        """Keeps the restored state as the best, if a kill came before that was done."""
        step = self._state.step
        best = os.path.join(self._run_dir, BEST_DIR)
        is_best = self._is_writer and self._state.best_step == step
        if is_best and step not in finished_in(best):
            with self._failure_explained():
                self._best.save(checkpoint_number=step)


def restore_for_inference(
    model: "keras.Model", run_dir: str, step: int | str | None = None
) -> int:
    """Loads a run's trained weights into a model of the same shape.

    Args:
      model: as `build_model` made it from the run's hparams and problems.
      run_dir: the run's output directory.
      step: number of the checkpoint; None for the newest whole one, "best" for the
        best evaluated.

    Returns:
      The step of the checkpoint.

    Raises:
      ValueError: if there is no such checkpoint, it is broken, or the model's
        variables are not those of the checkpoint.
    """
    folder = BEST_DIR if step == "best" else CHECKPOINT_DIR
    paths = finished_in(os.path.join(run_dir, folder))
    if step is None and paths:
        return _first_whole(paths, lambda path: restore_weights(model, path))
    if not isinstance(step, int):
        step = max(paths, default=0)
    elif step not in paths:
        best = finished_in(os.path.join(run_dir, BEST_DIR))
        paths = {**best, **paths}
    if step not in paths:
        known = ", ".join(map(str, sorted(paths))) or "none"
        raise ValueError(
            f"{run_dir} has no checkpoint of step {step}; it has: {known}. "
            "Name one of these, or train with mm-trainer first."
        )
    restore_weights(model, paths[step])
    return step


def restore_weights(model: "keras.Model", path: str) -> int:
    """Loads the trained weights of one checkpoint into a model of the same shape.

    Args:
      model: as `build_model` made it.
      path: prefix of the checkpoint, "run/checkpoints/ckpt-5000".

    Returns:
      The step that its name says.

    Raises:
      ValueError: if it is broken or another model's.
    """
    variables = {
        key: variable
        for key, variable in flat_map(MODEL, model.variables).items()
        if not variable.dtype.is_integer
    }
    _restore(path, variables, only=f"{MODEL}/")
    _restore_averages(path, model)
    number = path.rpartition("-")[2]
    return int(number) if number.isdigit() else 0


def _restore_averages(path: str, model: "keras.Model") -> None:
    """Takes the moving averages of the weights, where the run kept them."""
    variables = {
        f"{AVERAGE}/{variable.path}": variable.value
        for variable in model.trainable_variables
    }
    kept = saved_names(path, only=f"{AVERAGE}/")
    if kept:
        chosen = {name: variables[name] for name in kept if name in variables}
        _restore(path, chosen, only=f"{AVERAGE}/")


def _first_whole(paths: Mapping[int, str], restore: Callable[[str], Any]) -> int:
    """Restores the newest checkpoint that can be read; warns of each that cannot.

    Returns:
      Its step.
    """
    steps = sorted(paths, reverse=True)
    for step, older in zip(steps, [*steps[1:], None], strict=True):
        try:
            restore(paths[step])
            return step
        except BrokenCheckpointError as error:
            if older is None:
                raise
            _LOG.warning("%s Going on with the one of step %d.", error, older)
    raise ValueError("No checkpoint came; expected at least one. Train first.")


def _restore(path: str, variables: Mapping[str, tf.Variable], only: str = "") -> None:
    with damage_explained(path):
        saved = saved_shapes(path, only)
        _check_same_variables(path, variables, saved)
        checkpoint = tf.train.Checkpoint(**variables)
        checkpoint.restore(path).expect_partial().assert_existing_objects_matched()


@contextlib.contextmanager
def damage_explained(path: str) -> Iterator[None]:
    """Says of the errors by which TensorFlow refuses a checkpoint what to do.

    Raises:
      BrokenCheckpointError: if the checkpoint at the path cannot be read.
    """
    try:
        yield
    except (tf.errors.OpError, RuntimeError, IndexError, AssertionError) as error:
        raise BrokenCheckpointError(
            f"Checkpoint {path} cannot be read: {first_line(error)} Expected a whole "
            f"checkpoint as mm-trainer writes it. Its files ({path}.*) can be removed."
        ) from error


def saved_shapes(path: str, only: str) -> dict[str, tuple[int, ...]]:
    """Gives the shape of each variable that a checkpoint holds, as `saved_names`."""
    shapes = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    names = saved_names(path, only=only)
    return {name: tuple(shapes[key]) for name, key in names.items()}


def saved_names(path: str, *, only: str = "") -> dict[str, str]:
    """Gives the key in a checkpoint's files by name of each variable it holds.

    Args:
      path: prefix of the checkpoint.
      only: how the names begin; given, states of random generators are left out.
    """
    names = {}
    for key in tf.train.load_checkpoint(path).get_variable_to_shape_map():
        name = re.sub(r"\.(S|\.)", _unescaped, key.removesuffix(_SUFFIX))
        if name not in _OWN_KEYS and name.startswith(only):
            names[name] = key
    if only:
        pattern = re.compile(rf"{MODEL}/random_state_\d+$")
        names = {name: key for name, key in names.items() if not pattern.match(name)}
    return names


def _unescaped(match: re.Match) -> str:
    """Undoes TensorFlow's writing of "/" and "." in names as ".S" and ".."."""
    return "/" if match[1] == "S" else "."


def _check_same_variables(
    path: str,
    variables: Mapping[str, tf.Variable],
    saved: Mapping[str, tuple[int, ...]],
) -> None:
    wrong = [f"{name} is not in the model" for name in saved if name not in variables]
    for name, variable in variables.items():
        if name not in saved:
            wrong.append(f"{name} is not in the checkpoint")
        elif tuple(variable.shape) != saved[name]:
            wrong.append(
                f"{name} is {saved[name]} in the checkpoint, "
                f"{tuple(variable.shape)} in the model"
            )
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(
            f"Checkpoint {path} does not fit the model: {'; '.join(wrong[:5])}{more}. "
            "Expected the same model, hparams, problems and vocabularies as when it "
            "was saved. Use those, or another --output_dir."
        )
