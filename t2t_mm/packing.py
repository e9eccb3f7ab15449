"""Several short texts in one row of a batch: which problems, which shape, how made.

Called by the input pipeline with the rows that `batch_plan` chose. A packed batch has,
beside inputs, targets and their masks, `inputs_segments` and `targets_segments`, int32
[B, L]: 1, 2, ... for the examples of a row, one after the other, 0 for padding. The
n-th example of the inputs and the n-th of the targets belong together.
"""

from collections.abc import Iterable, Mapping

import tensorflow as tf

from t2t_mm.batch_plan import is_packed
from t2t_mm.configuration import HParams
from t2t_mm.problem import Problem

COLUMNS = ("inputs", "targets")


def packed_batch(
    batch: Mapping[str, tf.Tensor], rows: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Packs a batch of texts; runs eagerly and inside tf.data.

    Args:
      batch: N examples, as `input_pipeline.parse_batch` gives them.
      rows: int32 [N], the row of each, from 0 on; never less than the one before.

    Returns:
      The batch in as many rows as there are, in the order that it came in.
    """
    rows = tf.convert_to_tensor(rows, tf.int32)
    counts = tf.math.segment_sum(tf.ones_like(rows), rows)  # [B]
    ends = tf.cumsum(counts)
    numbers = tf.range(1, tf.size(rows) + 1) - tf.gather(ends - counts, rows)
    packed: dict[str, tf.Tensor] = {}
    for name in COLUMNS:
        mask = tf.convert_to_tensor(batch[f"{name}_mask"])
        lengths = tf.reduce_sum(tf.cast(mask, tf.int32), 1)
        row_lengths = tf.math.segment_sum(lengths, rows)
        parts = {
            name: tf.boolean_mask(batch[name], mask),
            f"{name}_segments": tf.repeat(numbers, lengths),
        }
        for key, values in parts.items():
            packed[key] = tf.RaggedTensor.from_row_lengths(
                values, row_lengths, validate=False
            ).to_tensor()
        packed[f"{name}_mask"] = packed[f"{name}_segments"] > 0
    return packed


def packed_signature() -> dict[str, tf.TensorSpec]:
    """Gives shape and dtype of what a packed batch has more than another."""
    names = [f"{name}_segments" for name in COLUMNS]
    return {name: tf.TensorSpec([None, None], tf.int32, name) for name in names}


def check_packing(
    hparams: HParams,
    problems: Iterable[Problem],
    *,
    model: str,
    takes_packed_rows: bool,
    has_static_shapes: bool,
) -> None:
    """Checks that hparam `pack_length`, where it is set, can do what it says.

    Args:
      hparams, problems: of the run.
      model: its name.
      takes_packed_rows: what the model says of itself.
      has_static_shapes: whether steps are compiled for fixed shapes.

    Raises:
      ValueError: if no problem is packed, or model or device cannot take it.
    """
    if not hparams.pack_length:
        return
    came = f"hparam pack_length={hparams.pack_length} came with "
    remedy = "Set --hparams=pack_length=0."
    kinds = {
        one.name: f"{one.inputs.modality} to {one.targets.modality}" for one in problems
    }
    if not any(is_packed(one, hparams) for one in problems):
        listed = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise ValueError(
            f"{came}{listed}; expected a problem from text to text, since nothing else "
            f"is packed. {remedy}"
        )
    if not takes_packed_rows:
        raise ValueError(
            f"{came}model '{model}', which does not say that it takes_packed_rows; "
            "expected one that keeps the examples of a row apart. Let its encode and "
            f"decode use `segments`, or: {remedy}"
        )
    if has_static_shapes:
        raise ValueError(
            f"{came}--xla or --strategy=tpu, where shapes are fixed; expected 0, since "
            f"taking rows apart makes shapes that depend on the texts. {remedy}"
        )
