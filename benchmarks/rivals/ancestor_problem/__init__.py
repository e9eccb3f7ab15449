"""Tensor2Tensor's side of `ancestor.py`: sentence pairs that t2t_mm has encoded.

Imported by t2t-trainer 1.9.0 through --t2t_usr_dir, in Python 3.7. Reads the shards of
mm-datagen, which have the form that it expects. Settings come by the environment:

  PAIRS_SHARDS      pattern of the shards
  PAIRS_VOCABULARY  how many ids there are
  PAIRS_BATCHES     where to leave the batches (.npz: inputs0, targets0, inputs1, ...)
  PAIRS_MARKS       where to leave a line of JSON for each loss that is logged
"""

import atexit
import json
import logging
import os
import re
import resource
import sys
import time

import numpy as np
import tensorflow as tf
from tensor2tensor.data_generators import text_encoder, text_problems
from tensor2tensor.utils import registry, t2t_model

BATCHES = {}
COUNTED = 2  # the step whose multiply-adds are counted, long before any is timed


def keep(inputs, targets):
    """Keeps a batch until the end."""
    number = len(BATCHES) // 2
    BATCHES["inputs%d" % number] = inputs  # noqa: UP031
    BATCHES["targets%d" % number] = targets  # noqa: UP031
    return np.int32(number)


class Marks(logging.Handler):
    """Notes the clocks of this process whenever a loss is logged."""

    def emit(self, record):
        """Notes them if the message is a loss, or the number of parameters."""
        message = record.getMessage()
        found = re.search(r"loss = (\S+), step = (\d+)", message)
        size = re.search(r"Trainable Variables Total size: (\d+)", message)
        if found:
            note(step=int(found.group(2)), loss=float(found.group(1)))
        elif size:
            note(parameters=int(size.group(1)))
        elif "Done running local_init_op" in message:
            note(mark="ready")
        elif "Averaged Single Token Generation Time" in message:
            note(mark="decoded")


def note(**numbers):
    """Adds a line to the marks."""
    numbers["wall"] = time.time()
    numbers["cpu"] = time.process_time()
    numbers["GiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2.0**20
    with open(os.environ["PAIRS_MARKS"], "a") as file:
        file.write(json.dumps(numbers) + "\n")


class MultiplyAdds(tf.train.SessionRunHook):
    """Notes how many multiply-adds a step's matmuls and convolutions have.

    Counted in the graph before its gradient is added, with the shapes of one batch.
    """

    def __init__(self):
        sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", ".."))
        from step_times import multiply_adds

        operations = tf.get_default_graph().get_operations()
        counts = [multiply_adds(operation) for operation in operations]
        self.total = tf.add_n([count for count in counts if count is not None])
        self.steps = 0

    def before_run(self, run_context):
        """Asks for the count, once."""
        self.steps += 1
        if self.steps == COUNTED:
            return tf.train.SessionRunArgs(self.total)
        return None

    def after_run(self, run_context, run_values):
        """Notes the count."""
        if self.steps == COUNTED:
            note(multiply_adds=float(run_values.results), batch=COUNTED - 1)


def counted(make_spec):
    """Gives `T2TModel.estimator_spec_train` with a hook that counts."""

    def make(self, loss, **options):
        hook = MultiplyAdds()
        spec = make_spec(self, loss, **options)
        return spec._replace(training_hooks=[*spec.training_hooks, hook])

    return make


class Sized(text_encoder.TextEncoder):
    """Says how many ids there are; text is ids in digits here."""

    def encode(self, text):
        """Gives the ids of a line of numbers."""
        return [int(one) for one in text.split()]

    def decode(self, ids, **kwargs):
        """Gives a line of numbers."""
        return " ".join(str(one) for one in ids)

    @property
    def vocab_size(self):
        """Gives the number of ids."""
        return int(os.environ["PAIRS_VOCABULARY"])


@registry.register_problem
class EncodedPairs(text_problems.Text2TextProblem):
    """Pairs of sentences in the shards of mm-datagen."""

    def filepattern(self, data_dir, mode, shard=None):
        """Gives the pattern of the shards."""
        return os.environ["PAIRS_SHARDS"]

    def feature_encoders(self, data_dir):
        """Gives an encoder for each feature."""
        return {"inputs": Sized(), "targets": Sized()}

    def input_fn(self, *args, **kwargs):
        """Gives the dataset, with its batches kept."""
        dataset = super().input_fn(*args, **kwargs)

        def kept(features, targets):
            seen = tf.py_func(keep, [features["inputs"], targets], tf.int32)
            with tf.control_dependencies([seen]):
                return features, tf.identity(targets)

        return dataset.map(kept)


if "PAIRS_MARKS" in os.environ:
    logging.getLogger("tensorflow").addHandler(Marks())
    train_spec = t2t_model.T2TModel.estimator_spec_train
    t2t_model.T2TModel.estimator_spec_train = counted(train_spec)
    note(start=True)
    atexit.register(lambda: np.savez(os.environ["PAIRS_BATCHES"], **BATCHES))
