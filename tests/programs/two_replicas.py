"""Trains a network on one device and on two logical CPUs; prints how they differ.

two_replicas.py [CASE]

A program of its own, since logical devices are fixed when TensorFlow starts. Prints a
JSON object: by case, the largest difference of the steps' numbers (of those above 1,
their share) and of weights, moments, moving averages and running means of losses.
"""

import dataclasses
import json
import sys

import keras
import numpy as np
import tensorflow as tf

from t2t_mm.bin import command
from t2t_mm.configuration import named_hparams
from t2t_mm.distribution import ONE_DEVICE
from t2t_mm.input_pipeline import batch_signature
from t2t_mm.layers import noise
from t2t_mm.made_up_batches import made_up_batch, made_up_problem
from t2t_mm.models import build_model
from t2t_mm.optimizers import make_optimizer
from t2t_mm.problem import Feature
from t2t_mm.strategy import make_distribution
from t2t_mm.train_step import TrainSteps
from t2t_mm.training_state import TrainingState

WORDS = Feature("text", vocabulary="words")
SIZES = {"words": 11}
PROBLEMS = {
    "copy": made_up_problem("copy", WORDS, WORDS, "To-Copy"),
    "shout": made_up_problem("shout", WORDS, WORDS, "To-Shout"),
}
STEPS = 20
ROWS = (3, 1, 4, 5)  # uneven shares, and fewer rows than replicas
SMALL = {"hidden_size": 12, "dropout": 0.0, "learning_rate": 0.01, "clip_norm": 0.5}
TRANSFORMER = {"filter_size": 13, "num_encoder_layers": 1, "num_decoder_layers": 1}
MULTIMODEL = {
    **{"encoder_blocks": 1, "encoder_moe_after": 0, "mixer_blocks": 0},
    **{"decoder_blocks": 1, "decoder_moe_after": 0, "attention_conv_blocks": 0},
    **{"num_experts": 5, "experts_per_position": 2, "expert_size": 7},
    **{"kernels": (3, 3, 3, 3), "dilations": (1, 1, 1, 1), "num_heads": 2},
}
# With room for all, since each replica counts the room of its own rows.
CAPACITY = MULTIMODEL | {"expert_dispatch": "capacity", "expert_capacity_factor": 3.0}
CASES = {
    "transformer, momentum": ("transformer", TRANSFORMER | {"optimizer": "momentum"}),
    "multimodel, adam": ("multimodel", MULTIMODEL),
    "multimodel, capacity": ("multimodel", CAPACITY),
    "multimodel, fixed shapes": ("multimodel", CAPACITY),
    "accumulation": ("transformer", TRANSFORMER | {"gradient_accumulation": 3}),
    "PCGrad": (
        "transformer",
        TRANSFORMER | {"gradient_accumulation": 2, "gradient_conflicts": "project"},
    ),
    "moving averages": ("transformer", TRANSFORMER | {"ema_decay": 0.9}),
    "balanced losses": ("transformer", TRANSFORMER | {"loss_balancing": True}),
    "all at once": (
        "multimodel",
        MULTIMODEL
        | {"gradient_accumulation": 2, "gradient_conflicts": "project"}
        | {"ema_decay": 0.9, "loss_balancing": True, "loss_weights": (("copy", 0.5),)},
    ),
}


def train(case, distribution):
    """Gives the numbers of each step, and all variables at the end."""
    name, changes = CASES[case]
    keras.utils.set_random_seed(1)
    hparams = dataclasses.replace(
        named_hparams(f"{name}_tiny"), schedule="constant", **SMALL | changes
    )
    problems = list(PROBLEMS.values())
    with distribution.scope():
        model = build_model(name, hparams, problems, SIZES)
        optimizer = make_optimizer(hparams, model.trainable_variables, 100)
        state = TrainingState(
            model,
            optimizer,
            list(PROBLEMS),
            ema_decay=hparams.ema_decay,
            is_balancing=hparams.loss_balancing,
        )
    signatures = {key: batch_signature(one) for key, one in PROBLEMS.items()}
    steps = TrainSteps(state, signatures, hparams.clip_norm, distribution)
    numbers = []
    for draw in range(STEPS * steps.batches_per_update):
        problem = list(PROBLEMS)[draw % 3 // 2]  # copy, copy, shout, copy, ...
        rows = ROWS[draw % len(ROWS)]
        made_up = made_up_batch(PROBLEMS[problem], SIZES, num_examples=rows, seed=draw)
        batch = {key: tf.constant(value) for key, value in made_up.items()}
        numbers.append(steps(problem, batch)[0].numpy())
        is_update = (draw + 1) % steps.batches_per_update == 0
        if state.averages and is_update:
            state.averages.update((draw + 1) // steps.batches_per_update, distribution)
    return np.array(numbers), state


def values_of(state):
    """What was learned, by name; not the seeds, which differ."""
    return {
        key: v.numpy()
        for key, v in state.variables().items()
        if "random_state" not in key
        and (not key.startswith("trainer/") or "mean_loss" in key)
    }


def difference(expected, found):
    """The largest one, of numbers above 1 in shares of them."""
    return float((np.abs(expected - found) / (1 + np.abs(expected))).max())


def main():
    """Compares all cases."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    command.load_zoo()
    # The noise of gates is drawn per replica, so that no two runs could be compared.
    noise.normal = lambda shape, seed: tf.zeros(shape)
    found = {}
    for case in sys.argv[1:] or CASES:
        numbers, state = train(case, ONE_DEVICE)
        distribution = make_distribution("mirrored")
        # As on a TPU: each replica gets rows of the same few shapes.
        distribution.has_static_shapes = "fixed shapes" in case
        numbers2, state2 = train(case, distribution)
        expected, values = values_of(state), values_of(state2)
        copies = state2.model.trainable_variables[0].value.values
        distribution.spread_seeds(state2.model.variables)
        seeds = [
            [copy.numpy().tolist() for copy in variable.value.values]
            for variable in state2.model.variables
            if tf.as_dtype(variable.dtype).is_integer
        ]
        found[case] = {
            # Not the share of real positions, the last: fixed shapes have more padding.
            "numbers": difference(numbers[:, :-1], numbers2[:, :-1]),
            "values": max(difference(expected[k], values[k]) for k in values),
            "same_names": expected.keys() == values.keys(),
            "replicas": len(copies),
            "copies": float(np.abs(copies[0].numpy() - copies[1].numpy()).max()),
            "moved": float(np.abs(numbers[0] - numbers[-1]).max()),
            "seeds": len(seeds),
            "seeds_differ": all(a != b for a, b in seeds),
        }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
