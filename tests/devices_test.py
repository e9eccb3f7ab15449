import pytest
import tensorflow as tf

from t2t_mm.devices import has_only_cpus
from t2t_mm.layers.experts import MixtureOfExperts
from t2t_mm.losses import _parts


@pytest.mark.parametrize("kind", ["GPU", "TPU"])
def test_work_comes_in_parts_where_there_are_only_cpus(monkeypatch, kind):
    layer = MixtureOfExperts(num_experts=6, expert_size=2, experts_per_position=1)
    layer.build((None, None, 3))
    x = tf.reshape(tf.range(10), [5, 2])
    assert has_only_cpus() and len(layer._parts()) == 6
    assert [len(part) for part in _parts(x)] == [1, 1, 1, 2]
    devices_of = tf.config.list_logical_devices
    monkeypatch.setattr(
        tf.config,
        "list_logical_devices",
        lambda asked=None: [f"{kind}:0"] if asked == kind else devices_of(asked),
    )
    assert not has_only_cpus() and layer._parts() == [6]
    [part] = _parts(x)
    assert part is x
