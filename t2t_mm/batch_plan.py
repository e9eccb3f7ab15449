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

from t2t_mm.configuration import HParams
from t2t_mm.problem import AUDIO, TEXT, Feature, Problem
from t2t_mm.records import LENGTHS

# Examples are sorted by length inside windows of about this many batches: large enough
# for little padding, small enough that batches differ from epoch to epoch.
_WINDOW_BATCHES = 100
# Of the column that leads, lengths that differ by less than such a ratio count as
# equal, so that the other can be sorted; the data's lengths decide which ratio.
_BUCKET_RATIOS = (1.25, 1.1, 1.4, 1.6)
# Where only one column has lengths: sorted as good as exactly.
_ALONE_RATIO = 1.01
# What they are tried on: enough to see a difference of a percent, a tenth of a second.
_TRIAL_EXAMPLES = 8192
# Lengths are stretched at random by up to this before sorting, for variety.
_JITTER = 0.1


@dataclass(frozen=True)
class LengthOrder:
    """How examples are sorted, so that those of like length come together.

    Args:
      ratio: of the boundaries between buckets of the column that leads.
      leads: that column, 0 inputs or 1 targets.
    """

    ratio: float = _BUCKET_RATIOS[0]
    leads: int = 0

    def sort(self, lengths: np.ndarray) -> np.ndarray:
        """Gives an order in which neighbours have like lengths in every column.

        By the leading column in coarse steps, then by the others, up and down in turn,
        so that they do not jump where a step of the first begins; then by it.

        Args:
          lengths: float [N, columns].
        """
        coarse = np.floor(np.log(lengths[:, self.leads]) / np.log(self.ratio))
        sign = np.where(coarse % 2 == 0, 1, -1)
        others = [one for one in range(lengths.shape[1]) if one != self.leads]
        fine = [sign * lengths[:, column] for column in others]
        return np.lexsort([lengths[:, self.leads], *reversed(fine), coarse])


@dataclass(frozen=True)
class BatchLimits:
    """How large a batch may be, and how long an example.

    Args:
      budgets: by column of lengths (0 inputs, 1 targets), the most padded positions
        that a batch may have.
      max_examples: the most examples, or 0 for no such limit.
      longest: by column, the longest that is kept in training.
      pack_length: where several texts share a row: its most positions, in each column;
        0 where each has a row of its own.
    """

    budgets: dict[int, int]
    max_examples: int
    longest: dict[int, int]
    pack_length: int = 0

    @property
    def num_packed_rows(self) -> int:
        """The most rows of a packed batch."""
        return max(1, min(self.budgets.values()) // self.pack_length)

    def size_for(self, lengths: Sequence[int]) -> int:
        """Gives how many examples fit whose longest have these lengths; at least 1."""
        sizes = [self.budgets[column] // lengths[column] for column in self.budgets]
        if self.max_examples:
            sizes.append(self.max_examples)
        return max(1, min(sizes))


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
    order: LengthOrder | None = None,
) -> list[np.ndarray]:
    """Plans an epoch: every kept example in exactly one batch.

    Args:
      index: of the split, as records writes it.
      rows: int64 [N], the rows of the index to use.
      limits: of a batch.
      key: non-negative numbers that decide the order: seed, epoch, problem.
      order: what `least_padding` gave; asked for here if it is not given.

    Returns:
      For each batch the rows of its examples.
    """
    order = order or least_padding(index, rows, limits)
    generator = np.random.default_rng(list(key))
    rows = generator.permutation(rows)
    lengths = index[rows, LENGTHS:]
    window = _window(lengths, limits)
    plan: list[np.ndarray] = []
    for begin in range(0, len(rows), window):
        part = slice(begin, begin + window)
        jitter = 1 + _JITTER * generator.random(lengths[part].shape)
        places = order.sort(lengths[part] * jitter)
        batches = _cut(rows[part][places], lengths[part][places], limits)
        plan += [batches[place] for place in generator.permutation(len(batches))]
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
    return _cut(places, lengths[places], limits)


def least_padding(
    index: np.ndarray, rows: np.ndarray, limits: BatchLimits
) -> LengthOrder:
    """Gives the order whose batches have the least padding on the data's lengths.

    A pure function of its arguments: a run that is resumed finds the same.
    """
    generator = np.random.default_rng(len(rows))
    lengths = index[generator.permutation(rows), LENGTHS:]
    lengths = lengths[: min(_TRIAL_EXAMPLES, _window(lengths, limits))]
    leaders = [one for one in range(lengths.shape[1]) if np.ptp(lengths[:, one])]
    candidates = [
        LengthOrder(ratio, leads)
        for leads in leaders
        for ratio in (_BUCKET_RATIOS if len(leaders) > 1 else (_ALONE_RATIO,))
    ]
    if len(candidates) < 2:
        return candidates[0] if candidates else LengthOrder()
    numbers = np.arange(len(lengths))
    stretched = lengths * (1 + _JITTER * generator.random(lengths.shape))
    shares = []
    for order in candidates:
        places = order.sort(stretched)
        plan = _cut(numbers, lengths[places], limits)
        shares.append(_padding(lengths[places], plan))
    return candidates[int(np.argmin(shares))]


def _window(lengths: np.ndarray, limits: BatchLimits) -> int:
    """Gives how many examples are sorted at once."""
    mean = np.maximum(1, lengths.mean(axis=0)).astype(np.int64)
    return _WINDOW_BATCHES * limits.size_for(mean)


def _cut(
    rows: np.ndarray, lengths: np.ndarray, limits: BatchLimits
) -> list[np.ndarray]:
    """Cuts rows into batches, each as large as the limits allow."""
    if limits.pack_length:
        return _cut_packed(rows, lengths, limits)
    batches = []
    begin = 0
    longest: list[int] = []
    for place, row_lengths in enumerate(lengths.tolist()):
        grown = list(map(max, longest, row_lengths)) if longest else row_lengths
        if place > begin and place - begin + 1 > limits.size_for(grown):
            batches.append(rows[begin:place])
            begin, grown = place, row_lengths
        longest = grown
    if begin < len(rows):
        batches.append(rows[begin:])
    return batches


def _cut_packed(
    rows: np.ndarray, lengths: np.ndarray, limits: BatchLimits
) -> list[np.ndarray]:
    """Cuts rows into batches of as many examples as fit in the packed rows of one."""
    batches = []
    begin = 0
    pairs = lengths.tolist()
    while begin < len(rows):
        end = begin + len(shared_rows(pairs[begin:], limits))
        batches.append(rows[begin:end])
        begin = end
    return batches


def shared_rows(lengths: Sequence[Sequence[int]], limits: BatchLimits) -> list[int]:
    """Gives each example the first packed row that has room for it (first fit).

    Args:
      lengths: inputs and targets of each example, in the order of the plan.
      limits: of a batch.

    Returns:
      The number of the row of each, up to the first that fits in none.
    """
    inputs = [0] * limits.num_packed_rows
    targets = list(inputs)
    longest = limits.pack_length
    found = []
    for first, second in lengths:
        for row, used in enumerate(inputs):
            if used + first <= longest and targets[row] + second <= longest:
                break
        else:
            break
        inputs[row] += first
        targets[row] += second
        found.append(row)
    return found


def problem_key(problem: Problem) -> int:
    """Gives a number for a problem's name, the same everywhere."""
    return zlib.crc32(problem.name.encode())


def padding_share(
    index: np.ndarray, plan: list[np.ndarray], limits: BatchLimits | None = None
) -> float:
    """Gives the share of padded positions in a plan's batches, over all features.

    Args:
      index: of the split.
      plan: of an epoch.
      limits: that it was made with; needed where rows are packed.
    """
    lengths = index[:, LENGTHS:]
    if limits is None or not limits.pack_length:
        return _padding(lengths, plan)
    rows_of_all = []
    for rows in plan:
        numbers = shared_rows(lengths[rows].tolist(), limits)
        sums = np.zeros((max(numbers) + 1, lengths.shape[1]), np.int64)
        np.add.at(sums, numbers, lengths[rows])
        rows_of_all.append(sums)
    ends = np.cumsum([len(sums) for sums in rows_of_all])
    places = np.split(np.arange(ends[-1]), ends[:-1])
    return _padding(np.concatenate(rows_of_all), places)


def _padding(lengths: np.ndarray, plan: list[np.ndarray]) -> float:
    real = padded = 0.0
    for rows in plan:
        mine = lengths[rows]
        scale = 1 / np.maximum(1, mine.max(axis=0))
        real += float((mine * scale).sum())
        padded += len(rows) * mine.shape[1]
    return 1 - real / padded if padded else 0.0
