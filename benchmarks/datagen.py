"""What mm-datagen takes for sentence pairs, against sentencepiece and TensorFlow alone.

python benchmarks/datagen.py [--pairs=FILE.tsv] [--repeats=3] [--peer=DIR]

CPU seconds (user and system, of a process and its children), so that other jobs on the
machine disturb little, and, for a quiet one, the seconds that pass; everything in one
run, in turn, the best of the repeats. The pairs are strings of Home Assistant in
English, German and French, and as many pairs of two of them as make 50,000; or a file
with a tab between source and target, of 51,000 pairs at least.

  alone     sentencepiece learns and encodes, tf.train.Example is filled in and written
            by TFRecordWriter: in one process, text in memory, imports not counted
  stages    mm-datagen's own work in one process, imports not counted
  single    mm-datagen --num_processes=1, from start to end, all processes
  command   mm-datagen as it comes, a process per core, from start to end
  ancestor  t2t-datagen 1.9.0 on the same pairs, from start to end; --peer: a folder
            that holds its virtual environment `v19` and the problem in `t2t19`
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

NUM_PAIRS, NUM_HELD_OUT = 50_000, 500
VOCABULARY_SIZE = 8192
PROBLEM = '''
import os
from t2t_mm import Feature, Problem, register_problem

@register_problem
class BenchmarkPairs(Problem):
    """Sentence pairs of a file."""

    inputs = Feature("text", vocabulary="benchmark_words")
    targets = Feature("text", vocabulary="benchmark_words")
    command = "To-Other"

    def generate(self, split, tmp_dir):
        path = os.path.join(tmp_dir, f"{split}.tsv")
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                source, target = line.rstrip("\\n").split("\\t")
                yield {"inputs": source, "targets": target}
'''


class Times(NamedTuple):
    """Seconds of the processors, and seconds that pass."""

    cpu: float
    wall: float


class Clock:
    """Measures CPU seconds of this process between laps, and what passes in them."""

    def __init__(self):
        self.laps: dict[str, float] = {}
        self._start = time.perf_counter()
        self._last = time.process_time()

    def lap(self, name: str) -> None:
        """Ends a lap."""
        now = time.process_time()
        self.laps[name], self._last = now - self._last, now
        self.wall = time.perf_counter() - self._start


def read_home_strings(tmp_dir: str) -> list[tuple[str, str]]:
    """Fetches Home Assistant and gives its strings, and joined ones, as pairs."""
    from t2t_mm.downloads import fetch_all
    from t2t_mm.problems import translation

    fetch_all([translation.HOME_ASSISTANT], tmp_dir, progress=True)
    counted = translation.read_pairs(tmp_dir)
    pairs = [*counted["de"], *counted["fr"]]
    pairs = [pair for pair in dict.fromkeys(pairs) if all(map(str.strip, pair))]
    rng = random.Random(0)
    found = len(pairs)
    unique = dict.fromkeys(pairs)
    while len(unique) < NUM_PAIRS + 2 * NUM_HELD_OUT:
        first, second = (pairs[rng.randrange(found)] for _ in range(2))
        unique[f"{first[0]} {second[0]}", f"{first[1]} {second[1]}"] = None
    return list(unique)


def write_pairs(pairs: list[tuple[str, str]], folder: str) -> None:
    """Writes the splits of the problem, in a seeded order."""
    random.Random(1).shuffle(pairs)
    ends = [0, NUM_HELD_OUT, 2 * NUM_HELD_OUT, 2 * NUM_HELD_OUT + NUM_PAIRS]
    for split, begin, end in zip(
        ("dev", "test", "train"), ends, ends[1:], strict=False
    ):
        with open(f"{folder}/{split}.tsv", "w", encoding="utf-8") as file:
            file.writelines(f"{one}\t{other}\n" for one, other in pairs[begin:end])


def measure_alone(folder: str) -> Clock:
    """Gives the CPU seconds of sentencepiece and TensorFlow alone."""
    import sentencepiece

    from t2t_mm.bin import command

    command.start_tensorflow()
    import tensorflow as tf

    with open(f"{folder}/train.tsv", encoding="utf-8") as lines:
        pairs = [line.rstrip("\n").split("\t") for line in lines]
    clock = Clock()
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(text for pair in pairs for text in pair),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCABULARY_SIZE,
        byte_fallback=True,
        normalization_rule_name="identity",
        num_threads=1,
        minloglevel=2,
    )
    clock.lap("learn")
    words = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    columns = [
        words.encode([pair[side] for pair in pairs], num_threads=1, add_eos=True)
        for side in (0, 1)
    ]
    clock.lap("encode")
    ids, feature = tf.train.Int64List, tf.train.Feature
    packed = [
        tf.train.Example(
            features=tf.train.Features(
                feature={
                    "inputs": feature(int64_list=ids(value=source)),
                    "targets": feature(int64_list=ids(value=target)),
                }
            )
        ).SerializeToString()
        for source, target in zip(*columns, strict=True)
    ]
    clock.lap("fill in")
    with tf.io.TFRecordWriter(f"{folder}/alone.tfrecord") as writer:
        for record in packed:
            writer.write(record)
    clock.lap("write")
    return clock


def measure_stages(folder: str) -> Clock:
    """Gives the CPU seconds of mm-datagen's work, in one process."""
    from t2t_mm import datagen
    from t2t_mm.bin import plugins

    plugins.import_user_dir(f"{folder}/problem")
    with tempfile.TemporaryDirectory(dir=folder) as data_dir:
        clock = Clock()
        datagen.generate_data(
            ["benchmark_pairs"], data_dir, folder, num_processes=0, progress=False
        )
        clock.lap("all")
    return clock


def run_timed(command: list[str], **options) -> Times:
    """Runs a command; gives what it and its children took."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, **options)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Times(cpu, wall)


def measure_command(folder: str, *more: str) -> Times:
    """Gives what the whole command takes."""
    with tempfile.TemporaryDirectory(dir=folder) as data_dir:
        return run_timed(
            [
                *(sys.executable, "-m", "t2t_mm.bin.mm_datagen", *more),
                *("--problem=benchmark_pairs", f"--t2t_usr_dir={folder}/problem"),
                *(f"--data_dir={data_dir}", f"--tmp_dir={folder}"),
            ]
        )


def measure_ancestor(folder: str, peer: str) -> Times:
    """Gives what t2t-datagen takes; its problem reads text/{train,dev}.tsv."""
    with contextlib.suppress(FileExistsError):
        os.symlink(".", f"{folder}/text")
    python = os.path.join(peer, "v19", "bin", "python")
    with tempfile.TemporaryDirectory(dir=folder) as data_dir:
        return run_timed(
            [
                *(python, os.path.join(peer, "v19", "bin", "t2t-datagen")),
                *("--problem=peer_text", f"--t2t_usr_dir={peer}/t2t19"),
                *(f"--data_dir={data_dir}", f"--tmp_dir={data_dir}/tmp"),
            ],
            env=os.environ | {"PEER_DATA": folder, "PYTHONWARNINGS": "ignore"},
        )


def in_new_process(name: str, folder: str) -> tuple[dict[str, float], float]:
    """Runs one of the measurements above in a fresh process.

    Returns:
      CPU seconds of its laps, and the seconds that passed in them.
    """
    command = [sys.executable, __file__, f"--measure={name}", f"--folder={folder}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    laps, wall = json.loads(done.stdout.splitlines()[-1])
    return laps, wall


def parsed_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", help="a file with a tab between source and target")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer", help="where the ancestor is installed")
    parser.add_argument("--tmp_dir", default="downloads")
    parser.add_argument("--measure", choices=MEASUREMENTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Prints the table."""
    arguments = parsed_arguments()
    if arguments.measure:
        clock = MEASUREMENTS[arguments.measure](arguments.folder)
        print(json.dumps([clock.laps, clock.wall]))
        return
    with tempfile.TemporaryDirectory() as folder:
        if arguments.pairs:
            lines = pathlib.Path(arguments.pairs).read_text("utf-8").splitlines()
            pairs = [tuple(line.split("\t")) for line in lines]
        else:
            pairs = read_home_strings(arguments.tmp_dir)
        write_pairs(pairs, folder)
        os.mkdir(f"{folder}/problem")
        pathlib.Path(f"{folder}/problem/pairs.py").write_text(PROBLEM, "utf-8")
        best = measure_all(folder, arguments.repeats, arguments.peer)
    print(f"{NUM_PAIRS:,} pairs: CPU seconds, seconds that pass")
    for name, times in best.items():
        print(f"{name:<10}{times.cpu:8.2f}{times.wall:8.2f}")
    ratio = best["stages"].cpu / best["alone"].cpu
    print(f"stages / alone      {ratio:.2f} of CPU time (target: at most 1.3)")
    for name in ("single", "command") if arguments.peer else ():
        cpu, wall = (a / b for a, b in zip(best["ancestor"], best[name], strict=True))
        print(
            f"{f'ancestor / {name}':<20}{cpu:.1f} of CPU time, {wall:.1f} of the time "
            "that passes (target: 20)"
        )


def measure_all(folder: str, repeats: int, peer: str | None) -> dict[str, Times]:
    """Gives the best of the repeats of each measurement, in turn."""
    found: dict[str, list[Times]] = {}
    for _ in range(repeats):
        for name in MEASUREMENTS:
            laps, wall = in_new_process(name, folder)
            found.setdefault(name, []).append(Times(sum(laps.values()), wall))
            if name == "alone":
                print("alone:", ", ".join(f"{k} {v:.2f}" for k, v in laps.items()))
        single = measure_command(folder, "--num_processes=1")
        found.setdefault("single", []).append(single)
        found.setdefault("command", []).append(measure_command(folder))
    if peer:
        found["ancestor"] = [measure_ancestor(folder, peer)]
    return {
        name: Times(*map(min, zip(*times, strict=True)))
        for name, times in found.items()
    }


MEASUREMENTS = {"alone": measure_alone, "stages": measure_stages}

if __name__ == "__main__":
    main()
