"""Runs that train in turn, ours and a rival's: `step_ratios.py` compares them."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import step_times as steps_of  # this folder's

WARM_STEPS = 4
PAUSE = 0.02  # seconds in which another process's threads stop waiting in a busy loop


class Trained:
    """A run on a few batches of some problems.

    Args:
      asked: the flags.
      precision: as of mm-trainer.
      num_batches: of each problem; trained on in turn.
      changes: hparams, over those of the flags.
    """

    def __init__(self, asked, precision="float32", num_batches=4, **changes):
        import keras

        from t2t_mm import configuration, registry
        from t2t_mm.bin import command
        from t2t_mm.input_pipeline import batch_signature
        from t2t_mm.mixture import get_problems, parse_problems
        from t2t_mm.models import build_model
        from t2t_mm.optimizers import make_optimizer
        from t2t_mm.precision import computing_in
        from t2t_mm.strategy import make_distribution
        from t2t_mm.train_step import TrainSteps
        from t2t_mm.training_state import TrainingState

        command.load_zoo()
        hparams = configuration.named_hparams(asked.hparams_set)
        changes = configuration.parse_overrides(asked.hparams, hparams) | changes
        hparams = configuration.override(hparams, **changes)
        name = next(
            name
            for name in registry.models.names()
            if registry.models.get(name).hparams_class is type(hparams)
        )
        self.problems = get_problems(parse_problems(asked.problem))
        sizes = steps_of.vocabulary_sizes(self.problems, asked.data_dir)
        keras.utils.set_random_seed(1)
        with computing_in(precision):
            model = build_model(name, hparams, self.problems, sizes)
            optimizer = make_optimizer(hparams, model.trainable_variables, 1000)
        names = [problem.name for problem in self.problems]
        self.state = TrainingState(model, optimizer, names)
        signatures = {p.name: batch_signature(p) for p in self.problems}
        self.steps = TrainSteps(
            self.state, signatures, hparams.clip_norm, make_distribution("one_device")
        )
        self.batches = {
            problem.name: steps_of.batches_of(
                problem, hparams, asked.data_dir, sizes, num_batches
            )
            for problem in self.problems
        }
        self.losses = []
        self.walls, self.cpus = [], []

    def step(self, number=0):
        """Trains on a batch of each problem, and notes what it cost."""
        wall, cpu = time.perf_counter(), time.process_time()
        for problem in self.problems:
            batches = self.batches[problem.name]
            numbers, _ = self.steps(problem.name, batches[number % len(batches)])
            self.losses.append(float(numbers[0]))
        self.walls.append(time.perf_counter() - wall)
        self.cpus.append(time.process_time() - cpu)

    def cost(self):
        """Gives the median (wall, CPU) seconds of the steps noted."""
        return statistics.median(self.walls), statistics.median(self.cpus)

    def real_tokens(self):
        """Gives the mean numbers of real source and target positions of a batch."""
        import numpy as np

        batches = [batch for some in self.batches.values() for batch in some]
        return tuple(
            statistics.fmean(float(np.sum(batch[f"{name}_mask"])) for batch in batches)
            for name in ("inputs", "targets")
        )


class Rival:
    """PyTorch's encoder-decoder in a process of its own, asked for one step at a time.

    Args:
      python: of an environment with torch.
      batches: those of ours; options: flags of the script.
    """

    def __init__(self, python, batches, options):
        import numpy as np

        script = os.path.join(
            os.path.dirname(__file__), "rivals", "pytorch_transformer.py"
        )
        arrays = {
            f"{name}_{number}": np.asarray(batch[name])
            for number, batch in enumerate(batches)
            for name in ("inputs", "targets")
        }
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "batches.npz")
            np.savez(path, **arrays)
            flags = [f"--{name}={value}" for name, value in options.items()]
            self.process = subprocess.Popen(
                [python, script, f"--batches={path}", *flags],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self.about = self._read()
        self.num_batches = len(batches)
        self.walls, self.cpus = [], []

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"PyTorch's process ended with code {self.process.wait()}.")
        return json.loads(line)

    def step(self, number=0):
        """Trains on a batch, and notes what it cost."""
        time.sleep(PAUSE)
        self.process.stdin.write(f"{number % self.num_batches}\n")
        self.process.stdin.flush()
        record = self._read()
        time.sleep(PAUSE)
        self.walls.append(record["wall"])
        self.cpus.append(record["CPU"])
        self.memory = record["GiB"]

    cost = Trained.cost

    def close(self):
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()


def in_turn(runs, rounds):
    """Lets runs train in turn, after warming up; gives each one's cost."""
    for run in runs:
        for number in range(WARM_STEPS):
            run.step(number)
        run.walls, run.cpus = [], []
    for number in range(rounds):
        for run in runs:
            run.step(WARM_STEPS + number)
    return [run.cost() for run in runs]
