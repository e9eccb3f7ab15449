"""What a training step costs: time, tokens, padding, memory, share of the peak.

    .venv/bin/python benchmarks/step_times.py --data_dir=demo/data
    .venv/bin/python benchmarks/step_times.py --problem=parsing_silver \
        --hparams_set=multimodel_tiny,transformer_tiny --steps=20

Every set runs in a process of its own, so that memory is its own. For each problem the
trainer's own compiled step (`train_step.TrainSteps`) is timed on batches of the
input pipeline; without --data_dir on made-up batches, and the table says so. Columns:

  first s       until the first step is done: tracing, optimising, one step
  ms            median wall time of a step; batches are in memory
  CPU ms        user and system time of all threads per step, the mean
  examples/s    per second of wall time
  tokens/s      real target positions per second of wall time, padding not counted
  /CPU-s        the same per second of CPU time, which other jobs disturb least
  pad in, out   share of positions that are padding, of inputs and of targets, in the
                worst of five epochs (`input_pipeline.py` counts the same); from the
                index, not from the few batches timed, so none without --data_dir
  pad both      the same of the positions of both together
  GFLOP         of a step, see below
  peak          share of the matmul peak that was measured in the same process
  CPU peak      the same, both per CPU-second: what counts while other jobs run

GFLOP: the matmuls and convolutions of the forward pass's graph, each with the shapes
that it has on the batches timed (so the experts' empty slots and padding count), two
per multiply-add, times 3 for forward and backward pass. All else is left out.

After the table, what there are targets for: the time until each problem has made its
first step, and padding. Ratios (experts, precision, memory, PyTorch): `step_ratios.py`;
`rivals/ancestor.py` has the ancestor's, `blocks.py` the share of the peak by block.
"""

import argparse
import functools
import json
import resource
import statistics
import subprocess
import sys
import time

import input_pipeline as pipeline_of  # this folder's

COLUMNS = (
    "problem|examples|first s|ms|CPU ms|examples/s|tokens/s|/CPU-s|pad in|pad out"
    "|pad both|GFLOP|peak|CPU peak"
).split("|")
WARM_STEPS = 2
WARM_SECONDS = 30  # no more of them after that: a step may take minutes
# Where there is no data: positions of a text, seconds of a sound.
MADE_UP_TOKENS, MADE_UP_SECONDS = 17, 4.0
PEAK_SIZE, PEAK_SECONDS = 1536, 1.0
PADDING = {"pad in": "inputs", "pad out": "targets", "pad both": "both together"}
NOT_COUNTED = "-"
MOST_START_UP, MOST_PADDING = 60, 15  # seconds until all have stepped; percent


def flags():
    """Gives the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sets = "multimodel_tiny,multimodel_base,transformer_tiny"
    parser.add_argument("--hparams_set", default=sets, help="sets, by commas")
    parser.add_argument("--problem", default="eight_small", help="as of mm-trainer")
    parser.add_argument(
        "--data_dir", help="shards of mm-datagen; none: made-up batches"
    )
    parser.add_argument("--steps", type=int, default=8, help="timed steps a problem")
    parser.add_argument("--output", help="append the numbers as JSON lines to a file")
    add_thread_flags(parser)
    return parser.parse_args()


def add_thread_flags(parser):
    """Adds the flags for the threads of TensorFlow."""
    for name, text in (
        ("intra_op", "threads that an operation is cut into parts for"),
        ("inter_op", "operations that run at once"),
    ):
        parser.add_argument(
            f"--{name}_threads",
            type=int,
            default=0,
            help=f"{text}; default: mm-trainer's choice",
        )


def start_tensorflow(asked):
    """Imports TensorFlow, in silence, to use the threads asked for.

    Returns:
      Words that say which, for the header; none for mm-trainer's choice.
    """
    from t2t_mm.bin import command, threads

    command.start_tensorflow()
    threads.use_threads(asked.intra_op_threads, asked.inter_op_threads)
    said = {"intra-op": asked.intra_op_threads, "inter-op": asked.inter_op_threads}
    return ", ".join(f"{name} threads: {n}" for name, n in said.items() if n)


def batches_of(problem, hparams, data_dir, sizes, count):
    """Gives `count` batches of a problem, as tensors in memory."""
    import tensorflow as tf

    from t2t_mm import input_pipeline
    from t2t_mm.made_up_batches import made_up_batch

    if data_dir:
        dataset = input_pipeline.training_batches(problem, data_dir, hparams, seed=1)
        return [batch for _, batch in dataset.take(count)]
    feature = problem.inputs
    if feature.modality == "image":
        rows, length = hparams.batch_examples, 0
    elif feature.modality == "audio":
        rows = round(hparams.batch_seconds / MADE_UP_SECONDS)
        length = round(MADE_UP_SECONDS * feature.sample_rate)
    else:
        rows, length = hparams.batch_tokens // MADE_UP_TOKENS, MADE_UP_TOKENS
    lengths = {"inputs": length, "targets": MADE_UP_TOKENS}
    batches = [
        made_up_batch(problem, sizes, num_examples=rows, lengths=lengths, seed=seed)
        for seed in range(count)
    ]
    return [tf.nest.map_structure(tf.constant, batch) for batch in batches]


def vocabulary_sizes(problems, data_dir):
    """Gives the size of each vocabulary and label set; without data as specified."""
    from t2t_mm import vocabulary

    if data_dir:
        words = vocabulary.load_vocabularies(problems, data_dir)
        return vocabulary.vocabulary_sizes(problems, words)
    sizes = {}
    for problem in problems:
        for feature in (problem.inputs, problem.targets):
            if feature.labels:
                sizes[feature.vocabulary] = len(feature.labels)
            elif feature.vocabulary:
                spec = vocabulary.vocabulary_spec(feature.vocabulary)
                is_byte = spec.kind == "byte"
                sizes[feature.vocabulary] = 259 if is_byte else spec.size
    return sizes


def multiply_adds(operation):
    """Gives the multiply-adds of a graph's operation as a float64 scalar, or None."""
    import tensorflow as tf

    def size_of(tensor, *axes):
        shape = tf.cast(tf.shape(tensor), tf.float64)
        return tf.reduce_prod(tf.gather(shape, axes) if axes else shape)

    inputs, outputs = operation.inputs, operation.outputs
    if operation.type in ("MatMul", "BatchMatMul", "BatchMatMulV2"):
        name = "transpose_a" if operation.type == "MatMul" else "adj_x"
        rank = inputs[0].shape.rank
        inner = rank - 2 if operation.get_attr(name) else rank - 1
        return size_of(outputs[0]) * size_of(inputs[0], inner)
    if operation.type == "Conv2D":
        return size_of(outputs[0]) * size_of(inputs[1], 0, 1, 2)
    if operation.type == "DepthwiseConv2dNative":
        return size_of(outputs[0]) * size_of(inputs[1], 0, 1)
    return None


def forward_multiply_adds(model, problem, signature, of=multiply_adds):
    """Gives a compiled f(batch): the multiply-adds of a forward pass in training.

    Args:
      model, problem: the batch's.
      signature: of its batches.
      of: f(operation) gives its count as a float64 scalar, or None.
    """
    import tensorflow as tf

    @tf.function(input_signature=[signature], autograph=False)
    def count(batch):
        losses = model.losses_of(problem.name, batch, training=True)
        graph = tf.compat.v1.get_default_graph()
        counts = [of(operation) for operation in graph.get_operations()]
        total = tf.add_n([one for one in counts if one is not None])
        with tf.control_dependencies([losses["loss_sum"]]):
            return tf.identity(total)

    # Called by itself, TensorFlow takes the counts of all problems for one function
    # that is traced again and again, and warns.
    return count.get_concrete_function()


def empty_multiply_adds(hparams, operation):
    """Gives what an operation of experts adds to the work on their empty rows.

    The experts' matmuls count with all of their rows, and the choice of the best
    experts takes off what its real positions need: the sum is of empty rows.
    """
    import tensorflow as tf

    inputs, sizes = operation.inputs, (hparams.hidden_size, hparams.expert_size)
    is_product = operation.type in ("MatMul", "BatchMatMulV2")
    if is_product and "/experts" in operation.name:
        if tuple(inputs[1].shape[-2:]) in (sizes, sizes[::-1]):
            return multiply_adds(operation)
    if operation.type == "TopKV2" and inputs[0].shape.rank == 2:
        if inputs[0].shape[1] == hparams.num_experts:
            chosen = tf.shape(inputs[0])[0] * hparams.experts_per_position
            return -2 * tf.cast(chosen, tf.float64) * float(sizes[0] * sizes[1])
    return None


def matmul_peak():
    """Gives GFLOP per second, of wall and of CPU time, of large float32 matmuls.

    Of one for all processors, or of one for each where operations are left whole.
    """
    import tensorflow as tf

    from t2t_mm.bin import threads

    is_whole = tf.config.threading.get_intra_op_parallelism_threads() == 1
    count = threads.num_processors() if is_whole else 1
    factors = tf.random.normal([count, PEAK_SIZE, PEAK_SIZE])

    @tf.function
    def multiply():
        return [tf.matmul(x, x)[0, 0] for x in tf.unstack(factors)]

    multiply()
    wall, cpu, best = time.perf_counter(), time.process_time(), float("inf")
    rounds = 0
    while time.perf_counter() - wall < PEAK_SECONDS or rounds < 5:
        start = time.perf_counter()
        [float(corner) for corner in multiply()]
        best = min(best, time.perf_counter() - start)
        rounds += 1
    work = count * 2e-9 * PEAK_SIZE**3
    return work / best, work * rounds / (time.process_time() - cpu)


def measure(state, steps, problem, batches, peaks):
    """Times one problem; gives the numbers of its row."""
    import numpy as np

    from t2t_mm.input_pipeline import batch_signature

    start = time.perf_counter()
    step = functools.partial(steps, problem.name)
    step(batches[0])[0].numpy()
    first = time.perf_counter() - start
    for batch in batches[:WARM_STEPS]:
        if time.perf_counter() - start > WARM_SECONDS:
            break
        step(batch)[0].numpy()
    walls, cpu = [], time.process_time()
    for batch in batches:
        start = time.perf_counter()
        step(batch)[0].numpy()
        walls.append(time.perf_counter() - start)
    cpu = (time.process_time() - cpu) / len(batches)
    count = forward_multiply_adds(state.model, problem, batch_signature(problem))
    gflop = 6e-9 * sum(float(count(batch)) for batch in batches) / len(batches)
    masks = [np.asarray(batch["targets_mask"]) for batch in batches]
    real = sum(mask.sum() for mask in masks) / len(batches)
    examples = sum(len(mask) for mask in masks) / len(batches)
    wall = sum(walls) / len(batches)
    return {
        "problem": problem.name,
        "examples": round(examples, 1),
        "first s": round(first, 1),
        "ms": round(1e3 * statistics.median(walls), 1),
        "CPU ms": round(1e3 * cpu, 1),
        "examples/s": round(examples / wall, 1),
        "tokens/s": round(real / wall),
        "/CPU-s": round(real / cpu),
        "GFLOP": round(gflop, 2),
        "peak": f"{gflop / wall / peaks[0]:.1%}",
        "CPU peak": f"{gflop / cpu / peaks[1]:.1%}",
    }


def show(rows):
    """Prints rows as a table."""
    cells = [COLUMNS, *([str(row[name]) for name in COLUMNS] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        first = line[0].ljust(widths[0])
        rest = (c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))
        print("  ".join([first, *rest]), flush=True)


def show_targets(rows, built):
    """Prints what there are targets for, over all problems."""
    first = built + sum(row["first s"] for row in rows)
    verdict = "met" if first < MOST_START_UP else "missed"
    print(
        f"network built and the first step of all {len(rows)} problems done after "
        f"{first:.1f} s; target under {MOST_START_UP} s: {verdict}"
    )
    if any(row["pad in"] == NOT_COUNTED for row in rows):
        print("padding: not counted, since no --data_dir was given")
        return
    for name, feature in PADDING.items():
        row = max(rows, key=lambda row: float(row[name].rstrip("%")))
        text = f"padding of {feature} over an epoch: at most {row[name]}, of "
        print(text + row["problem"], end="")
        if name != "pad both":
            met = float(row[name].rstrip("%")) < MOST_PADDING
            verdict = "met" if met else "missed"
            print(f"; target under {MOST_PADDING} %: {verdict}", end="")
        print()


def padding_columns(problem, data_dir, hparams):
    """Gives the columns of a problem's padding."""
    if not data_dir:
        return dict.fromkeys(PADDING, NOT_COUNTED)
    shares = pipeline_of.padding(problem, data_dir, hparams)
    return {name: f"{n:.1%}" for name, n in zip(PADDING, shares, strict=True)}


def run_one(asked):
    """Measures one set on all problems and prints its table."""
    threads = start_tensorflow(asked)
    import keras

    from t2t_mm import registry
    from t2t_mm.bin import command
    from t2t_mm.configuration import named_hparams
    from t2t_mm.input_pipeline import batch_signature
    from t2t_mm.mixture import get_problems, parse_problems
    from t2t_mm.models import build_model
    from t2t_mm.optimizers import make_optimizer
    from t2t_mm.train_step import TrainSteps
    from t2t_mm.training_state import TrainingState

    command.load_zoo()
    hparams = named_hparams(asked.hparams_set)
    name = next(
        name
        for name in registry.models.names()
        if registry.models.get(name).hparams_class is type(hparams)
    )
    problems = get_problems(parse_problems(asked.problem))
    sizes = vocabulary_sizes(problems, asked.data_dir)
    peaks = matmul_peak()
    keras.utils.set_random_seed(1)
    start = time.perf_counter()
    model = build_model(name, hparams, problems, sizes)
    optimizer = make_optimizer(hparams, model.trainable_variables, 1000)
    state = TrainingState(model, optimizer, [problem.name for problem in problems])
    built = time.perf_counter() - start
    count = sum(int(variable.value.shape.num_elements()) for variable in model.weights)
    source = (
        "" if asked.data_dir else "; made-up batches, since no --data_dir was given"
    )
    print(f"\n{asked.hparams_set}: {count / 1e6:.1f} M parameters", end="")
    print(f", built in {built:.1f} s{source}; matmul peak ", end="")
    print(f"{peaks[0]:.0f} GFLOP/s, {peaks[1]:.0f} per CPU-second", flush=True)
    if threads:
        print(threads, flush=True)
    signatures = {problem.name: batch_signature(problem) for problem in problems}
    steps = TrainSteps(state, signatures, hparams.clip_norm)
    rows = []
    for problem in problems:
        batches = batches_of(problem, hparams, asked.data_dir, sizes, asked.steps)
        rows.append(measure(state, steps, problem, batches, peaks))
        rows[-1] |= padding_columns(problem, asked.data_dir, hparams)
        print(f"{problem.name}: {rows[-1]['ms']} ms", file=sys.stderr, flush=True)
    show(rows)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of the process, all problems compiled: {memory:.2f} GiB")
    show_targets(rows, built)
    if asked.output:
        with open(asked.output, "a", encoding="utf-8") as file:
            for row in rows:
                more = {"hparams_set": asked.hparams_set, "memory GiB": memory}
                more |= {"parameters": count, "matmul GFLOP/s": peaks}
                file.write(json.dumps(more | row) + "\n")


def main():
    """Runs every set that was asked for, each in a process of its own."""
    asked = flags()
    sets = asked.hparams_set.split(",")
    if len(sets) == 1:
        return run_one(asked)
    for one in sets:
        options = {**vars(asked), "hparams_set": one}
        line = [f"--{name}={value}" for name, value in options.items() if value]
        done = subprocess.run([sys.executable, __file__, *line], check=False)
        if done.returncode:
            print(f"{one}: ended with code {done.returncode}", flush=True)
    return None


if __name__ == "__main__":
    main()
