"""Who answers whom: positions to the rows of their experts, and the answers back.

`experts` calls it. Experts come in parts, one after another; those of a part have
equally many rows, C. A choice is one of the k experts of a position, and has number
n * k + i. Two plans:

  exact_plan      nothing is dropped: C is what the fullest expert of the part needs
  capacity_plan   C is given, shapes are fixed: what does not fit is dropped, counted
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from t2t_mm.gradients import custom_gradient

# A kernel is made for each shape that comes up: few numbers of rows, few kernels.
ROWS_AT_ONCE = 4


class Plan(NamedTuple):
    """Where each choice goes. R rows, those of an expert side by side.

    Attributes:
      row_of_choice: int32 [N, k]; R where a choice was dropped.
      choice_of_row: int32 [R]; N * k where a row is empty.
      parts: how many experts each part has.
      capacities: C of each part, numbers or int32 scalars.
      num_dropped: float32 scalar, choices of real positions without a row.
      may_drop: whether a choice can be without a row at all.
    """

    row_of_choice: tf.Tensor
    choice_of_row: tf.Tensor
    parts: Sequence[int]
    capacities: Sequence[Any]
    num_dropped: tf.Tensor
    may_drop: bool

    def rows_of_parts(self) -> list[Any]:
        """Gives the number of rows of each part."""
        return [n * c for n, c in zip(self.parts, self.capacities, strict=True)]


def exact_plan(experts: tf.Tensor, parts: Sequence[int]) -> Plan:
    """Gives every choice a row.

    Args:
      experts: int32 [N, k], the experts of each position; all positions are real.
      parts: how many experts each part has. If all were one part, many rows would be
        empty: with 30 experts and 1,700 choices the fullest has 1.4 times its share.
    """
    num_positions, k = tf.shape(experts)[0], experts.shape[1]
    num_experts = sum(parts)
    chosen = tf.reshape(experts, [-1])  # [N*k]
    order = tf.argsort(chosen, stable=True)
    counts = tf.math.bincount(chosen, minlength=num_experts, maxlength=num_experts)
    capacities = tf.reduce_max(tf.gather(counts, _members(parts)), 1)  # [P]
    capacities = -(-capacities // ROWS_AT_ONCE) * ROWS_AT_ONCE
    rows = tf.gather(capacities, np.repeat(np.arange(len(parts)), parts))  # [E]
    # What lies before an expert's first choice, in rows and among the choices.
    before = tf.cumsum(rows, exclusive=True) - tf.cumsum(counts, exclusive=True)
    row = tf.range(num_positions * k) + tf.gather(before, tf.gather(chosen, order))
    choice_of_row = tf.tensor_scatter_nd_update(
        tf.fill([tf.reduce_sum(rows)], num_positions * k), row[:, None], order
    )
    row_of_choice = tf.scatter_nd(order[:, None], row, [num_positions * k])
    return Plan(
        tf.reshape(row_of_choice, [-1, k]),
        choice_of_row,
        parts,
        tf.unstack(capacities, num=len(parts)),
        tf.constant(0.0),
        may_drop=False,
    )


def _members(parts: Sequence[int]) -> np.ndarray:
    """Gives the experts of each part, [P, most]; a small part repeats its first."""
    first = np.cumsum(parts) - parts
    places = np.arange(max(parts))
    return first[:, None] + np.where(places < np.array(parts)[:, None], places, 0)


def capacity_plan(
    experts: tf.Tensor, is_real: tf.Tensor, parts: Sequence[int], *, factor: float
) -> Plan:
    """Gives rows to the choices that fit, with shapes that follow from N alone.

    C = min(N, ceil(factor * N * k / E)). First choices come before second ones, earlier
    positions before later ones.

    Args:
      experts: int32 [N, k].
      is_real: bool [N]; padding takes no row and is not counted as dropped.
      parts: how many experts each part has.
      factor: how many times its fair share an expert has room for.
    """
    num_experts, k = sum(parts), experts.shape[1]
    num_positions = experts.shape[0] or tf.shape(experts)[0]
    capacity = capacity_of(num_positions, k, num_experts, factor)
    chosen = tf.reshape(tf.transpose(experts), [-1])  # [k*N]
    real = tf.tile(is_real, [k])
    asked = tf.one_hot(chosen, num_experts, dtype=tf.int32)
    asked *= tf.cast(real, tf.int32)[:, None]  # [k*N, E]
    slot = tf.reduce_sum(tf.cumsum(asked, exclusive=True) * asked, 1)
    fits = real & (slot < capacity)
    none = num_experts * capacity
    row = tf.where(fits, chosen * capacity + slot, none)  # [k*N]
    choice = tf.reshape(
        tf.transpose(tf.reshape(tf.range(num_positions * k), [-1, k])), [-1]
    )
    # One row more catches what is dropped.
    choice_of_row = tf.tensor_scatter_nd_update(
        tf.fill([none + 1], num_positions * k), row[:, None], choice
    )[:-1]
    dropped = real & (slot >= capacity)
    return Plan(
        tf.transpose(tf.reshape(row, [k, -1])),
        choice_of_row,
        parts,
        [capacity] * len(parts),
        tf.reduce_sum(tf.cast(dropped, tf.float32)),
        may_drop=True,
    )


def capacity_of(num_positions: Any, k: int, num_experts: int, factor: float) -> Any:
    """Gives C of `capacity_plan`: a number, or a scalar where N is not known yet."""
    share = factor * k / num_experts
    if isinstance(num_positions, int):
        return min(num_positions, math.ceil(share * num_positions))
    wanted = tf.math.ceil(share * tf.cast(num_positions, tf.float32))
    return tf.minimum(num_positions, tf.cast(wanted, tf.int32))


def to_rows(x: tf.Tensor, plan: Plan) -> tf.Tensor:
    """Copies positions [N, D] into the experts' rows [R, D]; empty rows are 0.

    Its gradient gathers, too: a position's gradient is the sum over its k rows.
    """
    k = plan.row_of_choice.shape[1]

    @custom_gradient
    def copy(x):
        def gradient(upstream):
            upstream = _with_zero_row(upstream) if plan.may_drop else upstream
            return tf.reduce_sum(tf.gather(upstream, plan.row_of_choice), 1)

        return tf.gather(_with_zero_row(x), plan.choice_of_row // k), gradient

    return copy(x)


def from_rows(rows: tf.Tensor, plan: Plan) -> tf.Tensor:
    """Copies rows [R, D] back to choices [N, k, D]; a dropped choice gets 0.

    Its gradient gathers, too.
    """

    @custom_gradient
    def copy(rows):
        def gradient(upstream):
            flat = tf.reshape(upstream, [-1, upstream.shape[-1]])
            return tf.gather(_with_zero_row(flat), plan.choice_of_row)

        rows = _with_zero_row(rows) if plan.may_drop else rows
        return tf.gather(rows, plan.row_of_choice), gradient

    return copy(rows)


def _with_zero_row(x: tf.Tensor) -> tf.Tensor:
    return tf.concat([x, tf.zeros([1, x.shape[-1]], x.dtype)], 0)
