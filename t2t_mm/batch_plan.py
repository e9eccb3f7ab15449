"""Which records make up which batch: numpy over the index, no records read.

Called by the input pipeline. An epoch's plan is a pure function of (seed, epoch): so
nothing but (epoch, batch) must be kept to go on where a killed run stood, shuffling is
over the whole split, and a batch holds examples of like length.
"""

import dataclasses
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from t2t_mm.batch_cuts import (
    BatchLimits,
    Padding,
    cut,
    cut_packed,
    padding_of,
    shared_rows,
)
from t2t_mm.configuration import HParams
from t2t_mm.problem import AUDIO, TEXT, Feature, Problem
from t2t_mm.records import LENGTHS

# Examples are sorted by length inside windows of at most about this many batches: large
# enough for little padding, small enough that batches differ from epoch to epoch.
_WINDOW_BATCHES = 100
# Of the column that leads, lengths that differ by less than such a ratio count as
# equal, so that the other can be sorted; the data's lengths decide which ratios.
_BUCKET_RATIOS = (1.05, 1.1, 1.2, 1.3, 1.4, 1.6)
# Where only one column has lengths: sorted as good as exactly.
_ALONE_RATIO = 1.01
# An order with this much more padding than the best is drawn like it, for variety.
_AS_GOOD = 0.02
# Lengths are stretched at random by up to this before sorting, for variety.
_JITTER = 0.07
# Of a batch, as `cut` takes it: so dear that there are no more batches than if each
# were filled, within 3 % on eight_small with 60 batches or more an epoch.
_PRICE = 0.5
# A window in which more is padding is sorted anew, so often at most, each time with
# less jitter and cheaper batches by this factor; the best counts. That happens where
# there are few: 16 % more than 20 batches have 13 % padding instead of 25 %.
_ENOUGH, _TRIALS, _STRICTER = 0.14, 10, 0.75


@dataclass(frozen=True)
class LengthOrder:
    """How examples are sorted, so that those of like length come together.

    Args:
      ratio: of the boundaries between buckets of the column that leads.
      leads: that column, 0 inputs or 1 targets.
      shift: of the boundaries, as a share of a bucket.
      is_turned: whether the other column is sorted downwards in the first bucket.
    """

    ratio: float
    leads: int = 0
    shift: float = 0.0
    is_turned: bool = False

    def sort(self, lengths: np.ndarray) -> np.ndarray:
        """Gives an order in which neighbours have like lengths in every column.

        By the leading column in coarse steps, then by the others, up and down in turn,
        so that they do not jump where a step of the first begins; then by it.

        Args:
          lengths: float [N, columns].
        """
        steps = np.log(lengths[:, self.leads]) / np.log(self.ratio)
        coarse = np.floor(steps + self.shift)
        sign = np.where((coarse + self.is_turned) % 2 == 0, 1, -1)
        others = [one for one in range(lengths.shape[1]) if one != self.leads]
        fine = [sign * lengths[:, column] for column in others]
        return np.lexsort([lengths[:, self.leads], *reversed(fine), coarse])


# Groups of orders of which one is drawn, first the group, then the order.
Orders = tuple[tuple[LengthOrder, ...], ...]
# Of evaluation, so that its batches never change.
_EVALUATION_ORDER = LengthOrder(1.15)


def batch_limits(problem: Problem, hparams: HParams) -> BatchLimits:
    """Gives the limits that hparams set for a problem.

    Text inputs: `batch_tokens` padded positions of inputs and as many of targets, or
    as many as fit in rows of `pack_length`, where text to text is packed; audio
    inputs: `batch_seconds`; inputs of a fixed size: `batch_examples`.
    """
    columns = list(problem.features.values())
    longest = {
        column: _longest(feature, hparams)
        for column, feature in enumerate(columns)
        if feature.modality in (TEXT, AUDIO)
    }
    if problem.inputs.modality == TEXT:
        budgets = {
            column: hparams.batch_tokens
            for column, feature in enumerate(columns)
            if feature.modality == TEXT
        }
        pack_length = hparams.pack_length if is_packed(problem, hparams) else 0
        return BatchLimits(budgets, 0, longest, pack_length)
    if problem.inputs.modality == AUDIO:
        samples = int(hparams.batch_seconds * problem.inputs.sample_rate)
        return BatchLimits({0: samples}, 0, longest)
    return BatchLimits({}, hparams.batch_examples, longest)


def is_packed(problem: Problem, hparams: HParams) -> bool:
    """Tells whether several examples of a problem share a row in training."""
    kinds = (problem.inputs.modality, problem.targets.modality)
    return bool(hparams.pack_length) and kinds == (TEXT, TEXT)


def _longest(feature: Feature, hparams: HParams) -> int:
    if feature.modality == AUDIO:
        return int(hparams.max_seconds * feature.sample_rate)
    return hparams.max_length


def kept_rows(index: np.ndarray, limits: BatchLimits) -> np.ndarray:
    """Gives the rows of an index whose examples are not over-long: int64 [N]."""
    keep = np.ones(len(index), bool)
    for column, longest in limits.longest.items():
        keep &= index[:, LENGTHS + column] <= longest
    return np.flatnonzero(keep)


def training_plan(
    index: np.ndarray,
    rows: np.ndarray,
    limits: BatchLimits,
    key: Sequence[int],
    orders: Orders | None = None,
) -> list[np.ndarray]:
    """Plans an epoch: every kept example in exactly one batch.

    Args:
      index: of the split, as records writes it.
      rows: int64 [N], the rows of the index to use.
      limits: of a batch.
      key: non-negative numbers that decide the order: seed, epoch, problem.
      orders: what `least_padding` gave; asked for here if they are not given.

    Returns:
      For each batch the rows of its examples.
    """
    orders = orders or least_padding(index, rows, limits)
    generator = np.random.default_rng(list(key))
    rows = generator.permutation(rows)
    plan: list[np.ndarray] = []
    for part in np.array_split(rows, _num_windows(index[rows, LENGTHS:], limits)):
        batches = _window_batches(index[part, LENGTHS:], limits, orders, generator)
        places = generator.permutation(len(batches))
        plan += [part[batches[place]] for place in places]
    return plan


def evaluation_plan(
    index: np.ndarray, limits: BatchLimits, num_examples: int | None
) -> list[np.ndarray]:
    """Plans one pass over the first examples, sorted by length; nothing is dropped.

    The records of a split are in random order, so the first ones are a fair sample.
    """
    # Each in a row of its own: what counts is each example's own answer.
    limits = dataclasses.replace(limits, pack_length=0)
    lengths = index[:num_examples, LENGTHS:]
    places = _EVALUATION_ORDER.sort(lengths.astype(float))
    return _split(places, cut(lengths[places], limits, _PRICE))


def least_padding(index: np.ndarray, rows: np.ndarray, limits: BatchLimits) -> Orders:
    """Gives the orders whose batches have the least padding on the data's lengths.

    Those of a leading column are together: drawn first is the column, since batches
    differ most from epoch to epoch where it does. A pure function of its arguments: a
    run that is resumed finds the same.
    """
    generator = np.random.default_rng(len(rows))
    lengths = index[generator.permutation(rows), LENGTHS:]
    lengths = lengths[:: _num_windows(lengths, limits)]
    leaders = [one for one in range(lengths.shape[1]) if np.ptp(lengths[:, one])]
    if len(leaders) < 2:
        return ((LengthOrder(_ALONE_RATIO, leaders[0] if leaders else 0),),)
    # How packed rows are filled hardly depends on the order.
    limits = dataclasses.replace(limits, pack_length=0)
    stretched = lengths * (1 + _JITTER * generator.random(lengths.shape))
    shares = {}
    for order in (LengthOrder(r, leads) for leads in leaders for r in _BUCKET_RATIOS):
        sorted_lengths = lengths[order.sort(stretched)]
        starts = cut(sorted_lengths, limits, _PRICE)
        shares[order] = padding_of(sorted_lengths, starts).worst
    most = min(shares.values()) + _AS_GOOD
    good = [order for order, share in shares.items() if share <= most]
    groups = (tuple(one for one in good if one.leads == leads) for leads in leaders)
    return tuple(group for group in groups if group)


def _num_windows(lengths: np.ndarray, limits: BatchLimits) -> int:
    """Gives in how many windows of like size examples are sorted."""
    if not len(lengths):
        return 1
    mean = np.maximum(1, lengths.mean(axis=0)).astype(np.int64)
    return -(-len(lengths) // (_WINDOW_BATCHES * limits.size_for(mean)))


def _window_batches(
    lengths: np.ndarray,
    limits: BatchLimits,
    orders: Orders,
    generator: np.random.Generator,
) -> list[np.ndarray]:
    """Sorts a window in an order that is drawn, and gives the places of each batch."""
    least, found = np.inf, []
    for trial in range(_TRIALS):
        stricter = _STRICTER**trial
        group = orders[generator.integers(len(orders))]
        order = dataclasses.replace(
            group[generator.integers(len(group))],
            shift=generator.random(),
            is_turned=bool(generator.integers(2)),
        )
        jitter = 1 + stricter * _JITTER * generator.random(lengths.shape)
        places = order.sort(lengths * jitter)
        if limits.pack_length:
            return _split(places, cut_packed(lengths[places], limits))
        starts = cut(lengths[places], limits, stricter * _PRICE)
        share = padding_of(lengths[places], starts).worst
        if share < least:
            least, found = share, _split(places, starts)
        if least < _ENOUGH:
            break
    return found


def _split(places: np.ndarray, starts: np.ndarray) -> list[np.ndarray]:
    return np.split(places, starts[1:]) if len(starts) else []


def problem_key(problem: Problem) -> int:
    """Gives a number for a problem's name, the same everywhere."""
    return zlib.crc32(problem.name.encode())


def epoch_padding(
    index: np.ndarray, plan: list[np.ndarray], limits: BatchLimits
) -> Padding:
    """Gives which share of the positions of a plan's batches is padding.

    Args:
      index: of the split.
      plan: of an epoch.
      limits: that it was made with.
    """
    parts = [index[rows, LENGTHS:] for rows in plan]
    if limits.pack_length:
        parts = [_row_lengths(part, limits) for part in parts]
    ends = np.cumsum([len(part) for part in parts])
    lengths = np.concatenate(parts) if parts else np.zeros((0, 2), np.int64)
    return padding_of(lengths, np.append(0, ends[:-1]))


def problem_padding(
    problem: Problem, index: np.ndarray, hparams: HParams, *, seed: int, epoch: int = 0
) -> Padding:
    """Gives which share of the positions is padding in an epoch of training.

    Args:
      problem, index: whose training split.
      hparams: batch sizes.
      seed: of the run.
      epoch: from 0 on.
    """
    limits = batch_limits(problem, hparams)
    rows = kept_rows(index, limits)
    plan = training_plan(index, rows, limits, (seed, epoch, problem_key(problem)))
    return epoch_padding(index, plan, limits)


def _row_lengths(lengths: np.ndarray, limits: BatchLimits) -> np.ndarray:
    """Gives how many positions of each row of a packed batch are real."""
    numbers = shared_rows(lengths.tolist(), limits)
    sums = np.zeros((max(numbers) + 1, lengths.shape[1]), np.int64)
    np.add.at(sums, numbers, lengths)
    return sums
