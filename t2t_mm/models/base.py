"""What every model is: modality nets around a body that a subclass writes.

One batch: input modality -> `encode` -> (`decode` over shifted targets) -> target
modality -> loss. Shapes: inputs [B, S, D], targets [B, L, D]; see `layers`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf

from t2t_mm.configuration import HParams
from t2t_mm.layers.attention import SegmentsPair
from t2t_mm.layers.segments import Segments, segments_of
from t2t_mm.losses import alignment_loss
from t2t_mm.modalities.base import Alignment, Represented
from t2t_mm.modalities.merging import merged_by_ids
from t2t_mm.models.stepping import RecomputingStepper, Stepper
from t2t_mm.problem import AUDIO, CLASS_LABEL, TEXT, Feature, Problem
from t2t_mm.registry import modalities, snake_case

Batch = Mapping[str, tf.Tensor]
Statistics = dict[str, dict[str, tf.Tensor]]


class Commands(keras.layers.Layer):
    """The learned token of each command: what the network is asked to produce.

    Args:
      names: the commands, in any order.
      depth: D.
    """

    def __init__(self, names: Sequence[str], depth: int, **kwargs):
        super().__init__(**kwargs)
        self.names = sorted(set(names))
        self.depth = depth

    def build(self, input_shape=None):
        """Makes a vector [D] per command, a variable each.

        A variable each, so that training one problem leaves the commands of the
        others alone.
        """
        self.tokens = {
            name: self.add_weight(
                shape=(self.depth,),
                # Made anew: one initializer gives the same numbers each time.
                initializer=keras.initializers.RandomNormal(stddev=1.0),
                name=snake_case(name).replace("-", "_"),
            )
            for name in self.names
        }

    def token(self, name: str) -> tf.Tensor:
        """Gives float [D].

        Raises:
          ValueError: if no problem of the model has the command.
        """
        if name not in self.tokens:
            raise ValueError(
                f"Command '{name}' came; this model knows {', '.join(self.names)}. "
                "Use one of them, or train with a problem that has it."
            )
        return tf.cast(self.tokens[name], self.compute_dtype)


class Model(keras.layers.Layer):
    """A network that serves several problems; subclasses write the body.

    Class attributes:
      hparams_class: the `HParams` it takes.
      takes_packed_rows: whether `encode` and `decode` take `segments` and keep the
        examples of a packed row apart.

    Args:
      hparams: its settings.
      problems: what it learns.
      vocabularies: size of each vocabulary and label set, by name.
    """

    hparams_class: ClassVar[type[HParams]] = HParams
    takes_packed_rows: ClassVar[bool] = False

    def __init__(
        self,
        hparams: HParams,
        problems: Sequence[Problem],
        vocabularies: Mapping[str, int],
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hparams = hparams
        self.problems = {problem.name: problem for problem in problems}
        self.commands = Commands(
            [problem.command for problem in problems],
            hparams.hidden_size,
            name="commands",
        )
        features: dict[str, list[Feature]] = {}
        for problem in problems:
            for feature in (problem.inputs, problem.targets):
                features.setdefault(feature.modality, []).append(feature)
        # Sounds, and the text that they say, position by position.
        self.read_aloud: dict[Feature, Feature] = {}
        if hparams.audio_alignment_weight:
            for problem in problems:
                if (problem.inputs.modality, problem.targets.modality) == (AUDIO, TEXT):
                    self.read_aloud.setdefault(problem.inputs, problem.targets)
        self.modalities = {
            name: modalities.get(name)(hparams, columns, vocabularies, name=name)
            for name, columns in features.items()
        }
        for problem in problems:
            for role, feature in problem.features.items():
                self.modalities[feature.modality].expect_role(role)

    def build(self, input_shape=None):
        """Makes every variable of modality nets, commands and body."""
        self.commands.build()
        for modality in self.modalities.values():
            modality.build()
        self.build_body()

    def build_body(self) -> None:
        """Makes the variables of the body."""
        raise TypeError(f"Model {type(self).__name__} must define build_body().")

    def encode(
        self,
        x: tf.Tensor,
        mask: tf.Tensor,
        *,
        training: bool,
        segments: Segments | None = None,
    ) -> tuple[tf.Tensor, Statistics]:
        """Encodes represented inputs [B, S, D]; gives the same shape and statistics.

        Only a model that says it `takes_packed_rows` gets `segments`.
        """
        raise TypeError(f"Model {type(self).__name__} must define encode().")

    def decode(
        self,
        y: tf.Tensor,
        mask: tf.Tensor,
        *,
        source: tf.Tensor,
        source_mask: tf.Tensor,
        training: bool,
        segments: SegmentsPair | None = None,
    ) -> tuple[tf.Tensor, Statistics]:
        """Decodes shifted targets [B, L, D] given encoded inputs [B, S, D].

        `segments` of targets and source come as in `encode`.
        """
        raise TypeError(f"Model {type(self).__name__} must define decode().")

    def start_decoding(
        self, source: Represented, *, max_length: tf.Tensor | int, num_beams: int = 1
    ) -> Stepper:
        """Gives the decoder, to be run one position after the other in a loop.

        Weights are read here, not in the loop. A model with a `decode` of its own that
        does not redefine this decodes the whole prefix again for each position, which
        is right and slow; with a memory of its layers it must give the same, and
        `decoding_laws.check_steps` says whether it does.

        Args:
          source: encoded inputs of B examples.
          max_length: most positions; an int where shapes are to be fixed, for XLA.
          num_beams: N, rows that each input has.
        """
        return RecomputingStepper(
            self, source, max_length=max_length, num_beams=num_beams
        )

    def encode_inputs(
        self, problem: Problem, batch: Batch, *, training: bool
    ) -> tuple[Represented, Statistics]:
        """Gives the encoded inputs of a batch."""
        feature = problem.inputs
        inputs = self.modalities[feature.modality].bottom(
            batch["inputs"], batch["inputs_mask"], feature=feature, training=training
        )
        if problem.inputs in self.read_aloud:
            inputs = self._aligned(inputs, self.read_aloud[problem.inputs])
        packed: dict[str, Any] = {}
        if "inputs_segments" in batch:
            packed["segments"] = segments_of(batch["inputs_segments"])
        x, statistics = self.encode(inputs.x, inputs.mask, training=training, **packed)
        return inputs._replace(x=x, **packed), statistics

    def _aligned(self, inputs: Represented, feature: Feature) -> Represented:
        """Reads text from each position of a sound, and adds it to the sound.

        Source: Nozaki and Komatsu 2021, section 3, arxiv.org/abs/2104.02724, which does
        so between the layers of an encoder.
        """
        text = self.modalities[TEXT]
        logits = text.top(inputs.x, feature=feature)  # [B, S, V]
        read = text.blend(tf.nn.softmax(logits), feature=feature)
        inputs = inputs._replace(x=inputs.x + read)
        if self.hparams.audio_merging:
            return merged_by_ids(inputs, logits)
        places = tf.broadcast_to(tf.range(tf.shape(read)[1])[None], tf.shape(read)[:2])
        return inputs._replace(alignment=Alignment(logits, inputs.mask, places))

    def is_read_aloud(self, problem: Problem) -> bool:
        """Tells whether the inputs, sounds, are asked for the targets word by word."""
        return self.read_aloud.get(problem.inputs) == problem.targets

    def decode_targets(
        self,
        problem: Problem,
        ids: tf.Tensor,
        mask: tf.Tensor,
        *,
        source: Represented,
        training: bool,
        token: tf.Tensor | None = None,
        segments: Segments | None = None,
    ) -> tuple[tf.Tensor, Statistics]:
        """Gives [B, L, D], position i from the command and targets before i.

        Args:
          problem: whose targets.
          ids: int32 [B, L], the targets, not shifted.
          mask: bool [B, L].
          source: what `encode_inputs` gave.
          training: as everywhere.
          token: of the command, [D]; None for the problem's own.
          segments: of packed targets, as `source` has those of the inputs.
        """
        feature = problem.targets
        y = self.modalities[feature.modality].targets_bottom(ids, feature=feature)
        start = tf.broadcast_to(self._token(problem, token), tf.shape(y[:, :1]))
        # Not y[:, :-1], whose gradient takes several times as long.
        before, _ = tf.split(y, [tf.shape(y)[1] - 1, 1], 1)
        y = tf.concat([start, before], 1)  # [B, L, D], shifted right
        packed: dict[str, Any] = {}
        if segments is not None:
            y = tf.where(segments.positions[..., None] == 0, start, y)
            packed["segments"] = segments, source.segments
        return self.decode(
            y,
            mask,
            source=source.x,
            source_mask=source.mask,
            training=training,
            **packed,
        )

    def class_logits(
        self,
        problem: Problem,
        source: Represented,
        *,
        training: bool,
        token: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, Statistics]:
        """Gives logits [B, V] of a class problem for encoded inputs."""
        vectors, statistics = self.class_vectors(
            problem, source, training=training, token=token
        )
        modality = self.modalities[CLASS_LABEL]
        return modality.top(vectors, feature=problem.targets), statistics

    def class_vectors(
        self,
        problem: Problem,
        source: Represented,
        *,
        training: bool,
        token: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, Statistics]:
        """Gives what the logits of a class problem are made from, [B, D']."""
        statistics: Statistics = {}
        x = source.x
        if self.hparams.decode_classes:
            start = tf.broadcast_to(self._token(problem, token), tf.shape(x[:, :1]))
            h, statistics = self.decode(
                start,
                tf.ones(tf.shape(start)[:2], tf.bool),
                source=x,
                source_mask=source.mask,
                training=training,
            )
            x += h
        modality = self.modalities[CLASS_LABEL]
        vectors = modality.pool(x, source.mask, source.grid, training=training)
        return vectors, statistics

    def _token(self, problem: Problem, token: tf.Tensor | None) -> tf.Tensor:
        if token is None:
            return self.commands.token(problem.command)
        return tf.cast(token, self.compute_dtype)

    def losses_of(
        self,
        problem_name: str,
        batch: Batch,
        *,
        training: bool,
        token: tf.Tensor | None = None,
    ) -> dict[str, Any]:
        """Gives what a training step and an evaluation need of one batch.

        Args:
          problem_name: one of the model's problems.
          batch: inputs, inputs_mask, targets, targets_mask; of packed rows, too,
            inputs_segments and targets_segments.
          training: dropout, noise, augmentation and label smoothing, when true.
          token: of the command, [D]; None for the problem's own. Given as a tensor,
            one compiled function serves all problems of the same features.

        Returns:
          Scalars "loss_sum" and "correct" over "weight" target positions and
          "auxiliary_loss"; "expert_use", {layer: float32 [E]}, and "experts",
          {layer: statistics}, as `layers.experts` gives them.
        """
        problem = self.problems[problem_name]
        source, statistics = self.encode_inputs(problem, batch, training=training)
        if problem.targets.modality == CLASS_LABEL:
            h, more = self.class_vectors(
                problem, source, training=training, token=token
            )
            labels, real = batch["targets"][:, 0], batch["targets_mask"][:, 0]
        else:
            mask = batch["targets_mask"]
            numbers = batch.get("targets_segments")
            h, more = self.decode_targets(
                problem,
                batch["targets"],
                mask,
                source=source,
                training=training,
                token=token,
                segments=None if numbers is None else segments_of(numbers),
            )
            h, labels, real = _real_positions(h, batch["targets"], mask)
        auxiliary_loss = self._alignment_loss(problem, batch, source, training=training)
        statistics = statistics | more
        loss_sum, weight, correct = self.modalities[
            problem.targets.modality
        ].cross_entropy(
            h,
            labels,
            feature=problem.targets,
            label_smoothing=self.hparams.label_smoothing if training else 0.0,
            mask=real,
        )
        return {
            "loss_sum": loss_sum,
            "weight": weight,
            "correct": correct,
            "auxiliary_loss": auxiliary_loss + self.auxiliary_loss(statistics),
            "expert_use": {name: s["use"] for name, s in statistics.items()},
            "experts": statistics,
        }

    def _alignment_loss(
        self, problem: Problem, batch: Batch, source: Represented, *, training: bool
    ) -> tf.Tensor:
        """Asks the sound itself for the words, which teaches where they are."""
        alignment = source.alignment
        if not (training and alignment and self.is_read_aloud(problem)):
            return tf.constant(0.0)
        # Nothing is heard where a text ends: its last id is left out.
        words = tf.pad(batch["targets_mask"][:, 1:], [[0, 0], [0, 1]])
        return self.hparams.audio_alignment_weight * alignment_loss(
            alignment.logits, alignment.mask, batch["targets"], words
        )

    def auxiliary_loss(self, statistics: Statistics) -> tf.Tensor:
        """Gives the scalar that is added to the loss; 0 without experts."""
        del statistics
        return tf.constant(0.0)


def _real_positions(
    h: tf.Tensor, targets: tf.Tensor, mask: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Flattens [B, L, ...] to [N, ...]: padding needs no logits, so it is left out.

    Where the shape is fixed, as XLA on TPU has it, N = B * L and the mask says which
    count.

    Returns:
      (h [N, D], targets [N], mask [N]).
    """
    if tf.TensorShape(mask.shape).is_fully_defined():
        flat = tf.reshape(h, [-1, h.shape[-1]])
        return flat, tf.reshape(targets, [-1]), tf.reshape(mask, [-1])
    real = tf.where(mask)  # [N, 2]
    labels = tf.gather_nd(targets, real)
    return tf.gather_nd(h, real), labels, tf.ones_like(labels, tf.bool)
