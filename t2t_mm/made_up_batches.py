"""Random problems and batches of any modality: for tests and benchmarks, no files.

The batches look like those of the input pipeline: text ends in EOS, padding comes last,
rows differ in length.
"""

from collections.abc import Mapping

import numpy as np

from t2t_mm.problem import (
    AUDIO,
    CLASS_LABEL,
    IMAGE,
    NUM_SPELLED,
    TEXT,
    Feature,
    Problem,
)
from t2t_mm.vocabulary import EOS_ID

Batch = dict[str, np.ndarray]

# Positions of a column where nothing else is asked for: text ids, samples of sound.
LENGTHS = {TEXT: 7, AUDIO: 3001, CLASS_LABEL: 1}
_NUM_SPECIAL_IDS = 3


def made_up_problem(
    name: str, inputs: Feature, targets: Feature, command: str
) -> Problem:
    """Makes a problem that says what its columns are and has no data.

    Args:
      name: what it is called; it is not registered.
      inputs, targets, command: as in `Problem`.

    Example:
      >>> words = Feature("text", vocabulary="words")
      >>> made_up_problem("echo", words, words, "To-Echo").name
      'echo'
    """
    attributes = {
        "__doc__": f"Made up: {inputs.modality} to {targets.modality}.",
        "inputs": inputs,
        "targets": targets,
        "command": command,
        "registered_name": name,
    }
    return type("MadeUpProblem", (Problem,), attributes)()


def made_up_batch(
    problem: Problem,
    vocabularies: Mapping[str, int],
    *,
    num_examples: int = 2,
    lengths: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Batch:
    """Gives a random batch of a problem, padded and masked.

    Args:
      problem: whose columns.
      vocabularies: size of each text vocabulary, by name.
      num_examples: rows (B); the first is the longest, the others are ever shorter,
        down to seven tenths of it.
      lengths: by column, positions of the longest row: ids or samples.
      seed: of the numbers.

    Returns:
      "inputs", "inputs_mask", "targets", "targets_mask", as the input pipeline.
    """
    rng = np.random.default_rng(seed)
    batch: Batch = {}
    for name, feature in problem.features.items():
        length = (lengths or {}).get(name, LENGTHS.get(feature.modality, 0))
        size = vocabularies.get(str(feature.vocabulary), len(feature.labels))
        if feature.spelled:
            size = min(size, NUM_SPELLED)
        values, mask = _column(feature, rng, num_examples, length, size)
        batch[name], batch[f"{name}_mask"] = values, mask
    return batch


def _column(
    feature: Feature, rng: np.random.Generator, rows: int, length: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    if feature.modality == IMAGE:
        shape = (rows, feature.height, feature.width)
        pixels = rng.random((*shape, feature.channels), np.float32)
        return pixels, np.ones(shape, bool)
    if feature.modality == CLASS_LABEL:
        labels = rng.integers(0, len(feature.labels), (rows, 1), np.int32)
        return labels, np.ones((rows, 1), bool)
    # Evenly from the full length down to seven tenths: padding stays under 15 %, which
    # is what the input pipeline's is held to. Tests of two or three rows want them to
    # differ, however short they are.
    spread = max(3 * length // 10 + 1, rows if rows <= 3 else 0)
    shorter = np.arange(rows) * spread // rows
    row_lengths = np.maximum(length - shorter, 1)[:, None]
    mask = np.arange(length)[None] < row_lengths
    if feature.modality == AUDIO:
        values = rng.uniform(-1, 1, (rows, length)).astype(np.float32)
        return values * mask, mask
    ids = rng.integers(_NUM_SPECIAL_IDS, size, (rows, length), np.int32)
    np.put_along_axis(ids, row_lengths - 1, EOS_ID, 1)
    return ids * mask, mask


def with_garbage_appended(
    problem: Problem,
    batch: Mapping[str, np.ndarray],
    vocabularies: Mapping[str, int],
    *,
    amounts: Mapping[str, int],
    seed: int = 1,
) -> Batch:
    """Gives the same batch with more padding, and with random values in all padding.

    A network that reads padding anywhere answers otherwise for it. Columns of a fixed
    size (pictures, class labels) stay as they are.

    Args:
      problem: whose batch.
      batch: as `made_up_batch` gives it.
      vocabularies: size of each text vocabulary, by name.
      amounts: by column, how many positions to append.
      seed: of the random values.
    """
    rng = np.random.default_rng(seed)
    longer = dict(batch)
    for name, feature in problem.features.items():
        if feature.modality not in (TEXT, AUDIO):
            continue
        mask = np.pad(batch[f"{name}_mask"], ((0, 0), (0, amounts.get(name, 0))))
        values = np.pad(batch[name], ((0, 0), (0, amounts.get(name, 0))))
        if feature.modality == TEXT:
            size = vocabularies[str(feature.vocabulary)]
            garbage = rng.integers(0, size, values.shape, np.int32)
        else:
            garbage = rng.uniform(-1, 1, values.shape).astype(np.float32)
        longer[name], longer[f"{name}_mask"] = np.where(mask, values, garbage), mask
    return longer
