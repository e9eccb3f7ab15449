"""Where a row of sorted examples is cut into batches, and what padding that costs.

Called by `batch_plan`, which sorts; numpy over lengths, int [N, columns], column 0 of
inputs and 1 of targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Cuts are looked for at every so manieth part of a batch: a million examples are cut in
# about a second, into 2 % more batches than by exact cuts, which would take ten times
# as long; half as many parts would make 5 % more.
_PIECES = 32


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

    def hold(self, numbers: np.ndarray, longest: np.ndarray) -> np.ndarray:
        """Tells of batches whether they fit: bool [K]; one example always does.

        Args:
          numbers: of their examples, int [K].
          longest: int [K, columns].
        """
        fit = np.ones(len(numbers), bool)
        for column, budget in self.budgets.items():
            fit &= numbers * longest[:, column] <= budget
        if self.max_examples:
            fit &= numbers <= self.max_examples
        return fit | (numbers == 1)

    def shares(self, lengths: np.ndarray) -> np.ndarray:
        """Gives which share of a batch each example takes up: float [N]."""
        least = 1 / self.max_examples if self.max_examples else 0.0
        shares = np.full(len(lengths), least)
        for column, budget in self.budgets.items():
            shares = np.maximum(shares, lengths[:, column] / budget)
        return shares


class Padding(NamedTuple):
    """Which share of the positions of batches is padding.

    Args:
      inputs, targets: of the positions of each.
      together: of the positions of both; a sound has its samples, a picture one.
    """

    inputs: float
    targets: float
    together: float

    @property
    def worst(self) -> float:
        """The larger share of the two features."""
        return max(self.inputs, self.targets)


def padding_of(lengths: np.ndarray, starts: np.ndarray) -> Padding:
    """Gives the padding of batches.

    Args:
      lengths: int [N, 2], those of a batch next to each other.
      starts: int [K], where each batch begins, the first at 0.
    """
    if not len(lengths):
        return Padding(0.0, 0.0, 0.0)
    numbers = np.diff(starts, append=len(lengths))
    padded = numbers @ np.maximum.reduceat(lengths, starts)
    real = lengths.sum(axis=0)
    inputs, targets = (1 - real / padded).tolist()
    return Padding(inputs, targets, float(1 - real.sum() / padded.sum()))


def cut(lengths: np.ndarray, limits: BatchLimits, price: float) -> np.ndarray:
    """Cuts sorted examples into batches within the limits, with the least padding.

    Filling each batch before the next begins is not it: a batch that has begun with
    short examples would be filled with long ones. Minimised over all cuts is

      sum over batches, columns of padded / real positions of all + price * batches

    where a price of 1 is that of a full batch's positions: dear batches are full
    ones, cheap ones have less padding.

    Args:
      lengths: int [N, columns] of examples, neighbours alike.
      limits: of a batch.
      price: of a batch, positive.

    Returns:
      Where each batch begins, int [K].
    """
    if not len(lengths):
        return np.zeros(0, np.int64)
    if not np.ptp(lengths, axis=0).any():
        return np.arange(0, len(lengths), limits.size_for(lengths[0].tolist()))
    starts = _pieces(lengths, limits)
    longest = np.maximum.reduceat(lengths, starts)
    numbers = np.diff(starts, append=len(lengths))
    weights = 1 / np.maximum(1, lengths.sum(axis=0))
    each = price * lengths.shape[1] / max(1.0, limits.shares(lengths).sum())
    # Of batches of 1, 2, ... pieces: what they cost, by their last piece.
    costs = []
    of_batch, longest_of_batch = numbers, longest
    for more in range(len(starts)):
        if more:
            of_batch = of_batch[:-1] + numbers[more:]
            longest_of_batch = np.maximum(longest_of_batch[:-1], longest[more:])
        fit = limits.hold(of_batch, longest_of_batch)
        if more and not fit.any():
            break
        cost = of_batch * (longest_of_batch @ weights) + each
        costs.append(np.full(len(starts), np.inf))
        costs[-1][more:] = np.where(fit, cost, np.inf)
    return starts[_cheapest(np.stack(costs[::-1], axis=1))]


def _pieces(lengths: np.ndarray, limits: BatchLimits) -> np.ndarray:
    """Gives where pieces begin that cuts do not part; each fits in a batch."""
    shares = limits.shares(lengths)
    before = np.cumsum(shares) - shares
    # What is a whole number but for rounding is one.
    starts = np.flatnonzero(np.diff(np.floor(before * _PIECES + 1e-6), prepend=-1))
    while True:
        numbers = np.diff(starts, append=len(lengths))
        fit = limits.hold(numbers, np.maximum.reduceat(lengths, starts))
        if fit.all():
            return starts
        starts = np.sort(np.append(starts, (starts + numbers // 2)[~fit]))


def _cheapest(costs: np.ndarray) -> np.ndarray:
    """Gives with which pieces batches begin so that they cost least.

    Args:
      costs: float [pieces, most]; in row p, that of the batches that end with piece p,
        the last column of p alone, the one before of p and the piece before.
    """
    number, most = costs.shape
    # least[most - 1 + p] is that of the first p pieces; none are before the first.
    least = np.full(most + number, np.inf)
    least[most - 1] = 0.0
    begins = np.empty(number, np.int64)
    for piece, row in enumerate(costs):
        sums = least[piece : piece + most] + row
        best = int(sums.argmin())
        least[most + piece] = sums[best]
        begins[piece] = piece + 1 - most + best
    found = []
    end = number
    while end:
        end = int(begins[end - 1])
        found.append(end)
    return np.array(found[::-1])


def cut_packed(lengths: np.ndarray, limits: BatchLimits) -> np.ndarray:
    """Cuts examples into batches of as many as fit in the packed rows of one: int [K].

    Args:
      lengths: int [N, columns].
      limits: of a batch; `pack_length` is set.
    """
    starts = []
    begin = 0
    pairs = lengths.tolist()
    while begin < len(pairs):
        starts.append(begin)
        begin += len(shared_rows(pairs[begin:], limits))
    return np.array(starts, np.int64)


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
