"""From encoded inputs to ids: compiled, batched search, over `Model` alone.

Called by `inference`; knows ids and probabilities, no words.
"""

from collections.abc import Callable, Mapping

import tensorflow as tf

from t2t_mm.models.base import Batch, Model
from t2t_mm.problem import CLASS_LABEL
from t2t_mm.vocabulary import EOS_ID, PAD_ID

NUM_RANKED = 5

Decode = Callable[..., Mapping[str, tf.Tensor]]


def make_greedy(
    model: Model, problem_name: str, signature: Mapping[str, tf.TensorSpec]
) -> Decode:
    """Gives the compiled greedy decoder of all problems with one pair of features.

    Args:
      model: a built model.
      problem_name: one of its problems.
      signature: of the inputs of a batch: "inputs" and "inputs_mask", with free
        dimensions, so that it is traced once.

    Returns:
      f(inputs, token, max_length) with what `greedy_sequences` or, for class
      problems, `ranked_classes` gives; token is a command's, float [D].
    """
    problem = model.problems[problem_name]
    inputs = {name: signature[name] for name in ("inputs", "inputs_mask")}
    token_signature = tf.TensorSpec([model.hparams.hidden_size], model.compute_dtype)

    @tf.function(autograph=False)
    def decode(batch: Batch, token: tf.Tensor, max_length: tf.Tensor):
        if problem.targets.modality == CLASS_LABEL:
            return ranked_classes(model, problem_name, batch, token=token)
        return greedy_sequences(
            model, problem_name, batch, max_length=max_length, token=token
        )

    concrete = decode.get_concrete_function(
        inputs, token_signature, tf.TensorSpec([], tf.int32)
    )

    def call(
        batch: Batch, token: tf.Tensor, max_length: int
    ) -> Mapping[str, tf.Tensor]:
        tensors = {
            name: tf.convert_to_tensor(batch[name], spec.dtype)
            for name, spec in inputs.items()
        }
        return concrete(tensors, token, tf.constant(max_length))

    return call


def ranked_classes(
    model: Model, problem_name: str, batch: Batch, *, token: tf.Tensor | None = None
) -> Mapping[str, tf.Tensor]:
    """Gives the likeliest classes, the best first.

    Returns:
      "ids" int32 [B, 1]; "ranked" int32 [B, min(5, V)] and their "probabilities".
    """
    problem = model.problems[problem_name]
    source, _ = model.encode_inputs(problem, batch, training=False)
    logits, _ = model.class_logits(problem, source, training=False, token=token)
    count = min(NUM_RANKED, len(problem.targets.labels))
    best, ranked = tf.math.top_k(tf.nn.softmax(logits), count)
    return {"ids": ranked[:, :1], "ranked": ranked, "probabilities": best}


def greedy_sequences(
    model: Model,
    problem_name: str,
    batch: Batch,
    *,
    max_length: tf.Tensor,
    token: tf.Tensor | None = None,
) -> Mapping[str, tf.Tensor]:
    """Takes the likeliest next id until every row has ended.

    Every step runs the decoder over the prefix so far. Padding is never chosen.

    Returns:
      "ids" int32 [B, max_length], with padding after each row's EOS; "scores" float32
      [B], the sum of the chosen ids' log-probabilities.
    """
    problem = model.problems[problem_name]
    modality = model.modalities[problem.targets.modality]
    source, _ = model.encode_inputs(problem, batch, training=False)
    num_rows = tf.shape(source.x)[0]

    def is_unfinished(i, ids, scores, done):
        del ids, scores
        return tf.logical_and(i < max_length, tf.logical_not(tf.reduce_all(done)))

    def choose_next(i, ids, scores, done):
        prefix = ids[:, : i + 1]  # the last of them is not read: targets are shifted
        h, _ = model.decode_targets(
            problem,
            prefix,
            tf.ones_like(prefix, tf.bool),
            source=source,
            training=False,
            token=token,
        )
        logits = modality.top(h[:, -1], feature=problem.targets)  # [B, V]
        log_probabilities = tf.nn.log_softmax(logits)
        allowed = tf.concat(
            [tf.fill([num_rows, 1], logits.dtype.min), logits[:, 1:]], 1
        )
        best = tf.argmax(allowed, -1, tf.int32)  # [B]
        gained = tf.gather(log_probabilities, best, axis=1, batch_dims=1)
        scores += tf.where(done, 0.0, gained)
        best = tf.where(done, PAD_ID, best)
        column = tf.one_hot(i, max_length, dtype=tf.int32)[None]  # [1, max_length]
        return i + 1, ids + best[:, None] * column, scores, done | (best == EOS_ID)

    _, ids, scores, _ = tf.while_loop(
        is_unfinished,
        choose_next,
        (
            tf.constant(0),
            tf.fill([num_rows, max_length], PAD_ID),
            tf.zeros([num_rows]),
            tf.zeros([num_rows], tf.bool),
        ),
    )
    return {"ids": ids, "scores": scores}
