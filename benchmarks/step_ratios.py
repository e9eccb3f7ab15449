"""Ratios of training steps, each from one process and in turn: what contention leaves.

    python benchmarks/step_ratios.py experts --data_dir=demo/data
    python benchmarks/step_ratios.py experts --hparams_set=multimodel_base \
        --tokens=4096 --rounds=8 --apart --data_dir=demo/data
    python benchmarks/step_ratios.py precision --rounds=44 --data_dir=demo/data
    python benchmarks/step_ratios.py precision --hparams_set=multimodel_base \
        --hparams=num_experts=8,batch_tokens=512 --rounds=3 --data_dir=demo/data
    python benchmarks/step_ratios.py start_up --problem=eight_small --data_dir=demo/data
    python benchmarks/step_ratios.py memory --data_dir=demo/data
    python benchmarks/step_ratios.py torch --torch=torch/bin/python --data_dir=demo/data
    python benchmarks/step_ratios.py torch --torch=torch/bin/python --rounds=5 \
        --data_dir=demo/data --hparams_set=transformer_base --hparams=batch_tokens=1024

  experts     a step with 240 experts over one with 30, the same k
  precision   a step in mixed_bfloat16 over one in float32, the losses of both, and what
              bfloat16 is worth here for a matmul alone: it takes AMX or avx512_bf16
  start_up    until each problem of a mixture has made its first step, and the memory
  memory      peak memory of the trainer with four problems over that with one, all of
              the same modalities; trains each for a few steps, each by itself
  torch       our step over one of a plain PyTorch encoder-decoder with as many
              multiply-adds (benchmarks/rivals/pytorch_transformer.py), on the same
              batches, with as many threads, on as many processors. PyTorch's own count
              leaves out fused attention. Empty rows of experts count as work; --useful
              leaves them out of what PyTorch has to do

Each prints its target beside what was found. Batches are made up unless there
is a --data_dir. At base size more experts or positions than that do not fit into 6 GB
twice. CPU time is user and system time of all threads of the process; with other jobs
on the machine PyTorch's threads wait for each other in a busy loop, and only torch
--threads=1 says something.
"""

import argparse
import contextlib
import functools
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

import step_times as steps_of  # this folder's
from runs_in_turn import WARM_STEPS, Rival, Trained, in_turn

EXPERTS, CHOSEN = (30, 240), 4
MANY = "translate_ende_home,translate_deen_home,translate_enfr_home,translate_fren_home"
MEMORY_STEPS = 40
TURNS = 2  # of runs that take all the memory
AMX = "amx_bf16"
BFLOAT16_FLAGS = (AMX, "avx512_bf16")
MATMULS = (1024, 1024, 1024), (2048, 512, 512)


def flags():
    """Gives the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=KINDS)
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
        "--intra_op_threads",
        type=int,
        default=0,
        help="into parts for how many of our threads an operation is cut; "
        "default: mm-trainer's choice",
    )
    parser.add_argument(
        "--useful", action="store_true", help="for torch: without experts' empty rows"
    )
    parser.add_argument(
        "--tokens", default="1024,4096", help="of a batch, for experts: several sizes"
    )
    parser.add_argument(
        "--apart",
        action="store_true",
        help="for experts: in processes by turns, where both do not fit into memory",
    )
    return parser.parse_args()


def start(asked):
    """Imports TensorFlow, in silence, to use the threads asked for."""
    from t2t_mm.bin import command, threads

    inter_op = 0
    if asked.kind == "torch":
        inter_op = asked.threads
        if hasattr(os, "sched_setaffinity"):  # for both: the other process inherits it
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:inter_op])
    command.start_tensorflow()
    threads.use_threads(asked.intra_op_threads, inter_op)


def show_ratio(first, second, costs):
    """Prints two costs and what the second is of the first; gives both ratios."""
    (wall1, cpu1), (wall2, cpu2) = costs
    for name, wall, cpu in ((first, wall1, cpu1), (second, wall2, cpu2)):
        print(f"  {name:<16} {1e3 * wall:9.1f} ms {1e3 * cpu:9.1f} CPU ms")
    print(f"  ratio {wall2 / wall1:.2f} of wall, {cpu2 / cpu1:.2f} of CPU time")
    return wall2 / wall1, cpu2 / cpu1


def show_target(figure, target, found):
    """Prints whether a figure is as low as it should be."""
    verdict = "met" if found <= target else "missed"
    print(
        f"  {figure}: {found:.2f}, target at most {target:.2f}: {verdict}", flush=True
    )


def memory_of_process():
    """Gives the peak memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def experts(asked):
    """Compares few experts with many, at several sizes of batches."""
    names = [f"{number} experts" for number in EXPERTS]
    for tokens in map(int, asked.tokens.split(",")):
        changes = [
            {
                "num_experts": number,
                "experts_per_position": CHOSEN,
                "batch_tokens": tokens,
            }
            for number in EXPERTS
        ]
        measured = costs_apart if asked.apart else costs_together
        (source, target), costs, memories = measured(asked, changes)
        print(
            f"{asked.hparams_set}, k = {CHOSEN}, batch_tokens={tokens}: batches of "
            f"{source:.0f} real source and {target:.0f} real target tokens"
        )
        wall, cpu = show_ratio(*names, costs)
        show_target("wall time, 240 experts over 30", 1.3, wall)
        show_target("CPU time, 240 experts over 30", 1.3, cpu)
        print(f"  peak memory {memories}", flush=True)


def costs_together(asked, changes):
    """Gives (real tokens of a batch, each one's cost, memory) of runs in turn."""
    runs = [Trained(asked, **some) for some in changes]
    costs = in_turn(runs, asked.rounds)
    return runs[0].real_tokens(), costs, f"of both {memory_of_process():.2f} GiB"


def costs_apart(asked, changes):
    """Gives the same of runs that do not fit beside each other: a process for each."""
    found = [[] for _ in changes]
    for _ in range(TURNS):
        for mine, some in zip(found, changes, strict=True):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                mine.append(pool.submit(cost_alone, asked, some).result())
    costs = [
        tuple(statistics.median(sum((one[i] for one in mine), [])) for i in (0, 1))
        for mine in found
    ]
    memories = [max(one[2] for one in mine) for mine in found]
    memories = " and ".join(f"{gib:.2f}" for gib in memories)
    return found[0][0][3], costs, f"{memories} GiB, in turn {TURNS} times"


def cost_alone(asked, changes):
    """Trains here; gives seconds of steps, wall and CPU, memory and real tokens."""
    start(asked)
    run = Trained(asked, **changes)
    in_turn([run], asked.rounds)
    return run.walls, run.cpus, memory_of_process(), run.real_tokens()


def precision(asked):
    """Compares float32 and mixed_bfloat16: cost and losses."""
    for sizes in MATMULS:
        times = [matmul_seconds(sizes, dtype) for dtype in ("float32", "bfloat16")]
        print(
            f"matmul {' x '.join(map(str, sizes))}: float32 {1e3 * times[0]:.2f} ms, "
            f"bfloat16 {1e3 * times[1]:.2f} ms, {times[0] / times[1]:.2f} times as fast"
        )
    names = ("float32", "mixed_bfloat16")
    num_batches = WARM_STEPS + asked.rounds
    runs = [Trained(asked, name, num_batches) for name in names]
    print(f"{asked.hparams_set}:")
    wall, cpu = show_ratio(*names, in_turn(runs, asked.rounds))
    known = [flag for flag in BFLOAT16_FLAGS if flag in processor_flags()]
    verdict = "missed" if AMX in known else "not judged"
    verdict = "met" if 1 / wall >= 1.5 else verdict
    print(
        f"  bfloat16 is {1 / wall:.2f} times as fast, {1 / cpu:.2f} by CPU time; "
        f"target at base size with AMX, at least 1.50: {verdict}; this processor has "
        f"{' and '.join(known) or 'neither ' + ' nor '.join(BFLOAT16_FLAGS)}"
    )
    for name, run in zip(names, runs, strict=True):
        every = max(len(run.losses) // 8, 1)
        some = ", ".join(f"{loss:.3f}" for loss in run.losses[::every])
        print(f"  {name:<16} losses {some}")
    apart = [abs(b / a - 1) for a, b in zip(*(run.losses for run in runs), strict=True)]
    print(f"  losses differ by {statistics.fmean(apart):.2%} on average, ", end="")
    print(f"by {max(apart):.2%} at most, over {len(apart)} steps")
    print(f"  peak memory of both {memory_of_process():.2f} GiB")


def matmul_seconds(sizes, dtype, rounds=20):
    """Gives the best wall time of a matmul [m, k] x [k, n] in a type of numbers."""
    import tensorflow as tf

    m, k, n = sizes
    x, y = (tf.cast(tf.random.normal(shape), dtype) for shape in ((m, k), (k, n)))
    walls = []
    for _ in range(rounds):
        start = time.perf_counter()
        tf.matmul(x, y)[0, 0].numpy()
        walls.append(time.perf_counter() - start)
    return min(walls)


def processor_flags():
    """Gives what Linux says the processor can do; nothing elsewhere."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("flags"):
                return line.split()
    return []


def start_up(asked):
    """Measures the way to the first step of every problem."""
    wall, cpu = time.perf_counter(), time.process_time()
    run = Trained(asked)
    run.step()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"{asked.hparams_set}, {len(run.problems)} problems, {run.steps.num_compiled} "
        f"compiled steps: first step of all after {wall:.1f} s, {cpu:.1f} CPU-seconds; "
        f"{memory_of_process():.2f} GiB"
    )
    show_target("seconds to the first step of all", 60, wall)


def memory(asked):
    """Compares the trainer's memory with one problem and with four."""
    if not asked.data_dir:
        sys.exit("step_ratios.py: memory needs --data_dir, since it runs the trainer.")
    found = []
    for problems in (MANY.split(",")[0], MANY):
        # A process that has trained before keeps what it took.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found.append(pool.submit(trained_memory, asked, problems).result())
        count = len(problems.split(","))
        print(
            f"{asked.hparams_set}, {count} problem(s): {found[-1]:.3f} GiB", flush=True
        )
    show_target("peak memory, four problems over one", 1.1, found[1] / found[0])


def trained_memory(asked, problems):
    """Trains for a few steps; gives the peak memory of this process in GiB."""
    from t2t_mm.bin import command

    command.start_tensorflow()
    from t2t_mm.trainer import train

    command.load_zoo()
    with tempfile.TemporaryDirectory() as folder:
        train(
            output_dir=folder,
            train_steps=MEMORY_STEPS,
            model=asked.hparams_set.split("_")[0],
            hparams_set=asked.hparams_set,
            hparams=asked.hparams,
            problem=problems,
            data_dir=asked.data_dir,
            rates="equal",
            evaluate=False,
            eval_frequency=0,
            progress=False,
        )
    return memory_of_process()


def gflop_of(model, problem, batches, of):
    """Gives the GFLOP of a step, the mean over batches, by counting operations."""
    from t2t_mm.input_pipeline import batch_signature

    signature = batch_signature(problem)
    count = steps_of.forward_multiply_adds(model, problem, signature, of)
    return 6e-9 * statistics.fmean(float(count(batch)) for batch in batches)


def torch(asked):
    """Compares with PyTorch at equal multiply-adds, width, batches and vocabulary."""
    if not asked.torch:
        sys.exit("step_ratios.py: torch needs --torch, a Python that has torch.")
    import tensorflow as tf

    run = Trained(asked)
    problem = run.problems[0]
    model, batches = run.state.model, run.batches[problem.name]
    hparams = model.hparams
    gflop = gflop_of(model, problem, batches, steps_of.multiply_adds)
    empty = 0.0
    if getattr(hparams, "num_experts", 0) and hparams.use_moe:
        count = functools.partial(steps_of.empty_multiply_adds, hparams)
        empty = gflop_of(model, problem, batches, count)
    layers = getattr(hparams, "decoder_blocks", None) or hparams.num_decoder_layers
    options = {
        "gflop": gflop - empty * asked.useful,
        "width": hparams.hidden_size,
        "heads": hparams.num_heads,
        "layers": layers,
        "threads": asked.threads,
        "vocabulary": model.modalities["text"].nets[problem.targets.vocabulary].size,
        "dropout": hparams.dropout,
        "label_smoothing": hparams.label_smoothing,
        "tie": int(hparams.tie_embeddings),
        "clip_norm": hparams.clip_norm,
    }
    rival = Rival(asked.torch, batches, options)
    costs = in_turn([rival, run], asked.rounds)
    rival.close()
    source, target = run.real_tokens()
    padded = [
        sum(b[name].shape.num_elements() for b in batches) / len(batches)
        for name in ("inputs", "targets")
    ]
    print(
        f"{asked.hparams_set} against PyTorch {rival.about['version']}, "
        f"{asked.threads} thread(s) each, the same {len(batches)} batches: "
        f"{source:.0f} real of {padded[0]:.0f} source, {target:.0f} of {padded[1]:.0f} "
        "target positions"
    )
    if intra_op := tf.config.threading.get_intra_op_parallelism_threads():
        print(f"  t2t_mm cuts an operation into parts for {intra_op} thread(s)")
    parameters = sum(v.value.shape.num_elements() for v in model.trainable_variables)
    about = rival.about
    print(
        f"  PyTorch          {about['GFLOP']:.3f} GFLOP a step, by its own count "
        f"{about['counted']:.3f}; {about['parameters'] / 1e6:.2f} M parameters, "
        f"inner layers of {about['inner']}; {rival.memory:.2f} GiB"
    )
    print(
        f"  t2t_mm           {gflop:.3f} GFLOP a step, {empty / gflop:.1%} of it empty "
        f"rows of experts; {parameters / 1e6:.2f} M parameters; "
        f"{memory_of_process():.2f} GiB"
    )
    wall, cpu = show_ratio("PyTorch", "t2t_mm", costs)
    show_target("wall time of a step over PyTorch's", 1.0, wall)
    show_target("CPU time of a step over PyTorch's", 1.0, cpu)


KINDS = {
    "experts": experts,
    "precision": precision,
    "start_up": start_up,
    "memory": memory,
    "torch": torch,
}

if __name__ == "__main__":
    arguments = flags()
    start(arguments)
    KINDS[arguments.kind](arguments)
