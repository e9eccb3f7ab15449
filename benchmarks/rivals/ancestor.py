"""A training step of Tensor2Tensor 1.9.0 against ours: same sizes, same batches.

    python benchmarks/rivals/ancestor.py --peer=peer --python=python3.7 \
        --models=multimodel_tiny,transformer_tiny,multimodel_base,transformer_base \
        --precisions=float32,mixed_bfloat16

Everything in one run, on one machine, so that the ratio does not hang on it:

  1. --peer gets a virtual environment `v19` with the ancestor, unless there is one:
     Python 3.7 (--python); see `ancestor_install.py`.
  2. Sentence pairs are those of `benchmarks/datagen.py`: 50,000 strings of Home
     Assistant, or --pairs, a file with a tab between source and target. mm-datagen
     encodes them (8,192 sub-words); the ancestor can read such shards.
  3. t2t-trainer trains on its own batches of them, and leaves them behind.
  4. Our trainer's compiled step trains on these very batches, once in each of
     --precisions. The ancestor's is float32: it has no other on a CPU.
     Each has the threads that its trainer takes by itself, or those of
     --intra_op_threads, --their_intra_op_threads.
  5. With --own_batches, once more on the batches that our input pipeline makes of the
     same shards under the same limits (1,024 positions, lengths up to 256), the
     pipeline beside the step as the ancestor's is: what a user gets who trains with
     the one or the other. Less of such batches is padding.

Printed per step of both: wall and CPU time (user and system, all threads), and real
target tokens, padding not counted, per second of each; time until the first step and
memory, from the start of the process; GFLOP, the matmuls and convolutions in the graph
of a forward pass with the shapes of one of the batches, two per multiply-add, times 3.
The ancestor's time has its input pipeline in it, in threads beside the step; its
batches lie in memory when ours trains on them.

The two MultiModels are not the same network: ours is the paper's. So its sizes are
chosen to match: width, heads, experts, experts per position; as many layers in the
encoder, and in the decoder as many that attend (one of ours is in the mixer); and as
many hidden units in all mixtures together, since the ancestor has a mixture in each
layer of the encoder and one in the decoder, ours one in each. See `SIZES`.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from ancestor_batches import made_batch, own_batches
from ancestor_install import install

HERE = pathlib.Path(__file__).parent
SEED = 11
TARGET = 3
OWN = "own"  # of a row, after the precision: on batches of our own pipeline
LIMITS = "batch_tokens=1024,max_length=256"  # batch_size and max_length of `SIZES`
# Ours: model, set, what is changed in it. Theirs: model, hparams; steps and how many of
# them are not timed. In `expert_size` 2 * 1536 = 512 + 512 + 2048 and
# 2 * 5120 = 4 * 2048 + 2048, the hidden units of all the ancestor's mixtures.
MULTIMODEL = (
    "num_heads=8,num_experts=30,experts_per_position=2,mixer_blocks=1,"
    "attention_conv_blocks=0,dropout=0.1,label_smoothing=0.1,clip_norm=2.0,"
    "tie_embeddings=false,"
)
SIZES = {
    "multimodel_tiny": {
        "ours": MULTIMODEL + "encoder_blocks=2,encoder_moe_after=1,decoder_blocks=1,"
        "decoder_moe_after=1,expert_size=1536",
        "theirs": ("multi_model", "batch_size=1024,max_length=256"),
        "steps": (60, 20),
    },
    "multimodel_base": {
        "ours": MULTIMODEL + "encoder_blocks=4,encoder_moe_after=2,decoder_blocks=3,"
        "decoder_moe_after=2,expert_size=5120",
        "theirs": ("multi_model", "batch_size=1024,max_length=256"),
        "steps": (14, 4),
    },
    "transformer_tiny": {
        "ours": "dropout=0.1,label_smoothing=0.1,clip_norm=0",
        "theirs": ("transformer", "batch_size=1024,max_length=256"),
        "steps": (120, 30),
    },
    "transformer_base": {
        "ours": "dropout=0.1,label_smoothing=0.1,clip_norm=0,tie_embeddings=true",
        "theirs": ("transformer", "batch_size=1024,max_length=256"),
        "steps": (24, 6),
    },
}


def flags():
    """Gives the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", default="peer", help="folder of the ancestor")
    parser.add_argument("--python", default="python3.7", help="for the ancestor")
    parser.add_argument("--models", default="multimodel_tiny,transformer_tiny")
    parser.add_argument("--pairs", help="a file with a tab between source and target")
    parser.add_argument("--tmp_dir", default="downloads")
    parser.add_argument("--repeats", type=int, default=1, help="of each, in turn")
    parser.add_argument("--precisions", default="float32", help="of ours, in turn")
    parser.add_argument(
        "--intra_op_threads", type=int, default=0, help="ours cut an operation for"
    )
    parser.add_argument(
        "--their_intra_op_threads", type=int, default=0, help="the ancestor, likewise"
    )
    parser.add_argument(
        "--own_batches", action="store_true", help="ours on its own batches, too"
    )
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    parser.add_argument("--precision", help=argparse.SUPPRESS)
    parser.add_argument("--batches", help=argparse.SUPPRESS)
    parser.add_argument("--shards", help=argparse.SUPPRESS)
    return parser.parse_args()


def encode(asked, folder):
    """Writes shards of the pairs; gives their pattern and the vocabulary's size."""
    sys.path.insert(0, str(HERE.parent))
    import datagen as pairs_of

    from t2t_mm import datagen, vocabulary
    from t2t_mm.bin import plugins
    from t2t_mm.problem import get_problem

    if asked.pairs:
        lines = pathlib.Path(asked.pairs).read_text("utf-8").splitlines()
        pairs = [tuple(line.split("\t")) for line in lines]
    else:
        pairs = pairs_of.read_home_strings(asked.tmp_dir)
    pairs_of.write_pairs(pairs, folder)
    os.mkdir(f"{folder}/problem")
    pathlib.Path(f"{folder}/problem/pairs.py").write_text(pairs_of.PROBLEM, "utf-8")
    plugins.import_user_dir(f"{folder}/problem")
    datagen.generate_data(["benchmark_pairs"], folder, folder, progress=False)
    problem = get_problem("benchmark_pairs")
    words = vocabulary.load_vocabularies([problem], folder)
    [size] = vocabulary.vocabulary_sizes([problem], words).values()
    return f"{folder}/benchmark_pairs-train-?????-of-?????", size


def theirs(asked, name, folder, shards, vocabulary):
    """Trains the ancestor; gives the numbers of its row, and where its batches are."""
    peer = pathlib.Path(asked.peer).absolute() / "v19" / "bin"
    model, hparams = SIZES[name]["theirs"]
    steps, skipped = SIZES[name]["steps"]
    with tempfile.TemporaryDirectory(dir=folder) as run:
        marks, batches = f"{run}/marks", f"{folder}/{name}.npz"
        done = subprocess.run(
            [
                *(peer / "python", peer / "t2t-trainer", "--problem=encoded_pairs"),
                *(f"--t2t_usr_dir={HERE}/ancestor_problem", f"--data_dir={folder}"),
                *(f"--model={model}", f"--hparams_set={name}", f"--hparams={hparams}"),
                *(f"--output_dir={run}/out", "--schedule=train"),
                *(f"--train_steps={steps}", f"--random_seed={SEED}"),
                "--log_step_count_steps=2",
                f"--intra_op_parallelism_threads={asked.their_intra_op_threads}",
            ],
            capture_output=True,
            text=True,
            env=os.environ
            | {"PAIRS_SHARDS": shards, "PAIRS_VOCABULARY": str(vocabulary)}
            | {"PAIRS_BATCHES": batches, "PAIRS_MARKS": marks}
            | {"PYTHONWARNINGS": "ignore", "TF_CPP_MIN_LOG_LEVEL": "2"},
        )
        if done.returncode:
            sys.exit(f"{done.stderr[-3000:]}\nancestor.py: t2t-trainer failed")
        lines = pathlib.Path(marks).read_text("utf-8").splitlines()
    notes = [json.loads(line) for line in lines]
    parameters = next(note["parameters"] for note in notes if "parameters" in note)
    counted = next(note for note in notes if "multiply_adds" in note)
    steps = [note for note in notes if "step" in note]
    timed = [note for note in steps if note["step"] - steps[0]["step"] >= skipped]
    first, last = timed[0], timed[-1]
    count = last["step"] - first["step"]
    return {
        "parameters": parameters,
        "first s": steps[0]["wall"] - notes[0]["wall"],
        "ms": 1e3 * (last["wall"] - first["wall"]) / count,
        "CPU ms": 1e3 * (last["cpu"] - first["cpu"]) / count,
        "GiB": last["GiB"],
        "loss": last["loss"],
        "GFLOP": 6e-9 * counted["multiply_adds"],
        "counted": counted["batch"],
        "timed": (first["step"], last["step"]),
    }, batches


def ours(asked):
    """Trains our model; prints its numbers as JSON.

    Args:
      asked: name of the sizes (ours); the ancestor's batches; precision; shards, folder
        of the encoded pairs, to train on batches of our own pipeline, None to train on
        the ancestor's; threads.
    """
    name, precision, shards = asked.ours, asked.precision, asked.shards
    begin = time.perf_counter()
    from t2t_mm.bin import command, threads

    command.start_tensorflow()
    threads.use_threads(asked.intra_op_threads, 0)
    import keras
    import numpy as np

    from t2t_mm.configuration import named_hparams, override, parse_overrides
    from t2t_mm.input_pipeline import batch_signature
    from t2t_mm.made_up_batches import made_up_problem
    from t2t_mm.models import build_model
    from t2t_mm.optimizers import make_optimizer
    from t2t_mm.precision import NAMES
    from t2t_mm.problem import Feature
    from t2t_mm.strategy import make_distribution
    from t2t_mm.train_step import TrainSteps
    from t2t_mm.training_state import TrainingState

    sys.path.insert(0, str(HERE.parent))
    import step_times as steps_of

    command.load_zoo()
    if precision not in NAMES:
        sys.exit(f"ancestor.py: {precision} came; expected one of {', '.join(NAMES)}.")
    keras.config.set_dtype_policy(precision)
    hparams = named_hparams(name)
    sizes = f"{SIZES[name]['ours']},{LIMITS}"
    hparams = override(hparams, **parse_overrides(sizes, hparams))
    arrays = np.load(asked.batches)
    vocabulary = int(arrays["vocabulary"])
    words = Feature("text", vocabulary="words")
    problem = made_up_problem("pairs", words, words, "To-Other")
    keras.utils.set_random_seed(SEED)
    distribution = make_distribution("one_device")
    model = build_model(name.split("_")[0], hparams, [problem], {"words": vocabulary})
    optimizer = make_optimizer(hparams, model.trainable_variables, 1000)
    state = TrainingState(model, optimizer, [problem.name])
    signatures = {problem.name: batch_signature(problem)}
    steps = TrainSteps(state, signatures, hparams.clip_norm, distribution)
    begin_timed, end_timed = map(int, arrays["timed"])
    if shards:
        batches = own_batches(shards, hparams, SEED)
    else:
        batches = iter(
            [
                made_batch(arrays[f"inputs{i}"], arrays[f"targets{i}"])
                for i in range(end_timed)
            ]
        )
    steps(problem.name, next(batches))[0].numpy()
    first = time.perf_counter() - begin
    for _ in range(1, begin_timed):
        steps(problem.name, next(batches))[0].numpy()
    masks = []
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(begin_timed, end_timed):
        batch = next(batches)
        loss = float(steps(problem.name, batch)[0].numpy()[0])
        masks.append((batch["inputs_mask"], batch["targets_mask"]))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    masks = np.array(
        [
            [(np.asarray(one).sum(), one.shape.num_elements()) for one in of]
            for of in masks
        ]
    )  # [steps, inputs and targets, real and all]
    real, positions = np.moveaxis(masks.mean(0), -1, 0)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    count = steps_of.forward_multiply_adds(model, problem, signatures[problem.name])
    counted = int(arrays["counted"])
    counted = made_batch(arrays[f"inputs{counted}"], arrays[f"targets{counted}"])
    gflop = 6e-9 * float(count(counted))
    count = end_timed - begin_timed
    numbers = {
        "parameters": sum(
            int(variable.value.shape.num_elements())
            for variable in model.trainable_variables
        ),
        "first s": first,
        "ms": 1e3 * wall / count,
        "CPU ms": 1e3 * cpu / count,
        "GiB": memory,
        "loss": loss,
        "GFLOP": gflop,
        "source tokens": real[0],
        "target tokens": real[1],
        "padding": list(1 - real / positions),
    }
    print(json.dumps(numbers))


def compare(asked, name, folder, shards, vocabulary):
    """Runs both on the sizes of a name, and prints their rows and the ratio."""
    import numpy as np

    precisions = asked.precisions.split(",")
    runs = {precision: (precision, []) for precision in precisions}
    if asked.own_batches:
        own = [f"--shards={folder}"]
        runs |= {f"{one} {OWN}": (one, own) for one in precisions}
    rows = {"ancestor": []} | {who: [] for who in runs}
    for _ in range(asked.repeats):
        numbers, path = theirs(asked, name, folder, shards, vocabulary)
        begin, end = timed = numbers.pop("timed")
        arrays = dict(np.load(path))
        arrays |= {"timed": timed, "counted": numbers.pop("counted")}
        np.savez(path, vocabulary=vocabulary, **arrays)
        targets = [arrays[f"targets{i}"] for i in range(begin, end)]
        sources = [arrays[f"inputs{i}"] for i in range(begin, end)]
        rows["ancestor"].append(numbers)
        for who, (precision, more) in runs.items():
            run = [f"--ours={name}", f"--batches={path}", f"--precision={precision}"]
            run.append(f"--intra_op_threads={asked.intra_op_threads}")
            done = subprocess.run(
                [sys.executable, __file__, *run, *more],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            rows[who].append(json.loads(done.stdout.splitlines()[-1]))
    tokens = statistics.fmean((ids != 0).sum() for ids in targets)
    read = statistics.fmean((ids != 0).sum() for ids in sources)
    examples = statistics.fmean(len(ids) for ids in targets)
    print(f"\n{name}: {examples:.0f} examples, {tokens:.0f} real target tokens and ")
    print(f"{read:.0f} source tokens a step, {len(targets)} steps timed")
    columns = ("first s", 9), ("ms", 9), ("CPU ms", 9), ("tokens/s", 10), ("/CPU-s", 8)
    columns += ("GiB", 6), ("loss", 6), ("GFLOP", 7)
    print(" " * 18 + "  parameters", *(f"{c:>{n}}" for c, n in columns), sep="")
    best = {}
    for who, several in rows.items():
        row = best[who] = min(several, key=lambda one: one["ms"])
        its = row.setdefault("target tokens", tokens)
        print(
            f"{who:<18}{row['parameters'] / 1e6:>10.1f} M{row['first s']:>9.1f}"
            f"{row['ms']:>9.0f}{row['CPU ms']:>9.0f}{1e3 * its / row['ms']:>10.0f}"
            f"{1e3 * its / row['CPU ms']:>8.0f}{row['GiB']:>6.2f}{row['loss']:>6.2f}"
            f"{row['GFLOP']:>7.1f}"
        )
    for who, row in list(best.items())[1:]:
        faster = row["target tokens"] / tokens
        wall, cpu, work = (
            best["ancestor"][key] / row[key] for key in ("ms", "CPU ms", "GFLOP")
        )
        verdict = "met" if faster * wall >= TARGET else "missed"
        text = (
            f"{name}, {who}: {faster * wall:.2f} times the ancestor's target tokens "
            f"per second, {faster * cpu:.2f} times per CPU-second, target at least "
            f"{TARGET}: {verdict}; "
        )
        if who.endswith(OWN):
            source, target = (f"{share:.0%}" for share in row["padding"])
            text += (
                f"batches of {row['source tokens']:.0f} source and "
                f"{row['target tokens']:.0f} target tokens, padding {source} and "
                f"{target}"
            )
        else:
            text += (
                f"multiply-adds per second {wall / work:.2f} times, per CPU-second "
                f"{cpu / work:.2f} times"
            )
        print(text, flush=True)


def main():
    """Compares the sizes that were asked for."""
    asked = flags()
    if asked.ours:
        return ours(asked)
    names = asked.models.split(",")
    for name in names:
        if name not in SIZES:
            sys.exit(f"ancestor.py: {name} came; expected one of {', '.join(SIZES)}.")
    install(pathlib.Path(asked.peer), asked.python)
    with tempfile.TemporaryDirectory() as folder:
        shards, vocabulary = encode(asked, folder)
        for name in names:
            compare(asked, name, folder, shards, vocabulary)
    return None


if __name__ == "__main__":
    main()
