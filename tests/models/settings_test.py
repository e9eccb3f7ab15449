"""Settings that no network can have are refused before there is one."""

import dataclasses

import pytest

from t2t_mm.configuration import named_hparams, override
from t2t_mm.models.settings import MultiModelHParams, TransformerHParams


@pytest.mark.parametrize("kind", [MultiModelHParams, TransformerHParams])
def test_heads_divide_the_width(kind):
    with pytest.raises(
        ValueError,
        match="^num_heads=12 came with hidden_size=128; expected a divisor of it. Set "
        "num_heads=8, or a hidden_size that 12 divides.$",
    ):
        kind(num_heads=12)
    assert kind(num_heads=12, hidden_size=24).num_heads == 12


@pytest.mark.parametrize("named_set", ["multimodel_base", "transformer_tiny"])
def test_a_width_that_the_sets_heads_do_not_divide_is_refused(named_set):
    with pytest.raises(ValueError, match="came with hidden_size=101; .* Set num_heads"):
        override(named_hparams(named_set), hidden_size=101)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_experts": 3},
            "^experts_per_position=4 came with num_experts=3; expected at most as many "
            "as there are. Set experts_per_position=3, or more experts.$",
        ),
        (
            {"num_experts": 10, "expert_groups": 4},
            "^expert_groups=4 came with num_experts=10; .* Set expert_groups=2, or a",
        ),
        (
            {"kernels": (3, 3)},
            r"^kernels=\(3, 3\) came, 2 of them; expected 4, one for each step of a "
            r"ConvBlock. Set for example kernels=\(3, 3, 15, 15\).$",
        ),
        ({"dilations": (1,) * 5}, "^dilations=.*, 5 of them; .* dilations=.1, 1, 1, 8"),
    ],
)
def test_parts_of_the_multimodel_fit_each_other(changes, message):
    with pytest.raises(ValueError, match=message):
        MultiModelHParams(**changes)


def test_what_is_turned_off_is_not_looked_at():
    """An ablation changes one setting of a set."""
    hparams = MultiModelHParams(use_attention=False, hidden_size=10)
    assert hparams.hidden_size % hparams.num_heads
    few = dataclasses.replace(hparams, use_moe=False, num_experts=1)
    assert few.experts_per_position > few.num_experts
