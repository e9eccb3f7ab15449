"""Decoding by Tensor2Tensor 1.9.0's MultiModel against ours: same sizes, same sources.

    python benchmarks/rivals/ancestor_decode.py --peer=peer --searches=greedy
    python benchmarks/rivals/ancestor_decode.py --peer=peer --searches=default
    python benchmarks/rivals/ancestor_decode.py --peer=peer --searches=beam

Both in one run, on one machine. Installs and encodes as `ancestor.py` does and takes
its sizes, trains the ancestor for two steps so that there is a checkpoint, and has both
decode --sentences sources, sorted by length, in batches of --batch:

  greedy   answers of every batch as long as its longest source and 20 ids more; the
           ancestor computes all of them, whatever is in them, if a batch holds several
  default  the same with 100 ids more: the ancestor's own default (`extra_length`)
  beam     a beam of 4 for one batch of sources cut to --most ids; as many ids as twice
           the longest source and 50 more, a rule of the ancestor's beam search

Ours is made to give as many, so that both compute the same positions. Timed is the
decoding alone: the ancestor from the start of its session, ours after a first call that
compiles. The sources are those that the pairs begin with, or the lines of --sources,
each up to its tab.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import ancestor

ROW = "multimodel_tiny"
# Name: beam, and how many ids more than its source an answer has.
SEARCHES = {"greedy": (1, 20), "default": (1, 100), "beam": (4, 0)}


def flags():
    """Gives the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", default="peer", help="folder of the ancestor")
    parser.add_argument("--python", default="python3.7", help="for the ancestor")
    parser.add_argument("--pairs", help="a file with a tab between source and target")
    parser.add_argument("--sources", help="a file with a line for each source")
    parser.add_argument("--tmp_dir", default="downloads")
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--searches", default="greedy,beam", help=", ".join(SEARCHES))
    parser.add_argument("--most", type=int, default=24, help="source ids with a beam")
    asked = parser.parse_args()
    for name in asked.searches.split(","):
        if name not in SEARCHES:
            parser.error(f"--searches has '{name}'; expected {', '.join(SEARCHES)}.")
    return asked


def sources_in(asked, shards):
    """Gives the ids of the sources, without their end, the longest first."""
    import tensorflow as tf

    from t2t_mm.problem import get_problem
    from t2t_mm.vocabulary import load_vocabularies

    if asked.sources:
        lines = pathlib.Path(asked.sources).read_text("utf-8").splitlines()
        problem, folder = get_problem("benchmark_pairs"), os.path.dirname(shards)
        [words] = load_vocabularies([problem], folder).values()
        texts = [line.split("\t")[0] for line in lines[: asked.sentences]]
        return sorted(words.encode_batch(texts), key=len)[::-1]
    spec = {"inputs": tf.io.VarLenFeature(tf.int64)}
    records = tf.data.TFRecordDataset(sorted(tf.io.gfile.glob(shards)))
    records = records.take(asked.sentences)
    parsed = (tf.io.parse_single_example(one, spec) for one in records)
    ids = [tf.sparse.to_dense(one["inputs"]).numpy().tolist() for one in parsed]
    return sorted((one[:-1] if one[-1] == 1 else one for one in ids), key=len)[::-1]


class Theirs:
    """The ancestor with a checkpoint of two steps.

    Args:
      asked: flags.
      folder: for everything that it writes.
      shards, vocabulary: what `ancestor.encode` gives.
    """

    def __init__(self, asked, folder, shards, vocabulary):
        self.bin = pathlib.Path(asked.peer).absolute() / "v19" / "bin"
        self.asked, self.folder = asked, folder
        self.env = os.environ | {
            "PAIRS_SHARDS": shards,
            "PAIRS_VOCABULARY": str(vocabulary),
            "PAIRS_BATCHES": f"{folder}/batches.npz",
            "PYTHONWARNINGS": "ignore",
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }
        self.run("t2t-trainer", "--schedule=train", "--train_steps=2")

    def run(self, tool, *more):
        """Runs a tool of the ancestor's; gives the lines of its marks."""
        model, hparams = ancestor.SIZES[ROW]["theirs"]
        with tempfile.TemporaryDirectory(dir=self.folder) as notes:
            marks = f"{notes}/marks"
            done = subprocess.run(
                [
                    *(self.bin / "python", self.bin / tool),
                    *("--problem=encoded_pairs", f"--data_dir={self.folder}"),
                    f"--t2t_usr_dir={ancestor.HERE}/ancestor_problem",
                    *(f"--model={model}", f"--hparams_set={ROW}"),
                    *(f"--hparams={hparams}", f"--output_dir={self.folder}/out"),
                    *more,
                ],
                capture_output=True,
                text=True,
                env=self.env | {"PAIRS_MARKS": marks},
            )
            if done.returncode:
                sys.exit(f"{done.stderr[-3000:]}\nancestor_decode.py: {tool} failed")
            lines = pathlib.Path(marks).read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def decode(self, sources, beam, extra):
        """Decodes; gives the wall and CPU seconds that it took."""
        path = f"{self.folder}/sources.txt"
        lines = [" ".join(map(str, ids)) for ids in sources]
        pathlib.Path(path).write_text("\n".join(lines) + "\n", "utf-8")
        notes = self.run(
            "t2t-decoder",
            f"--decode_from_file={path}",
            f"--decode_to_file={self.folder}/answers.txt",
            f"--decode_hparams=beam_size={beam},alpha=0.6,extra_length={extra},"
            f"batch_size={self.asked.batch},log_results=False,"
            f"force_decode_length=True,return_beams={beam > 1}",
        )
        start = next(note for note in notes if note.get("mark") == "ready")
        end = next(note for note in notes if note.get("mark") == "decoded")
        return end["wall"] - start["wall"], end["cpu"] - start["cpu"]


class Ours:
    """Our MultiModel of the same sizes, with random weights.

    Args:
      vocabulary: how many ids there are.
      batch: sentences at once.
    """

    def __init__(self, vocabulary, batch):
        import keras

        from t2t_mm.bin import command
        from t2t_mm.configuration import named_hparams, override, parse_overrides
        from t2t_mm.laws import shake
        from t2t_mm.made_up_batches import made_up_problem
        from t2t_mm.models import build_model
        from t2t_mm.problem import Feature

        command.load_zoo()
        hparams = named_hparams(ROW)
        changes = parse_overrides(ancestor.SIZES[ROW]["ours"], hparams)
        words = Feature("text", vocabulary="words")
        self.problem = made_up_problem("pairs", words, words, "To-Other")
        keras.utils.set_random_seed(ancestor.SEED)
        self.model = build_model(
            "multimodel",
            override(hparams, **changes),
            [self.problem],
            {"words": vocabulary},
        )
        shake(self.model)
        self.batch = batch

    def decode(self, sources, beam, extra):
        """Decodes; gives wall and CPU seconds, and how many positions there were."""
        import numpy as np

        from t2t_mm.decode_settings import DecodeHParams
        from t2t_mm.decoding import make_decoder
        from t2t_mm.input_pipeline import batch_signature

        token = self.model.commands.token(self.problem.command)
        signature = batch_signature(self.problem)
        jobs = []
        for begin in range(0, len(sources), self.batch):
            part = sources[begin : begin + self.batch]
            lengths = np.array([len(ids) + 1 for ids in part])
            mask = np.arange(lengths.max())[None] < lengths[:, None]
            inputs = np.zeros(mask.shape, np.int32)
            for row, ids in zip(inputs, part, strict=True):
                row[: len(ids) + 1] = [*ids, 1]
            steps = positions_of(lengths.max(), beam, extra)
            settings = DecodeHParams(beam_size=beam, min_length=steps - 1)
            jobs.append((settings, {"inputs": inputs, "inputs_mask": mask}, steps))
        decoders = {
            settings: make_decoder(self.model, "pairs", signature, settings)
            for settings, _, _ in jobs
        }
        for settings, batch, steps in jobs:
            decoders[settings](batch, token, steps)["ids"].numpy()
        wall, cpu = time.perf_counter(), time.process_time()
        for settings, batch, steps in jobs:
            decoders[settings](batch, token, steps)["ids"].numpy()
        took = time.perf_counter() - wall, time.process_time() - cpu
        return *took, sum(len(job[1]["inputs"]) * job[2] for job in jobs)


def positions_of(longest, beam, extra):
    """Gives how many ids the ancestor answers with: its beam has a rule of its own."""
    return int(2 * longest + 50 if beam > 1 else longest + extra)


def main():
    """Compares the searches that were asked for."""
    asked = flags()
    ancestor.install(pathlib.Path(asked.peer), asked.python)
    with tempfile.TemporaryDirectory() as folder:
        shards, vocabulary = ancestor.encode(asked, folder)
        sources = sources_in(asked, shards)
        theirs = Theirs(asked, folder, shards, vocabulary)
        ours = Ours(vocabulary, asked.batch)
        for name in asked.searches.split(","):
            beam, extra = SEARCHES[name]
            part = sources
            if beam > 1:  # The ancestor needs minutes for more.
                part = [ids[: asked.most - 1] for ids in sources[: asked.batch]]
            wall, cpu = theirs.decode(part, beam, extra)
            our_wall, our_cpu, positions = ours.decode(part, beam, extra)
            print(f"\n{name}, {len(part)} sentences, {positions} positions")
            print(f"{'':10}{'s':>9}{'CPU s':>9}{'sentences/s':>13}{'/CPU-s':>9}")
            for who, *took in (("ancestor", wall, cpu), ("t2t_mm", our_wall, our_cpu)):
                rates = [len(part) / one for one in took]
                print(
                    f"{who:<10}{took[0]:>9.2f}{took[1]:>9.2f}"
                    f"{rates[0]:>13.1f}{rates[1]:>9.1f}"
                )
            print(
                f"{name}: {wall / our_wall:.1f} times the ancestor's sentences per "
                f"second, {cpu / our_cpu:.1f} times per CPU-second (target: 20)",
                flush=True,
            )


if __name__ == "__main__":
    main()
