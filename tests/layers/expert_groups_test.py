import subprocess
import sys

import pytest

from tests.made.experts import made

GROUPS = """
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
from t2t_mm.fused_adam import FusedAdam
from t2t_mm.layers.experts import MixtureOfExperts

x = np.random.default_rng(0).normal(size=(2, 11, 5)).astype(np.float32)
mask = np.arange(11)[None] < [[11], [6]]

def made(groups):
    sizes = dict(num_experts=6, expert_size=3, experts_per_position=2)
    layer = MixtureOfExperts(**sizes, num_groups=groups)
    layer.build((None, None, 5))
    for variable, seed in ((layer.gate, 1), (layer.gate_noise, 2)):
        rng = np.random.default_rng(seed)
        variable.assign(rng.normal(size=variable.shape).astype(np.float32))
    layer.noise.state.assign([1, 2])
    return layer

def trained(layer):
    variables = layer.trainable_variables
    optimizer = FusedAdam(0.01)
    optimizer.build(variables)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            answers, statistics = layer(x, mask, training=True)
            loss = tf.reduce_sum(tf.square(answers)) + statistics["balance_loss"]
        tensors = [variable.value for variable in variables]
        optimizer.apply(tape.gradient(loss, tensors), variables)
        return answers

    first = step().numpy()
    for _ in range(3):
        step()
    moments = {v.value.device for v in optimizer.variables if "hidden_1_" in v.path}
    return first, moments

whole, parted = made(1), made(2)
for i in range(4):
    halves = np.split(whole.groups[0][1 + i].numpy(), 2)
    for group, half in zip(parted.groups, halves):
        group[1 + i].assign(half)
devices = [group[1].value.device[-5:] for group in parted.groups]
assert devices == ["CPU:0", "CPU:1"], devices
(one, _), (other, moments) = trained(whole), trained(parted)
np.testing.assert_allclose(one, other, atol=1e-6)
assert {device[-5:] for device in moments} == {"CPU:1"}, moments
for i in range(4):
    joined = np.concatenate([group[1 + i].numpy() for group in parted.groups])
    np.testing.assert_allclose(joined, whole.groups[0][1 + i].numpy(), atol=1e-5)
print("same")
"""


def test_experts_on_two_devices_train_as_on_one():
    done = subprocess.run(
        [sys.executable, "-c", GROUPS], capture_output=True, text=True
    )
    assert done.stdout.strip() == "same", done.stderr[-2000:]


def test_groups_that_do_not_divide_the_experts_are_refused():
    with pytest.raises(ValueError, match="expert_groups is 2 with 7 experts"):
        made(7, 2, num_groups=2)
