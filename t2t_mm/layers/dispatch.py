"""Who answers whom: positions to the rows of their experts, and the answers back.

`experts` calls it. An expert e has C rows, e * C to (e + 1) * C - 1; a choice is one of
the k experts of a position, numbered n * k + i. Two plans:

  exact_plan      nothing is dropped: what finds its C rows full goes to more rows that
                  the few fullest experts get, behind those of all
  capacity_plan   C is given, shapes are fixed: what does not fit is dropped, counted
"""

import math
from typing import Any, NamedTuple

import tensorflow as tf


class Plan(NamedTuple):
    """Where each choice goes. R = E * C + K * M rows.

    Attributes:
      row_of_choice: int32 [N, k]; R where a choice was dropped.
      choice_of_row: int32 [R]; N * k where a row is empty.
      capacity: C, rows of each expert.
      num_dropped: float32 scalar, choices of real positions without a row.
      may_drop: whether a choice can be without a row at all.
      fullest: int32 [K], the experts that have M more rows, behind those of all; None
        where nobody may have more.
      more: M.
    """

    row_of_choice: tf.Tensor
    choice_of_row: tf.Tensor
    capacity: Any
    num_dropped: tf.Tensor
    may_drop: bool
    fullest: tf.Tensor | None = None
    more: Any = 0


def exact_plan(
    experts: tf.Tensor, num_experts: int, *, rows_of_a_copy: int | None = None
) -> Plan:
    """Gives every choice a row.

    If all experts had the rows that the fullest one needs, many would be empty: with
    240 experts and 4,096 choices the fullest has twice its fair share. So a few may be
    asked a second time, with a copy of their weights.

    Args:
      experts: int32 [N, k], the experts of each position; all positions are real.
      num_experts: E.
      rows_of_a_copy: what a copy of an expert's weights, and of their gradient, costs:
        as much as that many rows; None for no copies.
    """
    num_positions, k = tf.shape(experts)[0], experts.shape[1]
    chosen = tf.reshape(experts, [-1])  # [N*k]
    order = tf.argsort(chosen, stable=True)
    counts = tf.math.bincount(chosen, minlength=num_experts, maxlength=num_experts)
    ranked = tf.gather(chosen, order)
    slot = tf.range(num_positions * k) - tf.gather(
        tf.cumsum(counts, exclusive=True), ranked
    )
    fullest, more = None, 0
    if rows_of_a_copy is not None:
        capacity, more, fullest = _least_rows(counts, num_experts, rows_of_a_copy)
        place = tf.scatter_nd(  # of an expert's further rows; used for the fullest only
            fullest[:, None], tf.range(tf.size(fullest)) * more, [num_experts]
        )
        behind = num_experts * capacity + tf.gather(place, ranked) + slot - capacity
        row = tf.where(slot < capacity, ranked * capacity + slot, behind)
        num_rows = num_experts * capacity + tf.size(fullest) * more
    else:
        capacity = tf.reduce_max(counts)
        row = ranked * capacity + slot  # of each choice, in expert order
        num_rows = num_experts * capacity
    choice_of_row = tf.tensor_scatter_nd_update(
        tf.fill([num_rows], num_positions * k), row[:, None], order
    )
    row_of_choice = tf.scatter_nd(order[:, None], row, [num_positions * k])
    return Plan(
        tf.reshape(row_of_choice, [-1, k]),
        choice_of_row,
        capacity,
        tf.constant(0.0),
        may_drop=False,
        fullest=fullest,
        more=more,
    )


def _least_rows(
    counts: tf.Tensor, num_experts: int, rows_of_a_copy: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gives C, M and the K experts, int32 [K], with which computing costs least.

    Of the experts in order of their load, K = 0, 1, ... are asked twice: C is what the
    next one needs, M what the first one needs beyond it.
    """
    loads, by_load = tf.math.top_k(counts, num_experts)
    more = loads[0] - loads  # M for each K
    number = tf.range(num_experts)
    cost = num_experts * loads + number * (more + rows_of_a_copy)
    best = tf.argmin(cost, output_type=tf.int32)
    return loads[best], more[best], by_load[:best]


def capacity_plan(
    experts: tf.Tensor, is_real: tf.Tensor, num_experts: int, *, factor: float
) -> Plan:
    """Gives rows to the choices that fit, with shapes that follow from N alone.

    C = min(N, ceil(factor * N * k / E)). First choices come before second ones, earlier
    positions before later ones.

    Args:
      experts: int32 [N, k].
      is_real: bool [N]; padding takes no row and is not counted as dropped.
      num_experts: E.
      factor: how many times its fair share an expert has room for.
    """
    k = experts.shape[1]
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
        capacity,
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
    """Copies positions [N, D] into the experts' rows [E * C, D]; empty rows are 0.

    Its gradient gathers, too: a position's gradient is the sum over its k rows.
    """
    k = plan.row_of_choice.shape[1]

    @tf.custom_gradient
    def copy(x):
        def gradient(upstream):
            upstream = _with_zero_row(upstream) if plan.may_drop else upstream
            return tf.reduce_sum(tf.gather(upstream, plan.row_of_choice), 1)

        return tf.gather(_with_zero_row(x), plan.choice_of_row // k), gradient

    return copy(x)


def from_rows(rows: tf.Tensor, plan: Plan) -> tf.Tensor:
    """Copies rows [E * C, D] back to choices [N, k, D]; a dropped choice gets 0.

    Its gradient gathers, too.
    """

    @tf.custom_gradient
    def copy(rows):
        def gradient(upstream):
            flat = tf.reshape(upstream, [-1, upstream.shape[-1]])
            return tf.gather(_with_zero_row(flat), plan.choice_of_row)

        rows = _with_zero_row(rows) if plan.may_drop else rows
        return tf.gather(rows, plan.row_of_choice), gradient

    return copy(rows)


def _with_zero_row(x: tf.Tensor) -> tf.Tensor:
    return tf.concat([x, tf.zeros([1, x.shape[-1]], x.dtype)], 0)
