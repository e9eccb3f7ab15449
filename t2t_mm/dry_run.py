"""mm-trainer --check: two steps of everything, a report, and nothing is left behind."""

import math
import os
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from t2t_mm import batch_plan, evaluation, input_pipeline
from t2t_mm.checkpoints import Checkpoints
from t2t_mm.preparation import Parts
from t2t_mm.problem import Problem
from t2t_mm.run_settings import Settings
from t2t_mm.split_reader import SplitReader
from t2t_mm.step_errors import memory_explained
from t2t_mm.train_step import NUMBERS
from t2t_mm.training_state import TrainingState
from t2t_mm.warm_start import describe_frozen

NUM_STEPS = 2
NUM_EXAMPLES = 4
MIB = 2**20


def check_run(parts: Parts) -> int:
    """Tries out a run: of each problem two steps, on its largest batch and its first,
    an evaluation of a few examples; a checkpoint. Prints what it found. Where batches
    are accumulated, a step takes the same one as often as an update has batches.

    Args:
      parts: of the run; its network, a new one, is trained a little.

    Returns:
      The number of steps done.

    Raises:
      ValueError: if a loss is not finite.
      OSError: if memory runs out, or the checkpoint cannot be written.
    """
    state, hparams = parts.state, parts.settings.hparams
    print(describe_parameters(state))
    for words in (describe_frozen(state.model, hparams.freeze), parts.origin):
        if words:
            print(words)
    for problem in parts.problems.values():
        for batch in _two_batches(problem, parts.settings):
            with memory_explained(problem.name, hparams, batch):
                for _ in range(parts.steps.batches_per_update):
                    output = parts.steps(problem.name, batch)
            state.step += 1
            if state.averages:
                state.averages.update(state.step, parts.distribution)
            print(_describe_step(problem.name, batch, np.asarray(output[0])))
    with tempfile.TemporaryDirectory() as folder:
        if parts.distribution.is_chief:
            for problem in parts.problems.values():
                with memory_explained(problem.name, hparams):
                    result = evaluation.evaluate(
                        state.model,
                        problem,
                        "dev",
                        parts.settings.data_dir,
                        hparams,
                        parts.vocabularies,
                        limit=NUM_EXAMPLES,
                        num_samples=0,
                    )
                print(
                    f"{problem.name}: {result['examples']} dev examples, "
                    f"loss {result['loss']:.3f}, {', '.join(result['metrics'])}"
                )
            files = os.scandir(os.path.dirname(Checkpoints(folder, state).save()))
            size = sum(file.stat().st_size for file in files)
            print(f"A checkpoint takes {size / MIB:,.1f} MiB.")
    print(f"The process took at most {_peak_bytes() / MIB:,.0f} MiB. All is well.")
    return state.step


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def describe_parameters(state: TrainingState) -> str:
    """Gives the parameters of each part of the network, and what they take."""
    parts: Counter[str] = Counter()
    for variable in state.model.trainable_variables:
        path = variable.path.split("/")
        parts["/".join(path[1:2]) or path[0]] += math.prod(variable.shape)
    total = sum(parts.values())
    width = max(map(len, parts))
    lines = [f"{total:,} parameters that are trained:"]
    for part, size in parts.most_common():
        lines.append(f"  {part:<{width}}  {size:>12,}  {size / total:6.1%}")
    sizes = {
        name: sum(v.value.dtype.size * math.prod(v.shape) for v in variables)
        for name, variables in (
            ("weights", state.model.variables),
            ("optimizer", state.optimizer.variables),
        )
    }
    lines.append(
        f"Weights take {sizes['weights'] / MIB:,.1f} MiB, the optimizer's state "
        f"{sizes['optimizer'] / MIB:,.1f} MiB."
    )
    return "\n".join(lines)


def _two_batches(problem: Problem, settings: Settings) -> list[Mapping[str, Any]]:
    """Gives the largest batch of the first epoch, and the first."""
    hparams, data_dir = settings.hparams, settings.data_dir
    reader = SplitReader(problem, "train", data_dir)
    limits = batch_plan.batch_limits(problem, hparams)
    rows = batch_plan.kept_rows(reader.index, limits)
    key = (settings.random_seed, 0, batch_plan.problem_key(problem))
    plan = batch_plan.training_plan(reader.index, rows, limits, key)
    lengths = reader.index[:, batch_plan.LENGTHS :]
    largest = max(plan, key=lambda rows: len(rows) * int(lengths[rows].max(0).sum()))
    return [
        input_pipeline.training_batch(
            problem, *input_pipeline.read_batch(reader, rows, limits), limits
        )
        for rows in (largest, plan[0])
    ]


def _describe_step(name: str, batch: Mapping[str, Any], numbers: np.ndarray) -> str:
    found = dict(zip(NUMBERS, numbers.tolist(), strict=True))
    shapes = ", ".join(
        f"{column} {list(batch[column].shape)}" for column in ("inputs", "targets")
    )
    if not math.isfinite(found["loss"]):
        raise ValueError(
            f"Problem '{name}' gave loss {found['loss']} on a batch of {shapes}; "
            "expected a finite number. Look at its data with mm-datagen --inspect."
        )
    tokens = int(found["weight"])
    return (
        f"{name}: {shapes}; {tokens:,} target tokens, loss {found['loss']:.3f}, "
        f"padding {1 - found['filled']:.1%}"
    )
