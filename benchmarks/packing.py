"""What packing brings: padding, and real target tokens per CPU-second.

python benchmarks/packing.py --data_dir=demo/data [--problem=translate_ende_home]
    [--hparams_set=multimodel_tiny] [--hparams=...] [--pack_lengths=256,1024]
    [--steps=20]

The trainer's compiled step is timed on batches of the input pipeline, without packing
and with each length of a packed row, in turn: one step of each, again and again, so
that other jobs on the machine disturb all alike. Columns:

  rows          pack_length; 0 is a row for each example
  examples      in a batch, the mean
  tokens        real target tokens in a batch, the mean
  padding       share of padded positions of an epoch, both features
  apart         the same of the rows that examples are taken apart to, in the layers
                that mix positions; what is padded there costs what it costs unpacked
  CPU ms        of a step, all threads
  tokens/CPU-s  real target tokens per CPU-second; target: above that of rows 0
"""

import argparse
import dataclasses
import time

SEED, WARM_UP_STEPS = 1, 2


class Packing:
    """The steps of one pack_length, and what they took."""

    def __init__(self, problem, data_dir, hparams):
        import keras

        from t2t_mm import batch_plan, input_pipeline, registry, vocabulary
        from t2t_mm.models import build_model
        from t2t_mm.optimizers import make_optimizer
        from t2t_mm.split_reader import SplitReader
        from t2t_mm.train_step import TrainSteps
        from t2t_mm.training_state import TrainingState

        self.problem, self.hparams = problem, hparams
        words = vocabulary.load_vocabularies([problem], data_dir)
        sizes = vocabulary.vocabulary_sizes([problem], words)
        name = next(
            name
            for name in registry.models.names()
            if registry.models.get(name).hparams_class is type(hparams)
        )
        keras.utils.set_random_seed(SEED)
        model = build_model(name, hparams, [problem], sizes)
        optimizer = make_optimizer(hparams, model.trainable_variables, 1000)
        state = TrainingState(model, optimizer, [problem.name])
        signature = input_pipeline.training_signature(problem, hparams)
        self.steps = TrainSteps(state, {problem.name: signature}, hparams.clip_norm)
        self.batches = iter(
            input_pipeline.training_batches(problem, data_dir, hparams, seed=SEED)
        )
        self.seconds = self.tokens = 0.0
        index = SplitReader(problem, "train", data_dir).index
        limits = batch_plan.batch_limits(problem, hparams)
        rows = batch_plan.kept_rows(index, limits)
        key = (SEED, 0, batch_plan.problem_key(problem))
        plan = batch_plan.training_plan(index, rows, limits, key)
        self.examples = len(rows) / len(plan)
        apart = dataclasses.replace(limits, pack_length=0)
        self.padding = batch_plan.epoch_padding(index, plan, limits).together
        self.apart = batch_plan.epoch_padding(index, plan, apart).together

    def step(self, is_counted):
        """Makes one step; its batch is read before the clock starts."""
        _, batch = next(self.batches)
        start = time.process_time()
        numbers = self.steps(self.problem.name, batch)[0].numpy()
        if is_counted:
            self.seconds += time.process_time() - start
            self.tokens += float(numbers[2])


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--problem", default="translate_ende_home")
    parser.add_argument("--hparams_set", default="multimodel_tiny")
    parser.add_argument("--hparams", default="", help="overrides, as of mm-trainer")
    parser.add_argument("--pack_lengths", default="", help="default: batch_tokens")
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()

    from t2t_mm.bin import command

    command.start_tensorflow()
    from t2t_mm.configuration import named_hparams, override, parse_overrides
    from t2t_mm.mixture import get_problems, parse_problems

    command.load_zoo()
    hparams = named_hparams(asked.hparams_set)
    hparams = override(hparams, **parse_overrides(asked.hparams, hparams))
    lengths = asked.pack_lengths or str(hparams.batch_tokens)
    for problem in get_problems(parse_problems(asked.problem)):
        packings = [
            Packing(problem, asked.data_dir, override(hparams, pack_length=int(length)))
            for length in ("0", *lengths.split(","))
        ]
        for number in range(WARM_UP_STEPS + asked.steps):
            for packing in packings:
                packing.step(number >= WARM_UP_STEPS)
        print(f"{problem.name}, {asked.hparams_set}, {asked.steps} steps each")
        print(
            f"{'rows':>6}{'examples':>10}{'tokens':>8}{'padding':>9}{'apart':>8}"
            f"{'CPU ms':>8}{'tokens/CPU-s':>14}{'ratio':>7}"
        )
        first = packings[0].tokens / packings[0].seconds
        for one in packings:
            speed = one.tokens / one.seconds
            print(
                f"{one.hparams.pack_length:>6}{one.examples:>10.1f}"
                f"{one.tokens / asked.steps:>8.0f}{one.padding:>9.1%}{one.apart:>8.1%}"
                f"{1e3 * one.seconds / asked.steps:>8.0f}{speed:>14,.0f}"
                f"{speed / first:>7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
