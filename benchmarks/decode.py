"""What decoding costs: sentences and tokens per second, cached and recomputed.

    .venv/bin/python benchmarks/decode.py
    .venv/bin/python benchmarks/decode.py --vocabulary=8192 \
        --hparams=num_experts=30,expert_size=2048,tie_embeddings=false

A model with random weights translates random sentences into answers of exactly
`--length` ids each, so that every way of decoding has the same work. Rates are given
per second of the wall clock and per CPU-second (user and system time of the process).
"recomputed" runs the decoder over the whole prefix for every token, as a model without
a memory would, in the same process. The last lines give the cost of a token near
positions 16 and 128 of an answer; of the MultiModel also of the same network without
attention, which has to look at more places the later it is asked.
"""

import argparse
import dataclasses
import time

import step_times as steps_of  # this folder's

BUFFER = 160
AROUND = 8
WIDTHS = (26, 7, 9, 10, 13, 12, 17, 17)


def flags():
    """Gives the settings of the run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hparams_set", default="multimodel_tiny")
    parser.add_argument("--hparams", default="", help="name=value, as for mm-trainer")
    parser.add_argument("--vocabulary", type=int, default=4096, help="ids")
    parser.add_argument("--source", type=int, default=16, help="tokens of an input")
    parser.add_argument("--length", type=int, default=32, help="ids of an answer")
    parser.add_argument("--batches", default="1,64", help="sentences at once")
    parser.add_argument("--beams", default="1,4")
    parser.add_argument("--repeat", type=int, default=3, help="timed calls; the best")
    parser.add_argument("--no_recompute", action="store_true")
    parser.add_argument("--jit_compile", action="store_true", help="with XLA, too")
    steps_of.add_thread_flags(parser)
    return parser.parse_args()


def made(asked, **changes):
    """Gives a model with random weights, and its problem."""
    import keras

    from t2t_mm import registry
    from t2t_mm.bin import command
    from t2t_mm.configuration import named_hparams, override, parse_overrides
    from t2t_mm.laws import shake
    from t2t_mm.made_up_batches import made_up_problem
    from t2t_mm.models import build_model
    from t2t_mm.problem import Feature

    command.load_zoo()
    hparams = named_hparams(asked.hparams_set)
    changes = parse_overrides(asked.hparams, hparams) | changes
    hparams = override(hparams, **changes)
    name = next(
        name
        for name in registry.models.names()
        if registry.models.get(name).hparams_class is type(hparams)
    )
    words = Feature("text", vocabulary="words")
    problem = made_up_problem("translate", words, words, "To-German")
    keras.utils.set_random_seed(1)
    model = build_model(name, hparams, [problem], {"words": asked.vocabulary})
    shake(model)
    count = sum(int(variable.value.shape.num_elements()) for variable in model.weights)
    print(f"{asked.hparams_set} {asked.hparams}: {count / 1e6:.1f} M parameters")
    return model, problem


def batch_of(asked, rows):
    """Gives random sentences; a third of their places is padding, in a long batch."""
    import numpy as np

    rng = np.random.default_rng(rows)
    lengths = rng.integers(asked.source // 3, asked.source + 1, rows)
    lengths[0] = asked.source
    mask = np.arange(asked.source)[None] < lengths[:, None]
    ids = rng.integers(3, asked.vocabulary, mask.shape) * mask
    return {"inputs": ids.astype(np.int32), "inputs_mask": mask}


def timed(function, repeat):
    """Gives the best (wall seconds, CPU seconds) of a call, after one to warm up."""
    function()
    best = []
    for _ in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        best.append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu, wall = min(best)
    return wall, cpu


class Recomputed:
    """A model that is decoded without a memory."""

    def __init__(self, model):
        self.model = model

    def __getattr__(self, name):
        return getattr(self.model, name)

    def start_decoding(self, source, *, max_length, num_beams=1):
        """Gives the stepper that decodes the whole prefix again."""
        from t2t_mm.models.stepping import RecomputingStepper

        return RecomputingStepper(
            self.model, source, max_length=max_length, num_beams=num_beams
        )


def ways(model, problem, asked, beam):
    """Yields (name, decoder, seconds to compile) of each way to decode."""
    from t2t_mm.decode_settings import DecodeHParams
    from t2t_mm.decoding import make_decoder
    from t2t_mm.input_pipeline import batch_signature

    settings = DecodeHParams(beam_size=beam, min_length=asked.length - 1)
    kinds = [("cached", model, settings)]
    if asked.jit_compile:
        xla = dataclasses.replace(settings, jit_compile=True)
        kinds.append(("cached, XLA", model, xla))
    if not asked.no_recompute:
        kinds.append(("recomputed", Recomputed(model), settings))
    for name, one, search in kinds:
        start = time.process_time()
        decode = make_decoder(one, problem.name, batch_signature(problem), search)
        yield name, decode, time.process_time() - start


def show(*cells):
    """Prints a line of the table."""
    first, *rest = (
        f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells
    )
    line = [first.ljust(WIDTHS[0])]
    line += [cell.rjust(width) for cell, width in zip(rest, WIDTHS[1:], strict=True)]
    print("".join(line), flush=True)


def measure(model, problem, asked):
    """Prints the table of rates."""
    show(
        "",
        "batch",
        "trace s",
        "first s",
        "sentences/s",
        "tokens/s",
        "sentences/CPU-s",
        "against cached",
    )
    token = model.commands.token(problem.command)
    for beam in map(int, asked.beams.split(",")):
        baseline = {}
        for name, decode, tracing in ways(model, problem, asked, beam):
            for rows in map(int, asked.batches.split(",")):
                batch = batch_of(asked, rows)

                def call(decode=decode, batch=batch):
                    return decode(batch, token, asked.length)["scores"].numpy()

                start = time.process_time()
                call()
                first = time.process_time() - start
                wall, cpu = timed(call, asked.repeat)
                baseline.setdefault(rows, cpu)
                search = "greedy" if beam == 1 else f"beam {beam}"
                show(
                    f"{search}, {name}",
                    rows,
                    tracing,
                    first,
                    rows / wall,
                    rows * asked.length / wall,
                    rows / cpu,
                    f"{cpu / baseline[rows]:.2f} x CPU",
                )


def cost_by_position(name, model, problem, asked, rows):
    """Prints what a token costs early and late in a long answer."""
    import tensorflow as tf

    from t2t_mm.input_pipeline import batch_signature

    signature = batch_signature(problem)
    inputs = {name: signature[name] for name in ("inputs", "inputs_mask")}

    @tf.function(input_signature=[inputs, tf.TensorSpec([], tf.int32)], autograph=False)
    def decode_around(batch, position):
        source, _ = model.encode_inputs(problem, batch, training=False)
        stepper = model.start_decoding(source, max_length=tf.constant(BUFFER))
        state = {
            name: tf.pad(value, [[0, 0], [position - AROUND, 0], [0, 0]])
            if name.startswith("attention")  # grows with each position
            else value
            for name, value in stepper.state.items()
        }
        modality = model.modalities["text"]
        y = tf.zeros([tf.shape(source.x)[0], model.hparams.hidden_size])

        def step(i, y, state):
            h, state = stepper.step(y, state, i)
            best = tf.argmax(modality.top(h, feature=problem.targets), -1, tf.int32)
            y = modality.targets_bottom(best[:, None], feature=problem.targets)[:, 0]
            return i + 1, y, state

        return tf.while_loop(
            lambda i, y, state: i < position + AROUND,
            step,
            (position - AROUND, y, state),
        )[1]

    batch = {k: tf.constant(v) for k, v in batch_of(asked, rows).items()}
    costs = {}
    for position in (16, 128, 16, 128):
        place = tf.constant(position)
        _, cpu = timed(
            lambda p=place: decode_around(batch, p).numpy(), 2 * asked.repeat
        )
        costs[position] = min(cpu / (2 * AROUND), costs.get(position, cpu))
    print(
        f"{name}, batch {rows}: CPU ms per position around 16: {1e3 * costs[16]:.2f}, "
        f"around 128: {1e3 * costs[128]:.2f}, ratio {costs[128] / costs[16]:.2f}"
    )


def main():
    """Prints the table and the costs by position."""
    asked = flags()
    threads = steps_of.start_tensorflow(asked)
    if threads:
        print(threads)
    model, problem = made(asked)
    measure(model, problem, asked)
    models = {"as it is": model}
    if hasattr(model.hparams, "use_attention"):
        models["without attention"], problem = made(asked, use_attention=False)
    for name, one in models.items():
        for rows in map(int, asked.batches.split(",")):
            cost_by_position(name, one, problem, asked, rows)


if __name__ == "__main__":
    main()
