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
import time

import numpy as np
import tensorflow as tf
from tensor2tensor.data_generators import text_encoder, text_problems
from tensor2tensor.utils import registry

BATCHES = {}


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
    note(start=True)
    atexit.register(lambda: np.savez(os.environ["PAIRS_BATCHES"], **BATCHES))
