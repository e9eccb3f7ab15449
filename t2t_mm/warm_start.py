"""Starts a new run from the weights of another one, and keeps some of them as they are.

Weights are matched by name. Rows that belong to words or labels are matched by the word
or the label, so that another vocabulary keeps what the pieces that both have were
taught. Only the network's weights are taken, their moving averages where the other run
kept them (hparam `ema_decay`): step, optimizer and data start anew.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf

from t2t_mm import checkpoint_folders, checkpoints, run_settings, run_vocabularies
from t2t_mm.problem import CLASS_LABEL, Problem, get_problem
from t2t_mm.training_state import AVERAGE, MODEL, flat_map
from t2t_mm.vocabulary import SubwordVocabulary, Vocabulary

NUM_SHOWN = 5
Rows = Mapping[str, Sequence[str]]


@dataclass
class WarmStart:
    """What of another run's weights fitted.

    Attributes:
      matched: variables that were taken whole.
      remapped: variables of which the rows of known words or labels were taken.
      new: variables that the other run has not.
      misfits: variables that have another shape there, or none of the words.
      left: weights of the other run that have no place here.
    """

    matched: list[str] = field(default_factory=list)
    remapped: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def describe(self, path: str) -> str:
        """Gives the report as lines, each with its first few names."""
        lines = [f"Warm start from {path}:"]
        for title, names in (
            ("taken whole", self.matched),
            ("taken by word or label", self.remapped),
            ("new, made from the seed", self.new),
            ("of another shape or for other words, made from the seed", self.misfits),
            ("left, no place for them here", self.left),
        ):
            if names:
                more = ", ..." if len(names) > NUM_SHOWN else ""
                shown = ", ".join(names[:NUM_SHOWN])
                lines.append(f"  {len(names)} {title}: {shown}{more}")
        return "\n".join(lines)


def freeze(model: keras.layers.Layer, pattern: str) -> list[str]:
    """Keeps variables as they are: they get no gradient and no decay.

    Args:
      model: a built model; call it before its optimizer is made.
      pattern: regular expression that is searched in the path of each variable;
        nothing for none.

    Returns:
      The paths of what is frozen.

    Raises:
      ValueError: if the pattern is no regular expression, finds nothing, or all.
    """
    if not pattern:
        return []
    expression = compiled(pattern)
    variables = list(model.trainable_variables)
    chosen = [one for one in variables if expression.search(one.path)]
    if len(chosen) in (0, len(variables)):
        examples = ", ".join(one.path for one in variables[:NUM_SHOWN])
        raise ValueError(
            f"hparam 'freeze' is {pattern!r}, which finds {len(chosen)} of "
            f"{len(variables)} variables; expected some, and not all. Their paths are "
            f"like {examples}."
        )
    for one in chosen:
        one.trainable = False
    return [one.path for one in chosen]


def compiled(pattern: str) -> re.Pattern:
    """Gives hparam `freeze` as a regular expression.

    Raises:
      ValueError: if it is none.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"hparam 'freeze' is {pattern!r}, no regular expression ({error}); "
            "expected one such as /text/|encoder. Correct it."
        ) from error


def describe_frozen(model: keras.layers.Layer, pattern: str) -> str:
    """Says which parts of a network `freeze` kept; nothing without a pattern."""
    if not pattern:
        return ""
    found = [
        one.path
        for one in model.variables
        if re.search(pattern, one.path)
        and not (one.trainable or tf.as_dtype(one.dtype).is_integer)
    ]
    parts = Counter("/".join(path.split("/")[1:2]) or path for path in found)
    listed = ", ".join(f"{part} ({number})" for part, number in parts.items())
    return f"{len(found)} variables stay as they are: {listed}"


def warm_start(
    model: keras.layers.Layer,
    source: str,
    problems: Sequence[Problem],
    vocabularies: Mapping[str, Vocabulary],
) -> str:
    """Loads what fits of another run's weights into a new model.

    Args:
      model: a built model.
      source: folder of a run, for its newest checkpoint, or a checkpoint's path.
      problems, vocabularies: of the new run.

    Returns:
      A report for the log.

    Raises:
      ValueError: if there is no checkpoint, it is broken, or nothing of it fits.
    """
    path, run_dir = find_weights(source)
    with checkpoints.damage_explained(path):
        reader = tf.train.load_checkpoint(path)
        saved = checkpoints.saved_names(path, only=f"{MODEL}/")
        averages = checkpoints.saved_names(path, only=f"{AVERAGE}/")
    old_rows = _old_rows(run_dir)
    new_rows = _rows(problems, vocabularies)
    found = WarmStart()
    for name, variable in flat_map(MODEL, model.variables).items():
        if variable.dtype.is_integer:
            continue
        short = _short(name)
        if name not in saved:
            found.new.append(short)
            continue
        with checkpoints.damage_explained(path):
            own = saved.pop(name)  # of what is averaged, the average was evaluated
            value = reader.get_tensor(averages.get(f"{AVERAGE}/{short}", own))
        owner = _owner(name, old_rows, new_rows)
        if owner and list(old_rows[owner]) != list(new_rows[owner]):
            value = _remapped(value, variable, old_rows[owner], new_rows[owner])
            names = found.misfits if value is None else found.remapped
        else:
            fits = value.shape == tuple(variable.shape)
            names = found.matched if fits else found.misfits
            value = value if fits else None
        names.append(short)
        if value is not None:
            variable.assign(value)
    found.left = [_short(name) for name in saved]
    if not found.matched and not found.remapped:
        raise _misfit(path, checkpoints.saved_shapes(path, f"{MODEL}/"))
    return found.describe(f"the moving averages of {path}" if averages else path)


def check_weights(model: keras.layers.Layer, source: str) -> None:
    """Refuses weights of another model, before the sizes of vocabularies are known.

    Args:
      model: built for the run's problems, with vocabularies of any size.
      source: as of `warm_start`.

    Raises:
      ValueError: as `warm_start`, if no variable has the name of another.
    """
    path, _ = find_weights(source)
    with checkpoints.damage_explained(path):
        saved = checkpoints.saved_shapes(path, f"{MODEL}/")
    if saved.keys().isdisjoint(flat_map(MODEL, model.variables)):
        raise _misfit(path, saved)


def _misfit(path: str, saved: Mapping[str, Sequence[int]]) -> ValueError:
    some = list(saved.items())[:NUM_SHOWN]
    listed = ", ".join(f"{_short(name)} {list(shape)}" for name, shape in some)
    return ValueError(
        f"Nothing of {path} fits the new model; expected a model of the same kind and "
        f"size. Its weights are like {listed}. Use its --model and --hparams_set, or "
        "leave --warm_start_from out."
    )


def _short(name: str) -> str:
    return name.removeprefix(f"{MODEL}/")


def find_weights(source: str) -> tuple[str, str | None]:
    """Gives the path of a checkpoint, and the folder of its run where it is known.

    Raises:
      ValueError: if there is none.
    """
    source = os.path.abspath(os.path.expanduser(source))
    if os.path.exists(f"{source}.index"):
        run_dir = os.path.dirname(os.path.dirname(source))
        is_run = run_settings.load_run_record(run_dir) is not None
        return source, run_dir if is_run else None
    path = checkpoint_folders.newest_checkpoint(source)
    if path is None:
        raise ValueError(
            f"--warm_start_from={source} is neither a run with a checkpoint nor a "
            "checkpoint; expected the --output_dir of mm-trainer, or a path such as "
            "runs/eight/best/ckpt-4000. Check the path."
        )
    return path, source


def _old_rows(run_dir: str | None) -> Rows:
    """Gives the words and labels of the other run; none where they are not known."""
    record = run_settings.load_run_record(run_dir) if run_dir else None
    if record is None or run_dir is None:
        return {}
    problems = [get_problem(name) for name in record["problems"]]
    vocabularies = run_vocabularies.load(
        problems,
        record.get("vocabularies", {}),
        run_dir,
        trained_on=record["data_dir"],
    )
    return _rows(problems, vocabularies)


def _rows(problems: Sequence[Problem], vocabularies: Mapping[str, Vocabulary]) -> Rows:
    """Gives, by vocabulary or label set, what each row stands for."""
    rows: dict[str, Sequence[str]] = {}
    for name, words in vocabularies.items():
        if isinstance(words, SubwordVocabulary):
            rows[name] = [words.piece(one) for one in range(words.size)]
        else:
            rows[name] = [str(one) for one in range(words.size)]
    for problem in problems:
        for feature in problem.features.values():
            if feature.modality == CLASS_LABEL and feature.vocabulary:
                rows[feature.vocabulary] = list(feature.labels)
    return rows


def _owner(name: str, old_rows: Rows, new_rows: Rows) -> str | None:
    """Gives the vocabulary or label set that a variable's rows belong to."""
    parts = name.split("/")
    owners = [part for part in parts if part in old_rows and part in new_rows]
    return owners[-1] if owners else None


def _remapped(
    old: np.ndarray, variable: tf.Variable, before: Sequence[str], now: Sequence[str]
) -> np.ndarray | None:
    """Gives the variable's value with the old rows of what both have, or None."""
    value = variable.numpy()
    axes = [
        axis
        for axis in range(value.ndim)
        if old.ndim == value.ndim
        and old.shape[axis] == len(before)
        and value.shape[axis] == len(now)
        and np.delete(old.shape, axis).tolist() == np.delete(value.shape, axis).tolist()
    ]
    if not axes:
        return None
    # A matrix to logits of labels has them last; embeddings have words first.
    axis = axes[-1] if variable.name.split(":")[0].endswith("kernel") else axes[0]
    place = {row: index for index, row in enumerate(before)}
    both = [(place[row], index) for index, row in enumerate(now) if row in place]
    if not both:
        return None
    old, value = np.moveaxis(old, axis, 0), np.moveaxis(value, axis, 0).copy()
    for source, target in both:
        value[target] = old[source]
    return np.moveaxis(value, 0, axis)
