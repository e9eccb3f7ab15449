"""Ratios of training steps, each from one process and in turn: what contention leaves.

    python benchmarks/step_ratios.py experts
    python benchmarks/step_ratios.py precision --rounds=44 --data_dir=demo/data
    python benchmarks/step_ratios.py precision --hparams_set=multimodel_base \
        --hparams=num_experts=8,batch_tokens=1024 --rounds=3
    python benchmarks/step_ratios.py start_up --problem=eight_small
    python benchmarks/step_ratios.py torch --torch=torch/bin/python --data_dir=demo/data
    python benchmarks/step_ratios.py torch --torch=torch/bin/python --rounds=5 \
        --data_dir=demo/data --hparams_set=transformer_base --hparams=batch_tokens=1024

  experts     a step with 240 experts over one with 30, the same k
  precision   a step in mixed_bfloat16 over one in float32, and the losses of both;
              bfloat16 is fast on processors with AMX or avx512_bf16 only
  start_up    until each problem of a mixture has made its first step, and the memory
  torch       our step over one of a plain PyTorch encoder-decoder with as many
              multiply-adds (benchmarks/rivals/pytorch_transformer.py). Made-up batches
              are mostly padding, which PyTorch's wider layers make up for, with as many
              more parameters: use real ones

At base size more experts or positions than that do not fit into 6 GB twice. Batches
are made up unless there is a --data_dir. CPU time is user and system time of all
threads of the process; with other jobs on the machine PyTorch's threads wait for each
other in a busy loop, and only torch --threads=1 says something.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import train_step as steps_of  # noqa: E402  (this folder's)

EXPERTS, CHOSEN = (30, 240), 4
WARM_STEPS = 4


def flags():
    """Gives the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = ("experts", "precision", "start_up", "torch")
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("--hparams_set", default="multimodel_tiny")
    parser.add_argument("--hparams", default="", help="as of mm-trainer")
    parser.add_argument("--problem", default="translate_ende_home")
    parser.add_argument("--data_dir", help="of mm-datagen; none: made-up batches")
    parser.add_argument("--rounds", type=int, default=12, help="timed steps of each")
    parser.add_argument("--torch", help="Python of an environment with torch")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="of both, for torch"
    )
    parser.add_argument(
        "--tokens", default="1024,4096", help="of a batch, for experts: several sizes"
    )
    return parser.parse_args()


class Trained:
    """A small run on made-up batches of some problems.

    Args:
      asked: the flags.
      changes: hparams, over those of the flags.
      precision: as of mm-trainer.
      num_batches: of each problem; trained on in turn.
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


def show_ratio(first, second, costs):
    """Prints two costs and what the second is of the first."""
    (wall1, cpu1), (wall2, cpu2) = costs
    for name, wall, cpu in ((first, wall1, cpu1), (second, wall2, cpu2)):
        print(f"  {name:<16} {1e3 * wall:9.1f} ms {1e3 * cpu:9.1f} CPU ms")
    print(f"  ratio {wall2 / wall1:.2f} of wall, {cpu2 / cpu1:.2f} of CPU time")


def experts(asked):
    """Compares few experts with many, at several sizes of batches."""
    for tokens in map(int, asked.tokens.split(",")):
        runs = [
            Trained(
                asked,
                num_experts=number,
                experts_per_position=CHOSEN,
                batch_tokens=tokens,
            )
            for number in EXPERTS
        ]
        print(f"{asked.hparams_set}, k = {CHOSEN}, batches of {tokens} tokens:")
        show_ratio(
            *(f"{number} experts" for number in EXPERTS), in_turn(runs, asked.rounds)
        )


def precision(asked):
    """Compares float32 and mixed_bfloat16: cost and losses."""
    names = ("float32", "mixed_bfloat16")
    num_batches = WARM_STEPS + asked.rounds
    runs = [Trained(asked, name, num_batches) for name in names]
    print(f"{asked.hparams_set}:")
    show_ratio(*names, in_turn(runs, asked.rounds))
    for name, run in zip(names, runs, strict=True):
        some = ", ".join(f"{loss:.3f}" for loss in run.losses[:: len(run.losses) // 8])
        print(f"  {name:<16} losses {some}")
    apart = [abs(b / a - 1) for a, b in zip(*(run.losses for run in runs), strict=True)]
    print(f"  losses differ by {statistics.fmean(apart):.2%} on average, ", end="")
    print(f"by {max(apart):.2%} at most, over {len(apart)} steps")


def start_up(asked):
    """Measures the way to the first step of every problem."""
    wall, cpu = time.perf_counter(), time.process_time()
    run = Trained(asked)
    run.step()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{asked.hparams_set}, {len(run.problems)} problems, {run.steps.num_compiled} "
        f"compiled steps: first step of all after {wall:.1f} s, {cpu:.1f} CPU-seconds; "
        f"{memory:.2f} GiB"
    )


def torch(asked):
    """Compares with PyTorch at equal multiply-adds, width, batch and vocabulary."""
    if not asked.torch:
        sys.exit("step_ratios.py: torch needs --torch, a Python that has torch.")
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(asked.threads)
    tf.config.threading.set_inter_op_parallelism_threads(asked.threads)
    run = Trained(asked, num_batches=1)
    problem = run.problems[0]
    signature = run.steps._signatures[problem.name]
    count = steps_of.forward_multiply_adds(run.state.model, problem, signature)
    batch = run.batches[problem.name][0]
    gflop = 6e-9 * float(count(batch))
    [cost] = in_turn([run], asked.rounds)
    rows = batch["targets"].shape[0]
    # Rows without padding, and as many real positions.
    source, target = (
        round(float(np.sum(batch[f"{name}_mask"])) / rows)
        for name in ("inputs", "targets")
    )
    net = run.state.model.modalities["text"].nets[problem.targets.vocabulary]
    script = os.path.join(os.path.dirname(__file__), "rivals/pytorch_transformer.py")
    hparams = run.state.model.hparams
    layers = getattr(hparams, "decoder_blocks", None) or hparams.num_decoder_layers
    options = {
        "gflop": gflop,
        "width": hparams.hidden_size,
        "heads": hparams.num_heads,
        "layers": layers,
        "threads": asked.threads,
        "vocabulary": net.size,
        "examples": rows,
        "source": source,
        "target": target,
        "steps": asked.rounds,
    }
    line = [asked.torch, script, *(f"--{k}={v}" for k, v in options.items())]
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    rival = json.loads(done.stdout)
    print(f"{asked.hparams_set}, {gflop:.2f} GFLOP a step; PyTorch {rival}:")
    other = (rival["ms"] / 1e3, rival["CPU ms"] / 1e3)
    show_ratio("PyTorch", "t2t_mm", [other, cost])


KINDS = {
    "experts": experts,
    "precision": precision,
    "start_up": start_up,
    "torch": torch,
}

if __name__ == "__main__":
    arguments = flags()
    KINDS[arguments.kind](arguments)
