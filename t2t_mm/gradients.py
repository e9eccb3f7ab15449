"""Own gradients of functions, given up together with the graph that they belong to."""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops

# Where a graph keeps its gradients, by their names in TensorFlow's registry.
_KEPT = "_t2t_mm_gradients"


def custom_gradient(function: Callable) -> Callable:
    """As `tf.custom_gradient`, without keeping each traced graph for ever.

    While a graph is traced, tf.custom_gradient enters a function that holds the graph's
    tensors into a registry of the process, and never takes it out: TensorFlow 2.21
    keeps all of the graph until the process ends, 105 MB for the steps of a tiny
    Transformer on two problems. Here the graph holds that function, and the registry
    only knows where; it forgets it when the graph goes.

    Args:
      function: gives (result, function from upstream gradients to the arguments');
        its arguments are tensors.

    Returns:
      The function of the same arguments that gives the result alone.
    """
    entered = tf.custom_gradient(function)

    @functools.wraps(function)
    def call(*args: Any):
        result = entered(*args)
        if not tf.executing_eagerly():
            _hand_over(tf.nest.flatten(result)[0].op)
        return result

    return call


class _Kept(dict):
    """Gradient functions of a graph by name; a dict that may be referred to weakly."""


def _hand_over(operation: tf.Operation) -> None:
    """Gives an operation's entry of TensorFlow's registry to the operation's graph.

    There is no public way. Another TensorFlow, whose registry is made differently,
    keeps the graph, which is all that goes wrong.
    """
    graph, name = operation.graph, operation.get_attr("_gradient_op_type").decode()
    entries: dict[str, Any] = getattr(ops.gradient_registry, "_registry", {})
    if "type" not in entries.get(name, {}):
        return
    entry = entries[name]
    if not hasattr(graph, _KEPT):
        setattr(graph, _KEPT, _Kept())
    kept = getattr(graph, _KEPT)
    kept[name] = entry["type"]
    held: Callable[[], Any] = weakref.ref(kept)
    entry["type"] = lambda *args: held()[name](*args)
    weakref.finalize(kept, entries.pop, name, None).atexit = False
