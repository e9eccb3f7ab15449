"""What share of the matmul peak each block of a network reaches, forward and backward.

    python benchmarks/blocks.py
    python benchmarks/blocks.py --hparams_set=multimodel_base --tokens=4096 --length=32

Each block is trained alone, at the sizes of a MultiModel set, on random positions:
forward pass, and backward pass to input and weights, no optimizer. In turn with the
blocks the peak is measured, a matmul of 1536 x 1536 in float32, so that other jobs
on the machine slow down both. Per block:

  GFLOP     matmuls and convolutions, two per multiply-add, times 3 for both passes;
            the experts' empty rows count as work in `GFLOP`, not in `useful`
  ms        wall time, the median
  peak      share of the peak, wall time
  CPU peak  the same, both per CPU-second
  useful    the share of wall-time peak, without the experts' empty rows

The blocks of the first group are bound by matmuls: their aim is half of the peak. Those
of the second are not (depthwise convolutions, softmax, norms move memory).
"""

import argparse
import statistics
import time

import step_times as steps_of  # this folder's

AIM = 0.5


def flags():
    """Gives the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hparams_set", default="multimodel_base")
    parser.add_argument("--hparams", default="", help="as of mm-trainer")
    parser.add_argument("--tokens", type=int, help="positions; default: batch_tokens")
    parser.add_argument("--length", type=int, default=32, help="positions of a row")
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


def blocks_of(hparams, vocabulary):
    """Gives {name: (is bound by matmuls, layer, call(x, mask))}."""
    import tensorflow as tf

    from t2t_mm.layers.attention import MultiHeadAttention
    from t2t_mm.layers.convolution import ConvBlock, ConvStep
    from t2t_mm.layers.experts import ExpertBlock, MixtureOfExperts
    from t2t_mm.modalities.text import TextNet

    size = hparams.hidden_size
    attention = MultiHeadAttention(size, num_heads=hparams.num_heads, dropout=0.0)
    pointwise = ConvStep(size, kernel=(1, 1))
    mixture = {
        "num_experts": hparams.num_experts,
        "expert_size": hparams.expert_size,
        "experts_per_position": hparams.experts_per_position,
    }
    experts = MixtureOfExperts(**mixture)
    words = TextNet(vocabulary, size, tie=False)
    conv_block = ConvBlock(
        size,
        kernels=hparams.kernels,
        dilations=hparams.dilations,
        dropout=0.0,
        is_causal=True,
    )
    expert_block = ExpertBlock(**mixture, dropout=0.0)

    def projections(x, mask):
        flat = tf.reshape(x, [-1, size])
        queries, both = (
            tf.matmul(flat, tf.convert_to_tensor(matrix))
            for matrix in (attention.query, attention.key_value)
        )
        answers = tf.matmul(queries, tf.convert_to_tensor(attention.output_projection))
        return tf.concat([answers, both], 1)

    return {
        "attention projections": (True, attention, projections),
        "expert networks": (
            True,
            experts,
            lambda x, mask: experts(x, mask, training=True)[0],
        ),
        "pointwise convolution": (
            True,
            pointwise,
            lambda x, mask: pointwise(x[:, :, None], mask[:, :, None]),
        ),
        "map to the vocabulary": (True, words, lambda x, mask: words.logits(x)),
        "attention, whole": (
            False,
            attention,
            lambda x, mask: attention(x, x, mask[:, None, None], training=True),
        ),
        "ConvBlock": (
            False,
            conv_block,
            lambda x, mask: conv_block(x, mask, training=True),
        ),
        "expert block": (
            False,
            expert_block,
            lambda x, mask: expert_block(x, mask, training=True)[0],
        ),
    }


class Block:
    """A layer, built, with a compiled pass forward and backward.

    Args:
      layer: is built here.
      call: f(x, mask) that uses it.
      x: float [B, L, D]; mask: bool [B, L].
    """

    def __init__(self, layer, call, x, mask):
        import tensorflow as tf

        if not layer.built:  # two blocks may share a layer
            layer.build((None, None, x.shape[-1]))
        # Gates at zero send every position to experts that noise alone chooses.
        weights = [variable.value for variable in layer.trainable_variables]
        self.walls, self.cpus = [], []

        def count(x):
            answer = call(x, mask)
            graph = tf.compat.v1.get_default_graph()
            counts = [steps_of.multiply_adds(one) for one in graph.get_operations()]
            total = tf.add_n([one for one in counts if one is not None])
            with tf.control_dependencies([answer]):
                return tf.identity(total)

        def both_passes(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                answer = call(x, mask)
            found = tape.gradient(answer, [x, *weights], answer)
            return [one for one in found if one is not None]

        self._run = tf.function(both_passes, autograph=False)
        self._x = x
        # Called by itself, TensorFlow takes the counts of all blocks for one function
        # that is traced again and again, and warns.
        counted = tf.function(count, autograph=False).get_concrete_function(x)
        self.gflop = 6e-9 * float(counted(x))

    def run(self):
        """Runs both passes, and notes what they cost."""
        wall, cpu = time.perf_counter(), time.process_time()
        self._run(self._x)
        self.walls.append(time.perf_counter() - wall)
        self.cpus.append(time.process_time() - cpu)


def main():
    """Prints a line for each block."""
    asked = flags()
    from t2t_mm.bin import command

    command.start_tensorflow()
    import keras
    import tensorflow as tf

    from t2t_mm import configuration
    from t2t_mm.strategy import make_distribution

    command.load_zoo()
    make_distribution("one_device")
    keras.utils.set_random_seed(1)
    hparams = configuration.named_hparams(asked.hparams_set)
    changes = configuration.parse_overrides(asked.hparams, hparams)
    hparams = configuration.override(hparams, **changes)
    tokens = asked.tokens or hparams.batch_tokens
    rows = tokens // asked.length
    x = tf.random.normal([rows, asked.length, hparams.hidden_size])
    mask = tf.ones([rows, asked.length], tf.bool)
    print(f"{asked.hparams_set}: {rows} rows of {asked.length} positions")
    print(f"{'':<24}{'GFLOP':>8}{'ms':>9}{'peak':>8}{'CPU peak':>10}{'useful':>8}")
    for name, (is_bound, layer, call) in blocks_of(hparams, asked.vocabulary).items():
        block = Block(layer, call, x, mask)
        peaks = []
        for number in range(asked.rounds + 2):
            if number == 2:
                block.walls.clear(), block.cpus.clear(), peaks.clear()
            peaks.append(steps_of.matmul_peak())
            block.run()
        wall, cpu = (statistics.median(one) for one in (block.walls, block.cpus))
        of_wall, of_cpu = (statistics.median(one) for one in zip(*peaks, strict=True))
        useful = block.gflop
        if "expert" in name:
            choices = rows * asked.length * hparams.experts_per_position
            useful = 12e-9 * choices * hparams.hidden_size * hparams.expert_size
        shares = block.gflop / wall / of_wall, block.gflop / cpu / of_cpu
        verdict = "met" if shares[0] >= AIM else "missed"
        verdict = f"  target at least {AIM:.0%}: {verdict}" if is_bound else ""
        print(
            f"{name:<24}{block.gflop:>8.1f}{1e3 * wall:>9.1f}{shares[0]:>8.1%}"
            f"{shares[1]:>10.1%}{useful / wall / of_wall:>8.1%}{verdict}",
            flush=True,
        )


if __name__ == "__main__":
    main()
