"""Plain against fused Adam: time to trace, nodes of the graph, time per update.

python benchmarks/optimizer.py [number of variables]

Both update the same variables with the same gradients, clipped, on this machine.
"""

import sys
import time

from t2t_mm.bin import command

command.start_tensorflow()  # what it says of GPUs that are not there is held back
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from t2t_mm.fused_adam import FusedAdam  # noqa: E402
from t2t_mm.optimizers import clip_by_global_norm  # noqa: E402

SHAPES = [(128, 128), (128,), (3, 128)]
NUM_UPDATES = 50


def measure(optimizer: keras.optimizers.Optimizer, num_variables: int) -> str:
    """Gives a line of the table for one optimizer."""
    shapes = [SHAPES[i % len(SHAPES)] for i in range(num_variables)]
    variables = [keras.Variable(tf.random.normal(shape)) for shape in shapes]
    gradients = [tf.Variable(tf.random.normal(shape)) for shape in shapes]
    optimizer.build(variables)

    @tf.function(autograph=False)
    def update() -> tf.Tensor:
        clipped, norm = clip_by_global_norm([g * 1.0 for g in gradients], 1.0)
        optimizer.apply(clipped, variables)
        return norm

    start = time.perf_counter()
    graph = update.get_concrete_function().graph
    tracing = time.perf_counter() - start
    update()
    times = []
    for _ in range(NUM_UPDATES):
        start = time.perf_counter()
        update()
        times.append(time.perf_counter() - start)
    nodes = len(graph.as_graph_def().node)
    best = 1000 * min(times)
    return f"{type(optimizer).__name__:<10}{tracing:>9.2f}{nodes:>9}{best:>12.2f}"


def main() -> None:
    """Prints the table."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    print(f"{number} variables\n{'':<10}{'trace, s':>9}{'nodes':>9}{'best ms':>12}")
    for make in (keras.optimizers.Adam, FusedAdam):
        print(measure(make(1e-3), number))


if __name__ == "__main__":
    main()
