"""Shards -> padded, masked batches.

Called by trainer and evaluation. `batch_plan` says which records make up a batch;
here they are read, parsed a batch at a time, decoded and padded to the batch's longest:

  {"inputs", "inputs_mask", "targets", "targets_mask"}, by modality
  text         int32 [B, L], ends in EOS         mask bool [B, L]
  class_label  int32 [B, 1]                      mask bool [B, 1]
  image        float32 [B, H, W, C] in 0..1      mask bool [B, H, W]
  audio        float32 [B, T] in -1..1           mask bool [B, T]

With hparam `pack_length`, several examples from text to text share a row (`packing`).
"""

import functools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from t2t_mm import allocation, batch_plan
from t2t_mm.batch_cuts import BatchLimits, shared_rows
from t2t_mm.configuration import HParams
from t2t_mm.packing import packed_batch, packed_signature
from t2t_mm.problem import AUDIO, IMAGE, TEXT, Feature, Problem
from t2t_mm.split_reader import SplitReader

_PREFETCHED_BATCHES = 4
_PARALLEL_CALLS = 2
# RIFF and its size, WAVE, "fmt " and its size, 16 bytes of form, "data" and its size.
_WAV_HEADER_BYTES = 44


def training_batches(
    problem: Problem,
    data_dir: str,
    hparams: HParams,
    *,
    seed: int,
    start: tuple[int, int] = (0, 0),
) -> tf.data.Dataset:
    """Gives endless shuffled batches of the train split, and where to go on after each.

    Args:
      problem: whose data.
      data_dir: where mm-datagen put it.
      hparams: batch sizes and longest lengths; longer examples are left out.
      seed: of the order; each epoch has another.
      start: the position that came with the last batch that was used.

    Returns:
      Dataset of (position, batch): position int64 [2] is (epoch, batches of it that
      are done). A dataset started there gives bitwise the batches that would follow.

    Raises:
      FileNotFoundError, ValueError: if there is no data, it does not fit, or every
        example is over-long.
    """
    reader = SplitReader(problem, "train", data_dir)
    limits = batch_plan.batch_limits(problem, hparams)
    rows = _rows_to_train(problem, reader.index, hparams)
    orders = batch_plan.least_padding(reader.index, rows, limits)

    def generate() -> Iterator[tuple[np.ndarray, ...]]:
        allocation.keep_on()
        epoch, done = (int(number) for number in start)
        while True:
            key = (seed, epoch, batch_plan.problem_key(problem))
            plan = batch_plan.training_plan(reader.index, rows, limits, key, orders)
            for place in range(done, len(plan)):
                last = place + 1 == len(plan)
                position = (epoch + 1, 0) if last else (epoch, place + 1)
                batch = read_batch(reader, plan[place], limits)
                yield np.array(position, np.int64), *batch
            epoch, done = epoch + 1, 0

    signature = (
        tf.TensorSpec([2], tf.int64),
        tf.TensorSpec([None], tf.string),
        tf.TensorSpec([None], tf.int32),
    )
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    return _finish(
        dataset.map(
            lambda position, records, shared: (
                position,
                training_batch(problem, records, shared, limits),
            ),
            num_parallel_calls=_PARALLEL_CALLS,
        )
    )


def read_batch(
    reader: SplitReader, rows: np.ndarray, limits: BatchLimits
) -> tuple[np.ndarray, np.ndarray]:
    """Reads a batch of a plan.

    Returns:
      (records [N], the row of the batch that each goes into, int32 [N]); all in an
      order that `training_batch` takes. Only packed rows are shared.
    """
    shared = np.arange(len(rows), dtype=np.int32)
    if limits.pack_length:
        lengths = reader.index[rows, batch_plan.LENGTHS :].tolist()
        shared = np.array(shared_rows(lengths, limits), np.int32)
        order = np.argsort(shared, kind="stable")
        rows, shared = rows[order], shared[order]
    return reader.read(rows), shared


def training_batch(
    problem: Problem,
    records: tf.Tensor,
    rows: tf.Tensor,
    limits: BatchLimits,
) -> dict[str, tf.Tensor]:
    """Makes a batch of what `read_batch` gave; runs eagerly and inside tf.data."""
    batch = parse_batch(problem, records)
    return packed_batch(batch, rows) if limits.pack_length else batch


def evaluation_batches(
    problem: Problem,
    split: str,
    data_dir: str,
    hparams: HParams,
    *,
    limit: int | None = None,
) -> tf.data.Dataset:
    """Gives every example of a split once, in batches, in an order that never changes.

    Args:
      problem, split: whose data.
      data_dir: where mm-datagen put it.
      hparams: batch sizes; nothing is left out, however long.
      limit: only this many examples, always the same ones.

    Returns:
      Dataset of batches.

    Raises:
      FileNotFoundError, ValueError: if there is no data, it does not fit, or has no
        such split.
    """
    reader = SplitReader(problem, split, data_dir)
    limits = batch_plan.batch_limits(problem, hparams)
    plan = batch_plan.evaluation_plan(reader.index, limits, limit)

    def generate() -> Iterator[np.ndarray]:
        allocation.keep_on()
        for rows in plan:
            yield reader.read(rows)

    signature = tf.TensorSpec([None], tf.string)
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    return _finish(
        dataset.map(
            functools.partial(parse_batch, problem),
            num_parallel_calls=_PARALLEL_CALLS,
        ).apply(tf.data.experimental.assert_cardinality(len(plan)))
    )


def _finish(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # Autotuning runs a thread per iterator that looks up once in up to a minute;
    # dropping the iterator waits for it, so that a finished run would hang.
    options.autotune.enabled = False
    return dataset.prefetch(_PREFETCHED_BATCHES).with_options(options)


def batch_signature(problem: Problem) -> dict[str, tf.TensorSpec]:
    """Gives shape and dtype of each part of a batch, None where they vary."""
    signature = {}
    for name, feature in problem.features.items():
        shape: list[int | None] = [None, None]
        if feature.modality == IMAGE:
            shape = [None, feature.height, feature.width]
            values = tf.TensorSpec([*shape, feature.channels], tf.float32, name)
        elif feature.modality == AUDIO:
            values = tf.TensorSpec(shape, tf.float32, name)
        elif feature.modality == TEXT:
            values = tf.TensorSpec(shape, tf.int32, name)
        else:
            shape = [None, 1]
            values = tf.TensorSpec(shape, tf.int32, name)
        signature[name] = values
        signature[f"{name}_mask"] = tf.TensorSpec(shape, tf.bool, f"{name}_mask")
    return signature


def training_signature(problem: Problem, hparams: HParams) -> dict[str, tf.TensorSpec]:
    """Gives shape and dtype of each part of a batch of training."""
    packed = packed_signature() if batch_plan.is_packed(problem, hparams) else {}
    return batch_signature(problem) | packed


def parse_batch(problem: Problem, records: tf.Tensor) -> dict[str, tf.Tensor]:
    """Makes a batch of serialized examples; runs eagerly and inside tf.data.

    Args:
      problem: whose examples.
      records: string [B].

    Returns:
      The batch, as the module says.
    """
    spec: dict = {}
    for name, feature in problem.features.items():
        if feature.modality == TEXT:
            spec[name] = tf.io.RaggedFeature(tf.int64)
        elif feature.modality in (IMAGE, AUDIO):
            spec[name] = tf.io.FixedLenFeature([], tf.string)
        else:
            spec[name] = tf.io.FixedLenFeature([1], tf.int64)
        if feature.modality == AUDIO:
            spec[f"{name}/length"] = tf.io.FixedLenFeature([], tf.int64)
    parsed = tf.io.parse_example(records, spec)
    batch = {}
    for name, feature in problem.features.items():
        if feature.modality == TEXT:
            values, mask = _text(parsed[name])
        elif feature.modality == IMAGE:
            values, mask = _images(parsed[name], feature)
        elif feature.modality == AUDIO:
            values, mask = _audio(parsed[name], parsed[f"{name}/length"])
        else:
            values = tf.cast(parsed[name], tf.int32)
            mask = tf.ones_like(values, tf.bool)
        batch[name], batch[f"{name}_mask"] = values, mask
    return batch


def _text(ids: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
    values = tf.cast(ids.to_tensor(), tf.int32)  # [B, L]
    return values, tf.sequence_mask(ids.row_lengths(), tf.shape(values)[1])


def decode_image(content: tf.Tensor, feature: Feature) -> tf.Tensor:
    """Decodes one picture file and resizes it to the feature's size.

    Args:
      content: string, a PNG or JPEG file.
      feature: the image feature.

    Returns:
      float32 [H, W, C] in 0..1.
    """
    # The op reads PNG, too. Decoded as Pillow does, so that pictures are the same ones
    # in training, in `raw_inputs` and in an exported graph.
    channels = max(feature.channels, 3)
    pixels = tf.io.decode_jpeg(content, channels, dct_method="INTEGER_ACCURATE")
    return resized(grey(pixels) if feature.channels == 1 else pixels, feature)


def grey(pixels: tf.Tensor) -> tf.Tensor:
    """Gives uint8 [H, W, 1] for colours, uint8 [H, W, 3].

    Source: Pillow, Convert.c: ITU-R 601-2 luma in 16 bits.
    """
    red, green, blue = tf.split(tf.cast(pixels, tf.int32), 3, -1)
    luma = red * 19595 + green * 38470 + blue * 7471 + 2**15
    return tf.cast(tf.bitwise.right_shift(luma, 16), tf.uint8)


def resized(pixels: tf.Tensor, feature: Feature) -> tf.Tensor:
    """Gives float32 [H, W, C] in 0..1 at the feature's size, for uint8 of any size."""
    size = [feature.height, feature.width]
    pixels = tf.image.resize(pixels, size, antialias=True)
    pixels = tf.ensure_shape(pixels, [*size, feature.channels])
    # Multiplied, not divided: graphs do so anyway, and eager must give the same.
    return tf.clip_by_value(pixels * (1 / 255), 0.0, 1.0)


def _images(contents: tf.Tensor, feature: Feature) -> tuple[tf.Tensor, tf.Tensor]:
    decode = functools.partial(decode_image, feature=feature)
    pixels = tf.map_fn(decode, contents, fn_output_signature=tf.float32)
    return pixels, tf.ones(tf.shape(pixels)[:3], tf.bool)  # [B, H, W, C], [B, H, W]


def _audio(contents: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes WAV files of `lengths` samples and pads them to the longest."""
    longest = tf.reduce_max(lengths)
    # Where the samples follow the shortest header, as in files that mm-datagen made
    # itself, they are cut out of all files at once, which is several times faster.
    names = tf.strings.substr(contents, _WAV_HEADER_BYTES - 8, 4)
    samples = tf.cond(
        tf.reduce_all(tf.equal(names, "data")),
        lambda: _samples_at_once(contents, lengths),
        lambda: _samples_one_by_one(contents, longest),
    )  # [B, T]
    return samples, tf.sequence_mask(lengths, longest)


def _samples_at_once(contents: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Gives float32 [B, T] of WAV files with a header of `_WAV_HEADER_BYTES`."""
    sizes = tf.cast(2 * lengths, tf.int32)
    starts = tf.fill(tf.shape(sizes), _WAV_HEADER_BYTES)
    pcm = tf.strings.substr(contents, starts, sizes)
    pcm = tf.io.decode_raw(pcm, tf.int16, fixed_length=tf.reduce_max(sizes))
    return tf.cast(pcm, tf.float32) / 32768


def _samples_one_by_one(contents: tf.Tensor, longest: tf.Tensor) -> tf.Tensor:
    """Gives float32 [B, T] of WAV files with any header."""

    def decode(content: tf.Tensor) -> tf.Tensor:
        samples = tf.audio.decode_wav(content, desired_channels=1).audio[:, 0]  # [T]
        return tf.pad(samples, [[0, longest - tf.shape(samples, tf.int64)[0]]])

    signature = tf.TensorSpec([None], tf.float32)
    return tf.map_fn(decode, contents, fn_output_signature=signature)


def count_dropped(problem: Problem, data_dir: str, hparams: HParams) -> int:
    """Gives how many training examples are left out because they are over-long."""
    index = SplitReader(problem, "train", data_dir).index
    limits = batch_plan.batch_limits(problem, hparams)
    return len(index) - len(batch_plan.kept_rows(index, limits))


def _rows_to_train(problem: Problem, index: np.ndarray, hparams: HParams) -> np.ndarray:
    """Gives the rows of the training split that are not over-long; at least one."""
    rows = batch_plan.kept_rows(index, batch_plan.batch_limits(problem, hparams))
    if not len(rows):
        raise ValueError(
            f"Every training example of problem '{problem.name}' is longer than "
            f"max_length={hparams.max_length} tokens or max_seconds="
            f"{hparams.max_seconds}; shorter ones were expected. Raise them."
        )
    return rows


def describe_batches(problem: Problem, data_dir: str, hparams: HParams) -> str:
    """Gives a line for the trainer's log: batches an epoch, their size, padding.

    Raises:
      ValueError: if every example is over-long.
    """
    index = SplitReader(problem, "train", data_dir).index
    limits = batch_plan.batch_limits(problem, hparams)
    rows = _rows_to_train(problem, index, hparams)
    plan = batch_plan.training_plan(index, rows, limits, (0, 0))
    if problem.inputs.modality == TEXT:
        size = f"at most {hparams.batch_tokens} tokens"
    elif problem.inputs.modality == AUDIO:
        size = f"at most {hparams.batch_seconds:g} seconds"
    else:
        size = f"{hparams.batch_examples} examples"
    dropped = len(index) - len(rows)
    padding = batch_plan.epoch_padding(index, plan, limits)
    return (
        f"{len(rows):,} examples in {len(plan):,} batches of {size}, padding "
        f"{padding.inputs:.1%} of inputs and {padding.targets:.1%} of targets"
        + (f", packed in rows of {limits.pack_length}" if limits.pack_length else "")
        + (f", {dropped:,} over-long examples left out" if dropped else "")
    )
