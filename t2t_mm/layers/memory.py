"""What a decoder remembers of the positions before: one buffer per kind of layer.

Layers that look back (`ConvStep`, `MultiHeadAttention`) join a `DecoderMemory` once,
before the loop; in it, each position's `Moment` gives them what they saw and takes what
they see. Shapes: R = B * N rows, N of them (beams) for each of B inputs; T the longest
answer.

Convolutions: the taps of all layers but the last one look at the past alone, so all of
them are gathered and summed at once, before the first layer runs. A ring per layer
holds just the (k - 1) * dilation positions that it can reach; zeros stand for the left
padding. Attention: keys and values in [B, H, t, N, K]; a row asks those of all N beams
of its input at once and a mask hides what is not its own past. When beams change
places, only a small table of origins does, never the buffers. They grow by a few
positions at once, to t of them, so that a short answer costs little however long it
might have become; XLA, which needs fixed shapes, gets all T from the start.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from t2t_mm.layers.timing import timing_signal

HIDDEN = -1e9
# Positions by which attention's buffers grow: to copy them each time cost a beam search
# a twentieth of its time; but empty ones are asked, too.
GROWTH = 16
State = dict[str, tf.Tensor]


class _Convolution(NamedTuple):
    """Taps [k - 1, D] of a convolution that look back, the nearest first."""

    taps: tf.Tensor
    dilation: int

    @property
    def reach(self) -> int:
        return int(self.taps.shape[0])

    @property
    def period(self) -> int:
        return self.reach * self.dilation


class DecoderMemory:
    """Holds what the layers of one decoder saw, for rows that may change places.

    Args:
      num_inputs: B, a scalar tensor or int.
      num_beams: N.
      max_length: T, a scalar tensor; an int where shapes are to be fixed.
      size: D.
      dtype: of what is kept.
    """

    def __init__(
        self,
        *,
        num_inputs: tf.Tensor | int,
        num_beams: int,
        max_length: tf.Tensor | int,
        size: int,
        dtype: str,
    ):
        self.num_inputs = num_inputs
        self.num_beams = num_beams
        self.max_length = max_length
        self.has_fixed_shapes = isinstance(max_length, int)
        # Rings are written to where they lie instead of copied at every position; not
        # by XLA, which sees to that itself, nor where a GPU might lack the operation.
        self.is_in_place = not self.has_fixed_shapes and dtype == "float32"
        self.size = size
        self.dtype = dtype
        self.num_rows = num_inputs * num_beams
        self.timing = tf.cast(timing_signal(max_length, size), dtype)  # [T, D]
        self.attention_heads: list[int] = []
        self._convolutions: list[_Convolution] = []

    def add_convolution(self, kernel: tf.Tensor, dilation: int) -> int:
        """Joins a causal depthwise convolution of kernel [k, D]; gives its number.

        The last tap, on the position itself, is the layer's own affair.
        """
        taps = tf.cast(tf.reverse(kernel[:-1], [0]), self.dtype)  # [k - 1, D]
        self._convolutions.append(_Convolution(taps, dilation))
        return len(self._convolutions) - 1

    def add_attention(self, num_heads: int) -> int:
        """Joins a self-attention; gives its number."""
        self.attention_heads.append(num_heads)
        return len(self.attention_heads) - 1

    def first_state(self) -> State:
        """Gives the empty memory; call it when all layers have joined."""
        self._plan_rings()
        state: State = {}
        length = self.max_length
        if not self.has_fixed_shapes:
            # None at first; no constant, or the loop would hold it to that length.
            length = tf.compat.v1.placeholder_with_default(0, [])
        if self._convolutions:
            shape = [self._ring_rows, self.num_rows, self.size]
            # A tensor of its own, not a constant that others share: see `is_in_place`.
            state["convolutions"] = (
                tf.raw_ops.Empty(shape=shape, dtype=self.dtype, init=True)
                if self.is_in_place
                else tf.zeros(shape, self.dtype)
            )
        self.places = [self._places_of(heads) for heads in self.attention_heads]
        for number, heads in enumerate(self.attention_heads):
            depth = self.num_beams * self.size // heads  # N * K
            shape = [2 * self.num_inputs * heads, length, depth]
            state[f"attention{number}"] = tf.zeros(shape, self.dtype)
        if self.num_beams > 1:
            state["origins"] = tf.zeros([length, self.num_rows], tf.int32)
        return state

    def grown(self, state: State, position: tf.Tensor) -> State:
        """Gives the state with room for a position in attention's buffers."""
        names = [f"attention{number}" for number in range(len(self.attention_heads))]
        if self.has_fixed_shapes or not names:
            return dict(state)

        def with_more():
            return [
                tf.pad(state[name], [[0, 0], [0, GROWTH], [0, 0]]) for name in names
            ]

        buffers = tf.cond(
            position % GROWTH == 0, with_more, lambda: [state[name] for name in names]
        )
        return state | dict(zip(names, buffers, strict=True))

    def written(self, x: tf.Tensor, rows: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Gives x with values at rows of its first axis; x itself is gone.

        What reads x as it was has to have run before: see `is_in_place`.
        """
        if self.is_in_place:
            return tf.raw_ops.InplaceUpdate(x=x, i=rows, v=values)
        return tf.tensor_scatter_nd_update(x, rows[:, None], values)

    def _places_of(self, heads: int) -> tf.Tensor:
        """Gives where each head's keys and values lie in [B, N, 2, H], as [2, B, H, N].

        Gathering by it is much faster than a transposition of five axes.
        """
        shape = [self.num_inputs, self.num_beams, 2, heads]
        places = tf.reshape(tf.range(2 * heads * self.num_rows), shape)
        return tf.reshape(tf.transpose(places, [2, 0, 3, 1]), [-1])

    def with_latest(
        self, buffer: tf.Tensor, latest: tf.Tensor, position: tf.Tensor
    ) -> tf.Tensor:
        """Gives a buffer [..., t, C] with what belongs to a position, [..., 1, C]."""
        if not self.has_fixed_shapes:
            return tf.concat([buffer, latest], -2)
        is_now = tf.range(self.max_length)[:, None] == position  # [T, 1]
        return tf.where(is_now, latest, buffer)

    def _plan_rings(self) -> None:
        """Lays the rings behind each other; taps of equally long kernels are one."""
        by_count: dict[int, list[int]] = {}
        for number, convolution in enumerate(self._convolutions):
            by_count.setdefault(convolution.reach, []).append(number)
        offsets, first = {}, 0
        for number, convolution in enumerate(self._convolutions):
            offsets[number] = first
            first += convolution.period
        self._ring_rows = first
        order = [number for numbers in by_count.values() for number in numbers]
        self.groups = [(count, numbers) for count, numbers in by_count.items()]
        ordered = [self._convolutions[number] for number in order]

        def per_tap(values: Sequence[int]) -> np.ndarray:
            counts = [convolution.reach for convolution in ordered]
            return np.repeat(np.array(values, np.int32), counts)

        steps = [np.arange(1, c.reach + 1, dtype=np.int32) for c in ordered]
        empty = [np.zeros(0, np.int32)]
        self.tap_reach = np.concatenate(steps + empty) * per_tap(
            [c.dilation for c in ordered]
        )
        self.tap_period = per_tap([c.period for c in ordered])
        self.tap_offset = per_tap([offsets[number] for number in order])
        self.ring_offset = np.array([offsets[n] for n in sorted(offsets)], np.int32)
        self.ring_period = np.array([c.period for c in self._convolutions], np.int32)
        if ordered:
            self.tap_weights = tf.concat([c.taps for c in ordered], 0)[:, None]

    def at(self, state: State, position: tf.Tensor) -> "Moment":
        """Gives what the layers need at a position, an int32 scalar from 0 on."""
        return Moment(self, state, position)

    def reordered(self, state: State, parents: tf.Tensor) -> State:
        """Gives the memory in which row r is what row parents[r] was.

        Args:
          state: after the step.
          parents: int32 [R]; a row descends from a row of its own input.
        """
        if "origins" not in state:
            return state
        return state | {"origins": tf.gather(state["origins"], parents, axis=1)}


class Moment:
    """One position of a decoder: what was before it, and what comes to be kept.

    Args:
      memory: of the decoder.
      state: its tensors, after the position before.
      position: int32 scalar.
    """

    def __init__(self, memory: DecoderMemory, state: State, position: tf.Tensor):
        self.memory = memory
        self.position = position
        self._state = memory.grown(state, position)
        self._seen: dict[int, tf.Tensor] = {}
        if memory.num_beams > 1:
            self._state["origins"] = memory.with_latest(
                state["origins"], tf.range(memory.num_rows)[None], position
            )
        self._past = self._recalled()
        self.visible = self._visible()
        self.timing = tf.gather(memory.timing, position)  # [D]

    def past(self, number: int) -> tf.Tensor:
        """Gives [R, D]: the sum of a convolution's taps over what it saw before."""
        return self._past[number]

    def remember(self, number: int, seen: tf.Tensor) -> None:
        """Keeps what a convolution sees now, [R, D]."""
        self._seen[number] = seen

    def _recalled(self) -> dict[int, tf.Tensor]:
        memory = self.memory
        if "convolutions" not in self._state:
            return {}
        ring = self._state["convolutions"]  # [rows of rings, R, D]
        times = self.position - memory.tap_reach  # [taps]
        rows = memory.tap_offset + tf.math.floormod(times, memory.tap_period)
        if memory.num_beams > 1:
            origins = tf.gather(self._state["origins"], tf.maximum(times, 0))
            rows = rows[:, None] * memory.num_rows + origins  # [taps, R]
            ring = tf.reshape(ring, [-1, memory.size])
        self._read = tf.gather(ring, rows)
        weighted = self._read * memory.tap_weights  # [taps, R, D]
        found: dict[int, tf.Tensor] = {}
        sizes = [count * len(numbers) for count, numbers in memory.groups]
        parts = tf.split(weighted, sizes) if len(sizes) > 1 else [weighted]
        for (count, numbers), part in zip(memory.groups, parts, strict=True):
            shape = [len(numbers), count, memory.num_rows, memory.size]
            sums = tf.unstack(tf.reduce_sum(tf.reshape(part, shape), 1), len(numbers))
            found.update(zip(numbers, sums, strict=True))
        return found

    def _visible(self) -> tf.Tensor | None:
        """Gives what attention adds to its scores: 0 for a row's own past, else -1e9.

        Float32 [t] for one beam, else [B, 1, N, t * N]; None without attention.
        """
        memory = self.memory
        if not memory.attention_heads:
            return None
        room = tf.shape(self._state["attention0"])[1]
        is_past = tf.range(room) <= self.position  # [t]
        if memory.num_beams == 1:
            return tf.where(is_past, 0.0, HIDDEN)
        beams, inputs = memory.num_beams, memory.num_inputs
        origins = self._state["origins"]
        origins = tf.pad(origins, [[0, room - tf.shape(origins)[0]], [0, 0]])
        origins = tf.reshape(origins, [-1, inputs, beams]) % beams
        origins = tf.transpose(origins, [1, 2, 0])  # [B, N, t]
        own = origins[..., None] == tf.range(beams)  # [B, N, t, N]
        own = tf.reshape(own & is_past[:, None], [inputs, 1, beams, -1])
        return tf.where(own, 0.0, HIDDEN)

    def keys_values(
        self, number: int, keys_values: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Keeps a self-attention's keys and values; gives all there are.

        Args:
          number: of the attention.
          keys_values: [R, 2D], of this position.

        Returns:
          Keys and values, [B, H, t * N, K] each.
        """
        memory = self.memory
        name = f"attention{number}"
        heads = memory.attention_heads[number]
        beams, inputs = memory.num_beams, memory.num_inputs
        head_size = memory.size // heads
        latest = tf.reshape(keys_values, [-1, head_size])  # [B * N * 2 * H, K]
        latest = tf.gather(latest, memory.places[number])  # [2 * B * H * N, K]
        buffer = self._state[name]
        if memory.has_fixed_shapes:
            latest = tf.reshape(latest, [-1, 1, beams * head_size])
            buffer = memory.with_latest(buffer, latest, self.position)
        else:
            # Nobody reads the buffer as it was: what asked it before led to `latest`.
            latest = tf.reshape(latest, [-1, beams * head_size])
            count, room = tf.unstack(tf.shape(buffer)[:2])
            flat = tf.reshape(buffer, [-1, beams * head_size])
            rows = tf.range(count) * room + self.position
            flat = memory.written(flat, rows, latest)
            buffer = tf.reshape(flat, [count, room, beams * head_size])
        self._state[name] = buffer
        shape = [2, inputs, heads, -1, head_size]
        keys, values = tf.unstack(tf.reshape(buffer, shape))
        return keys, values

    def next_state(self) -> State:
        """Gives the memory with this position in it."""
        if self._seen:
            memory = self.memory
            rows = memory.ring_offset + tf.math.floormod(
                self.position, memory.ring_period
            )
            seen = tf.stack([self._seen[n] for n in range(len(self._seen))])
            with tf.control_dependencies([self._read]):
                ring = memory.written(self._state["convolutions"], rows, seen)
            self._state["convolutions"] = ring
        return self._state
