"""The mean of several checkpoints, as a run of its own that answers but does not train.

mm-average calls it. Weights near the end of training circle around a better point;
their mean often translates better than any of them (Vaswani et al. 2017, section 6.1,
arxiv.org/abs/1706.03762).
"""

import os
import shutil
import uuid
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from t2t_mm import checkpoint_folders, checkpoints
from t2t_mm.run_history import HPARAMS_FILE, RUN_FILE
from t2t_mm.run_settings import load_run_record, save_run_record
from t2t_mm.run_vocabularies import FOLDER
from t2t_mm.training_state import AVERAGE, MODEL


def newest(run_dir: str, number: int) -> list[str]:
    """Gives the newest checkpoints of a run, the oldest of them first.

    Raises:
      FileNotFoundError: if there is no such folder.
      ValueError: if there are fewer.
    """
    if not os.path.isdir(run_dir):
        raise FileNotFoundError(
            f"{run_dir} is no folder; expected the --output_dir of mm-trainer. Check "
            "the path."
        )
    found = checkpoint_folders.checkpoints_of(run_dir)
    if len(found) < number:
        raise ValueError(
            f"{run_dir} has {len(found)} checkpoints; expected {number} to average. "
            "Ask for fewer, or train with a larger --keep_checkpoint_max."
        )
    return [found[step] for step in sorted(found)[-number:]]


def average(paths: Sequence[str], output_dir: str) -> str:
    """Writes the mean of checkpoints as a run that decoder, eval and load understand.

    Each variable is summed in float64. The optimizer's state is left out: the new run
    cannot be trained on, but training may start warm from it.

    Args:
      paths: prefixes of the checkpoints; settings and step are those of the last.
      output_dir: folder of the new run; anything but another average is refused.

    Returns:
      The new checkpoint's prefix.

    Raises:
      ValueError: if one comes twice, one is broken, or they are of different networks;
        if the folder holds something else.
      OSError: if it cannot be written.
    """
    located = [checkpoint_folders.located(os.path.abspath(path)) for path in paths]
    prefixes = [prefix or _only(run_dir) for run_dir, prefix in located]
    if not prefixes or len(set(prefixes)) < len(prefixes):
        raise ValueError(
            f"{', '.join(paths) or 'No checkpoints'} came to be averaged; expected one "
            "or more, each once. Name them again."
        )
    names = _checked_names(prefixes)
    _refuse_other_folders(output_dir)
    output_dir = output_dir.rstrip(os.sep)
    aside = f"{output_dir}.{uuid.uuid4().hex[:8]}.partial"
    try:
        _copy_settings(located[-1][0], aside, prefixes)
        manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(**_means(prefixes, names)),
            os.path.join(aside, checkpoint_folders.CHECKPOINT_DIR),
            max_to_keep=1,
        )
        step = int(prefixes[-1].rpartition("-")[2])
        path = manager.save(checkpoint_number=step)
        shutil.rmtree(output_dir, ignore_errors=True)  # an earlier average
        os.replace(aside, output_dir)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return os.path.join(output_dir, os.path.relpath(path, aside))


def _means(
    prefixes: Sequence[str], names: Sequence[Mapping[str, str]]
) -> dict[str, tf.Variable]:
    """Gives the mean of each variable, by name; one key of it for each checkpoint."""
    readers = [tf.train.load_checkpoint(prefix) for prefix in prefixes]
    means = {}
    for name in names[0]:
        value = readers[0].get_tensor(names[0][name])
        total = np.zeros(value.shape, np.float64)
        for reader, keys in zip(readers, names, strict=True):
            total += reader.get_tensor(keys[name])
        means[name] = tf.Variable(np.asarray(total / len(readers), value.dtype))
    return means


def _only(run_dir: str) -> str:
    """Gives the newest checkpoint of a run that was named instead of one."""
    return newest(run_dir, 1)[0]


def _checked_names(prefixes: Sequence[str]) -> list[dict[str, str]]:
    """Gives the key of each variable in each checkpoint; all have the same ones."""
    every, first = [], None
    for prefix in prefixes:
        try:
            shapes = tf.train.load_checkpoint(prefix).get_variable_to_shape_map()
            names = checkpoints.saved_names(prefix, only=f"{MODEL}/")
            # Where the run kept moving averages, they are what it answers with.
            moving = checkpoints.saved_names(prefix, only=f"{AVERAGE}/")
            names |= {
                MODEL + name.removeprefix(AVERAGE): key for name, key in moving.items()
            }
        except (tf.errors.OpError, RuntimeError) as error:
            raise ValueError(
                f"Checkpoint {prefix} cannot be read: {str(error).splitlines()[0]} "
                "Expected a whole one. Leave it out."
            ) from error
        found = {name: tuple(shapes[key]) for name, key in names.items()}
        first = found if first is None else first
        differing = sorted(
            name
            for name in first.keys() | found.keys()
            if first.get(name) != found.get(name)
        )
        if differing:
            raise ValueError(
                f"{prefix} and {prefixes[0]} are of different networks: "
                f"{differing[0]} is {found.get(differing[0])} in the one and "
                f"{first.get(differing[0])} in the other. Expected checkpoints of one "
                "model with one hparams set. Choose others."
            )
        every.append(names)
    return every


def _refuse_other_folders(output_dir: str) -> None:
    """Refuses to write where anything but an earlier average is."""
    existing = load_run_record(output_dir) if os.path.isdir(output_dir) else None
    is_average = existing is not None and "averaged_from" in existing
    is_file = os.path.exists(output_dir) and not os.path.isdir(output_dir)
    if is_file or (
        not is_average and os.path.isdir(output_dir) and os.listdir(output_dir)
    ):
        raise ValueError(
            f"{output_dir} holds something that is no average; expected a folder that "
            "is empty or not there. Name another --output_path."
        )


def _copy_settings(run_dir: str, folder: str, prefixes: Sequence[str]) -> None:
    """Makes a folder a run: its record, its hparams, its vocabularies."""
    record = load_run_record(run_dir)
    if record is None:
        raise ValueError(
            f"{run_dir} holds no run: {RUN_FILE} is not there; expected checkpoints in "
            "the --output_dir of mm-trainer. Check the path."
        )
    os.makedirs(folder)
    vocabularies = os.path.join(run_dir, FOLDER)
    if os.path.isdir(vocabularies):
        shutil.copytree(vocabularies, os.path.join(folder, FOLDER))
    shutil.copy(os.path.join(run_dir, HPARAMS_FILE), folder)
    save_run_record({**record, "averaged_from": list(prefixes)}, folder)
