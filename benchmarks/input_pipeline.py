"""Speed of the input pipeline, share of padding, and how long a step waits for input.

python benchmarks/input_pipeline.py --data_dir=demo/data [--problem=eight_small]
    [--hparams_set=multimodel_tiny] [--batches=30] [--train]

For each problem, whose data must be there: examples per second of reading, parsing,
decoding and padding alone, its CPU seconds per 1,000 examples, and the share of
positions that are padding, of inputs, of targets and of both together, in the worst of
five epochs (target: under 15 %). With --train, after the first steps, which compile:
the share of the time of `--batches` steps that passes until the next batch is there
(target: under 2 %), each problem by itself.
"""

import argparse
import itertools
import time

PADDING_TARGET, WAITING_TARGET = 0.15, 0.02
SEED, WARM_UP_STEPS, EPOCHS = 1, 3, 5


def padding(problem, data_dir, hparams):
    """Gives the worst padding of each kind that any of a few epochs has."""
    from t2t_mm import batch_plan
    from t2t_mm.split_reader import SplitReader

    index = SplitReader(problem, "train", data_dir).index
    shares = [
        batch_plan.problem_padding(problem, index, hparams, seed=SEED, epoch=epoch)
        for epoch in range(EPOCHS)
    ]
    return [max(each) for each in zip(*shares, strict=True)]


def reading(problem, data_dir, hparams, number):
    """Gives examples per second, and CPU seconds per 1,000 examples."""
    from t2t_mm.input_pipeline import training_batches

    batches = iter(training_batches(problem, data_dir, hparams, seed=SEED))
    next(batches)
    wall, cpu = time.perf_counter(), time.process_time()
    examples = sum(
        int(batch["inputs"].shape[0]) for _, batch in itertools.islice(batches, number)
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return examples / wall, 1000 * cpu / examples


def compiled_steps(problems, data_dir, hparams):
    """Gives the trainer's compiled steps of all problems."""
    import keras

    from t2t_mm import registry, vocabulary
    from t2t_mm.input_pipeline import batch_signature
    from t2t_mm.models import build_model
    from t2t_mm.optimizers import make_optimizer
    from t2t_mm.train_step import TrainSteps
    from t2t_mm.training_state import TrainingState

    name = next(
        name
        for name in registry.models.names()
        if registry.models.get(name).hparams_class is type(hparams)
    )
    words = vocabulary.load_vocabularies(problems, data_dir)
    sizes = vocabulary.vocabulary_sizes(problems, words)
    keras.utils.set_random_seed(SEED)
    model = build_model(name, hparams, problems, sizes)
    optimizer = make_optimizer(hparams, model.trainable_variables, 1000)
    state = TrainingState(model, optimizer, [problem.name for problem in problems])
    signatures = {problem.name: batch_signature(problem) for problem in problems}
    return TrainSteps(state, signatures, hparams.clip_norm)


def waiting(steps, problem, data_dir, hparams, number):
    """Gives seconds per step, and the share of them that a step waits for its batch."""
    from t2t_mm.input_pipeline import training_batches

    batches = iter(training_batches(problem, data_dir, hparams, seed=SEED))
    waited = start = 0.0
    for step in range(WARM_UP_STEPS + number):
        if step == WARM_UP_STEPS:
            waited, start = 0.0, time.perf_counter()
        before = time.perf_counter()
        _, batch = next(batches)
        waited += time.perf_counter() - before
        output = steps(problem.name, batch)
        # A step is done when its numbers can be read.
        output[0].numpy()
    seconds = time.perf_counter() - start
    return seconds / number, waited / seconds


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--problem", default="eight_small")
    parser.add_argument("--hparams_set", default="multimodel_tiny")
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--train", action="store_true", help="measure steps, too")
    asked = parser.parse_args()

    from t2t_mm.bin import command

    command.start_tensorflow()
    from t2t_mm.configuration import named_hparams
    from t2t_mm.mixture import get_problems, parse_problems

    command.load_zoo()
    hparams = named_hparams(asked.hparams_set)
    problems = get_problems(parse_problems(asked.problem))
    steps = compiled_steps(problems, asked.data_dir, hparams) if asked.train else None
    more = f"{'s/step':>9}{'waiting':>9}" if asked.train else ""
    print(
        f"{'problem':<24}{'examples/s':>11}{'CPU s/1000':>12}"
        f"{'pad in':>9}{'pad out':>9}{'pad both':>9}{more}"
    )
    most_padding, most_waiting = 0.0, 0.0
    for problem in problems:
        speed, cpu = reading(problem, asked.data_dir, hparams, asked.batches)
        shares = padding(problem, asked.data_dir, hparams)
        line = f"{problem.name:<24}{speed:>11,.0f}{cpu:>12.3f}"
        line += "".join(f"{share:>9.1%}" for share in shares)
        most_padding = max(most_padding, *shares)
        if steps:
            found = waiting(steps, problem, asked.data_dir, hparams, asked.batches)
            line += f"{found[0]:>9.3f}{found[1]:>9.2%}"
            most_waiting = max(most_waiting, found[1])
        print(line, flush=True)
    show_target("padding", most_padding, PADDING_TARGET)
    if steps:
        show_target("waiting", most_waiting, WAITING_TARGET)


def show_target(figure, found, target):
    """Prints whether the worst of all problems is below a target."""
    verdict = "met" if found < target else "missed"
    print(f"{figure}: at most {found:.1%}, target under {target:.0%}: {verdict}")


if __name__ == "__main__":
    main()
