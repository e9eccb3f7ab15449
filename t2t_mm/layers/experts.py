"""Sparsely gated mixture of experts (MultiModel, section 2.3)."""

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from t2t_mm.devices import has_only_cpus
from t2t_mm.layers import dispatch, expert_networks, noise
from t2t_mm.layers.dropout import Dropout
from t2t_mm.layers.halves import halves
from t2t_mm.layers.normalization import LayerNorm
from t2t_mm.replicas import num_replicas, sum_over_replicas

NOISE_FLOOR = 1e-2  # Shazeer et al. 2017, appendix A: keeps the noise from dying out.
# On a CPU experts are asked in so many parts: enough for its threads to share, and few
# operations.
MAX_PARTS = 32
PIECE = 2**20  # bytes that a variable has at least where experts are cut into several


def squared_variation(x: tf.Tensor) -> tf.Tensor:
    """Gives CV^2 = variance / mean^2 of x [E]: 0 when all are equal."""
    mean = tf.reduce_mean(x)
    return tf.math.reduce_variance(x) / (tf.square(mean) + 1e-10)


class MixtureOfExperts(keras.layers.Layer):
    """Sends each position to its best few experts and adds their answers.

    y[b, l] = sum over the k chosen e of gate[b, l, e] * expert_e(x[b, l])
    gate = softmax over the top k of x W_g + N(0, 1) * (softplus(x W_n) + 0.01)

    Use it where one dense layer would have to serve many problems. Padding positions
    are routed nowhere and answer zero. Dispatch is exact, so that nothing is dropped,
    unless a capacity is given: then a training step has fixed shapes, as XLA needs
    them, and a choice that finds its expert full gets no answer. Both give the same
    numbers where nothing is dropped. Without training dispatch is exact always.

    Args:
      num_experts: how many experts (E).
      expert_size: hidden units of each expert.
      experts_per_position: how many answer at once (k), 1 <= k <= E.
      capacity_factor: how many times its fair share of the positions an expert has
        room for; None for exact dispatch.
      num_groups: parts that the experts are cut into; each lies on a device of its
        own, as far as there are devices. Positions travel, weights stay.

    Call arguments:
      x: float [B, L, D].
      mask: bool [B, L], true where there is a position.
      training: adds gate noise when true.

    Returns:
      (float [B, L, D], statistics): "balance_loss", the scalar CV^2(importance) +
      CV^2(load); "use", float32 [E], each expert's share of the gates; "unused",
      experts that no position chose; "dropped", the share of choices without a row.

    Raises:
      ValueError: if experts_per_position is outside 1..num_experts, num_groups does
        not divide num_experts, or there are groups and replicas at once.

    Source: Shazeer et al. 2017, sections 2 and 4, appendix A, arxiv.org/abs/1701.06538.
    Our E is their n. We differ: padding positions are never routed, and the statistics
    are returned instead of added with `add_loss`, since a step function needs them.
    """

    def __init__(
        self,
        *,
        num_experts: int,
        expert_size: int,
        experts_per_position: int,
        capacity_factor: float | None = None,
        num_groups: int = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not 1 <= experts_per_position <= num_experts:
            raise ValueError(
                f"experts_per_position is {experts_per_position} with {num_experts} "
                "experts; expected 1 to num_experts. Change one of the two."
            )
        if num_experts % num_groups:
            raise ValueError(
                f"expert_groups is {num_groups} with {num_experts} experts; expected a "
                "divisor of num_experts. Change one of the two."
            )
        if num_groups > 1 and num_replicas() > 1:
            raise ValueError(
                f"expert_groups is {num_groups} with {num_replicas()} replicas; "
                "expected 1 with replicas, which hold all experts each. Set "
                "expert_groups=1, or --strategy=one_device."
            )
        self.num_experts = num_experts
        self.expert_size = expert_size
        self.experts_per_position = experts_per_position
        self.capacity_factor = capacity_factor
        self.num_groups = num_groups
        self.noise = keras.random.SeedGenerator()

    def build(self, input_shape):
        """Makes gates [D, E], at zero, and experts [E, D, F], [E, F, D], in pieces."""
        depth, experts, size = input_shape[-1], self.num_experts, self.expert_size

        def weight(name, shape, initializer, **options):
            return self.add_weight(
                shape=shape, initializer=initializer, name=name, **options
            )

        uniform = keras.initializers.RandomUniform
        into, out = (3 / depth) ** 0.5, (3 / size) ** 0.5
        # Routing is float32's: rounded by autocast, close scores would change places.
        gates = (depth, experts)
        self.gate = weight("gate", gates, "zeros", autocast=False)
        self.gate_noise = weight("gate_noise", gates, "zeros", autocast=False)
        devices = group_devices(self.num_groups)
        pieces = num_pieces(experts // self.num_groups, 4 * depth * size)
        devices = [device for device in devices for _ in range(pieces)]
        count = experts // len(devices)
        self.groups = []
        for i, device in enumerate(devices):
            suffix = f"_{i}" if len(devices) > 1 else ""
            with tf.device(device):
                group = (
                    weight(
                        f"hidden{suffix}", (count, depth, size), uniform(-into, into)
                    ),
                    weight(f"hidden_bias{suffix}", (count, 1, size), "zeros"),
                    weight(f"output{suffix}", (count, size, depth), uniform(-out, out)),
                    weight(f"output_bias{suffix}", (count, 1, depth), "zeros"),
                )
            self.groups.append((device, *group))

    def call(self, x, mask, *, training: bool):
        """Gives the answers and the statistics."""
        depth = x.shape[-1]
        flat, is_real = tf.reshape(x, [-1, depth]), tf.reshape(mask, [-1])  # [B*L, D]
        drawn = None
        if training:
            # Padding draws, too, so that both forms of dispatch draw the same.
            shape = [tf.shape(flat)[0], self.num_experts]
            drawn = noise.normal(shape, self.noise)
        if training and self.capacity_factor is not None:
            answers, statistics = self._answer_within_capacity(
                flat, drawn, is_real, self.capacity_factor
            )
            return tf.reshape(answers, tf.shape(x)), statistics
        real = tf.where(is_real)  # [N, 1]
        flat = tf.gather_nd(flat, real)
        if drawn is not None:
            drawn = tf.gather_nd(drawn, real)
        gates, experts, statistics = self._route(tf.cast(flat, tf.float32), drawn)
        answers = self._ask(flat, gates, dispatch.exact_plan(experts, self._parts()))
        answers = tf.scatter_nd(real, answers, [tf.size(is_real, tf.int64), depth])
        return tf.reshape(answers, tf.shape(x)), statistics | {
            "dropped": tf.constant(0.0)
        }

    def _answer_within_capacity(self, x, drawn, is_real, factor: float):
        """Gives the answers [N, D] and the statistics of N positions, some padding."""
        gates, experts, statistics = self._route(
            tf.cast(x, tf.float32), drawn, tf.cast(is_real, tf.float32)
        )
        plan = dispatch.capacity_plan(experts, is_real, self._groups(), factor=factor)
        asked = tf.reduce_sum(tf.cast(is_real, tf.float32)) * self.experts_per_position
        dropped, asked = sum_over_replicas([plan.num_dropped, asked])
        share = tf.math.divide_no_nan(dropped, asked)
        return self._ask(x, gates, plan), statistics | {"dropped": share}

    def prepared(self, *, has_fixed_shapes: bool) -> Callable[[tf.Tensor], tf.Tensor]:
        """Gives f(x [N, D]), the answers for positions of which none is padding.

        For a loop: weights are read now. With few positions, reading weights is what
        such a call spends its time on, so on a CPU each chosen expert is read once,
        where it lies, and no other.

        Args:
          has_fixed_shapes: no shape may depend on a value, as XLA has it; every expert
            gets N rows then.
        """
        if has_fixed_shapes or self.num_groups > 1:
            return lambda x: self._answers_by_plan(x, has_fixed_shapes)
        if not has_only_cpus():
            return lambda x: self._answers_by_plan(x, has_fixed_shapes)
        _, *weights = zip(*self.groups, strict=True)
        pieces = [
            expert_networks.list_of([tf.cast(w, self.compute_dtype) for w in one])
            for one in weights
        ]
        count = self.num_experts // len(self.groups)

        def answers(x):
            gates, experts, _ = self._route(tf.cast(x, tf.float32), None)
            chosen = tf.reshape(experts, [-1])  # [N*k]
            order = tf.argsort(chosen, stable=True)
            rows = tf.gather(x, order // self.experts_per_position)  # [N*k, D]
            found = expert_networks.few_answers(rows, chosen, order, pieces, count)
            found = tf.gather(found, tf.math.invert_permutation(order))
            found = tf.reshape(found, [-1, self.experts_per_position, x.shape[-1]])
            return tf.reduce_sum(found * tf.cast(gates, found.dtype)[..., None], 1)

        return answers

    def _answers_by_plan(self, x, has_fixed_shapes):
        gates, experts, _ = self._route(tf.cast(x, tf.float32), None)
        if has_fixed_shapes:
            real = tf.ones(tf.shape(experts)[:1], tf.bool)
            room = self.num_experts / self.experts_per_position
            plan = dispatch.capacity_plan(experts, real, self._groups(), factor=room)
        else:
            plan = dispatch.exact_plan(experts, self._parts())
        return self._ask(x, gates, plan)

    def _route(self, x, drawn, weight=None):
        """Gives gates [N, k], experts [N, k] and statistics, all in float32.

        Args:
          x: float32 [N, D].
          drawn: float32 [N, E], the noise; None without training.
          weight: float32 [N], 0 where a position does not count; None: all do.
        """
        k = self.experts_per_position
        clean = tf.matmul(x, tf.cast(self.gate, tf.float32))  # [N, E]
        noisy, scale = clean, None
        if drawn is not None:
            scale = tf.nn.softplus(tf.matmul(x, tf.cast(self.gate_noise, tf.float32)))
            scale += NOISE_FLOOR
            noisy += scale * drawn
        # Decoding has few rows, and no use for halves.
        parts = [noisy] if drawn is None else halves(noisy)
        best = [tf.math.top_k(part, min(k + 1, self.num_experts)) for part in parts]
        top, experts = (tf.concat(found, 0) for found in zip(*best, strict=True))
        experts = experts[:, :k]
        gates = tf.nn.softmax(top[:, :k])  # [N, k]
        counts = tf.ones_like(gates) if weight is None else weight[:, None]
        importance = self._sum_by_expert(gates * counts, experts)  # [E]
        if drawn is not None and k < self.num_experts:
            load = self._load(clean, noisy, scale, top, weight)
        else:
            load = self._sum_by_expert(tf.ones_like(gates) * counts, experts)
        # Balance is about the whole batch, however many replicas share it.
        importance, load = sum_over_replicas([importance, load])
        balance = squared_variation(importance) + squared_variation(load)
        total = tf.reduce_sum(importance)
        return (
            gates,
            experts,
            {
                "balance_loss": balance,
                "use": tf.math.divide_no_nan(importance, total),
                "unused": tf.reduce_sum(tf.cast(importance <= 0, tf.float32)),
            },
        )

    def _sum_by_expert(self, values, experts):
        """Gives [E], the sums of values [N, k] over the positions of each expert."""
        return tf.math.unsorted_segment_sum(values, experts, self.num_experts)

    def _load(self, clean, noisy, scale, top, weight):
        """Gives [E]: the expected positions per expert if its noise were drawn anew."""
        k = self.experts_per_position
        to_stay, to_enter = top[:, k : k + 1], top[:, k - 1 : k]  # [N, 1]
        threshold = tf.where(noisy > to_stay, to_stay, to_enter)
        probability = 0.5 * tf.math.erfc((threshold - clean) / scale / 2**0.5)
        if weight is not None:
            probability *= weight[:, None]
        return tf.reduce_sum(probability, 0)

    def _groups(self) -> list[int]:
        """Gives how many experts each piece of a group has."""
        return [self.num_experts // len(self.groups)] * len(self.groups)

    def _parts(self) -> list[int]:
        """Gives how many experts each part has; a piece is one part or several."""
        if not has_only_cpus():
            return self._groups()
        count = self.num_experts // len(self.groups)
        size = math.ceil(self.num_experts / MAX_PARTS)
        parts = [min(size, count - first) for first in range(0, count, size)]
        return parts * len(self.groups)

    def _ask(self, x, gates, plan):
        """Gives the gated sum of the chosen experts' answers, [N, D]."""
        rows = dispatch.to_rows(x, plan)  # [R, D]
        each = len(plan.parts) // len(self.groups)  # parts of a piece
        groups = [slice(i, i + each) for i in range(0, len(plan.parts), each)]
        if len(groups) > 1:
            sizes = plan.rows_of_parts()
            given = tf.split(rows, [sum(sizes[group]) for group in groups])
        else:
            given = [rows]
        answers = []
        for rows, group, (device, *weights) in zip(
            given, groups, self.groups, strict=True
        ):
            with tf.device(device):
                answers.append(
                    expert_networks.answers(
                        rows,
                        [tf.convert_to_tensor(weight) for weight in weights],
                        plan.parts[group],
                        plan.capacities[group],
                    )
                )
        rows = tf.concat(answers, 0) if len(answers) > 1 else answers[0]
        answers = dispatch.from_rows(rows, plan)  # [N, k, D]
        return tf.reduce_sum(answers * tf.expand_dims(tf.cast(gates, x.dtype), -1), 1)


def num_pieces(num_experts: int, expert_bytes: int) -> int:
    """Gives into how many variables the experts of a group are cut.

    An update goes over a variable three times, and gradients of its parts are copied
    into one, beside which they take their memory twice: less of both with more pieces.
    On two processors a step took 5 % less with 240 experts of 128 KiB a matrix, 4 %
    less with 30 and 60 of 4 MiB; 240 of 4 MiB took 19.0 GiB instead of 21.6.
    Sizes alone decide: checkpoints hold the pieces.

    Args:
      num_experts: of the group; the pieces have equally many.
      expert_bytes: of one of an expert's two matrices.
    """
    size = num_experts * expert_bytes
    if size < 16 * PIECE:
        return 1
    most = min(MAX_PARTS, size // PIECE)
    return max(n for n in range(1, most + 1) if num_experts % n == 0)


def group_devices(num_groups: int) -> list[str | None]:
    """Gives each group of experts a device in turn: the GPUs, else the CPUs."""
    if num_groups == 1:
        return [None]
    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    return [devices[i % len(devices)].name for i in range(num_groups)]


class ExpertBlock(keras.layers.Layer):
    """Adds what a mixture of experts makes of the normalised input.

    y = x + Dropout(MixtureOfExperts(LayerNorm(x)))

    Args:
      num_experts, expert_size, experts_per_position, capacity_factor, num_groups: as
        `MixtureOfExperts`.
      dropout: share of values dropped in training.

    Call arguments, Returns: as `MixtureOfExperts`.
    """

    def __init__(
        self,
        *,
        num_experts: int,
        expert_size: int,
        experts_per_position: int,
        dropout: float,
        capacity_factor: float | None = None,
        num_groups: int = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.norm = LayerNorm(name="norm")
        self.experts = MixtureOfExperts(
            num_experts=num_experts,
            expert_size=expert_size,
            experts_per_position=experts_per_position,
            capacity_factor=capacity_factor,
            num_groups=num_groups,
            name="experts",
        )
        self.dropout = Dropout(dropout, name="dropout")

    def build(self, input_shape):
        """Builds the parts."""
        for layer in (self.norm, self.experts, self.dropout):
            layer.build(input_shape)

    def call(self, x, mask, *, training: bool):
        """Gives the sum and the statistics."""
        answers, statistics = self.experts(self.norm(x), mask, training=training)
        return x + self.dropout(answers, training=training), statistics

    def prepared(self, *, has_fixed_shapes: bool) -> Callable[[tf.Tensor], tf.Tensor]:
        """Gives the block for decoding: f(x [R, D]), one position of each row."""
        normalize = self.norm.prepared()
        answers = self.experts.prepared(has_fixed_shapes=has_fixed_shapes)
        return lambda x: x + answers(normalize(x))
