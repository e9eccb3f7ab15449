"""Layers of experts with known weights, and what numpy makes of them."""

import numpy as np

from t2t_mm.layers.experts import MixtureOfExperts

SIZE = 5
EXPERT_SIZE = 3


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def made(num_experts=7, k=2, seed=3, **options):
    layer = MixtureOfExperts(
        num_experts=num_experts,
        expert_size=EXPERT_SIZE,
        experts_per_position=k,
        **options,
    )
    layer.build((None, None, SIZE))
    for i, variable in enumerate(layer.trainable_variables):
        variable.assign(normal(*variable.shape, seed=seed + i))
    return layer


def answers_of_all(layer, x):
    """Every expert asked about every position: [N, E, D]."""
    hidden, hidden_bias, output, output_bias = (
        weight.numpy() for weight in layer.groups[0][1:]
    )
    h = np.maximum(np.einsum("nd,edf->nef", x, hidden) + hidden_bias[:, 0], 0)
    return np.einsum("nef,efd->ned", h, output) + output_bias[:, 0]
