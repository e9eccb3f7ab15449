"""From encoded inputs to ids: compiled, batched search, over `Model` alone.

Called by `inference` and the commands; knows ids and probabilities, no words. The
searches themselves are in `search`, the decoder that remembers in `models.stepping`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from t2t_mm.alignment_guide import AlignmentGuide
from t2t_mm.decode_settings import DecodeHParams
from t2t_mm.draws import chances
from t2t_mm.guides import (
    ForcedPrefix,
    Guide,
    NoPadding,
    NoRepeat,
    SecondOpinion,
)
from t2t_mm.made_static import rounded_up
from t2t_mm.models.base import Batch, Model
from t2t_mm.problem import CLASS_LABEL, NUM_SPELLED
from t2t_mm.search import Found, Speaker, beam_search, row_by_row

NUM_RANKED = 5

Decode = Callable[..., Found]


def make_decoder(
    model: Model,
    problem_name: str,
    signature: Mapping[str, tf.TensorSpec],
    settings: DecodeHParams | None = None,
    *,
    guide: Guide | None = None,
    extra_scorer: Any = None,
) -> Decode:
    """Gives the compiled decoder of all problems with one pair of features.

    Args:
      model: a built model.
      problem_name: one of its problems.
      signature: of the inputs of a batch: "inputs" and "inputs_mask", with free
        dimensions, so that it is traced once.
      settings: how to search; None for greedily. Of `max_length` the caller takes care.
      guide: what forbids ids, such as `tree_guide.TreeGuide`; `well_formed_trees`
        needs one.
      extra_scorer: a second opinion on every id; see `guides.SecondOpinion`.

    Returns:
      f(batch, token, max_length, prefix=None, row_numbers=None, random_seed=None):
      token is a command's, float [D]; max_length the most ids of an answer, its end
      counted; prefix int32 [B, P], ids that answers begin with, padding behind;
      row_numbers int32 [B], what draws depend on besides the seed, by default 0 to
      B - 1; random_seed by default that of the settings: another one compiles nothing
      anew. It gives {"ids": int32 [B, N, L], "scores": float32 [B, N], sums of
      log-probabilities, the end counted, "penalized": float32 [B, N], what the ranking
      used}, N = settings.num_return; for class problems what `ranked_classes` gives.
      With `settings.jit_compile` XLA compiles the search for each max_length and each
      size of a batch, of which there are few, since rows and lengths are rounded up;
      that takes seconds each time and pays where many batches follow.

    Raises:
      ValueError: if well-formed trees are asked for without their guide; when called,
        if a guide can do nothing with the length or the prefixes.
    """
    settings = settings or DecodeHParams()
    if settings.well_formed_trees and guide is None:
        raise ValueError(
            "well_formed_trees=True came without a guide; expected a TreeGuide, which "
            "knows the brackets of the problem's vocabulary. Pass guide=."
        )
    problem = model.problems[problem_name]
    inputs = {name: signature[name] for name in ("inputs", "inputs_mask")}

    def decode(batch, token, max_length, prefix, row_numbers, random_seed):
        if problem.targets.modality == CLASS_LABEL:
            return ranked_classes(model, problem_name, batch, token=token)
        return sequences(
            model,
            problem_name,
            batch,
            settings,
            max_length=max_length,
            token=token,
            prefix=prefix,
            row_numbers=row_numbers,
            random_seed=random_seed,
            guide=guide,
            extra_scorer=extra_scorer,
            jit_compile=settings.jit_compile,
        )

    specs = (
        tf.TensorSpec([model.hparams.hidden_size], model.compute_dtype),
        tf.TensorSpec([None, None], tf.int32),
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([], tf.int32),
    )
    compiled = _traced_per_length if settings.jit_compile else _traced_once
    concrete = compiled(decode, inputs, *specs)

    def call(
        batch: Batch,
        token: tf.Tensor,
        max_length: int,
        prefix: Any = None,
        row_numbers: Any = None,
        random_seed: int | None = None,
    ) -> Found:
        tensors = _as_signed(batch, inputs)
        count = len(batch["inputs"])
        if prefix is None:
            prefix = tf.zeros([count, 0], tf.int32)
        if row_numbers is None:
            row_numbers = tf.range(count)
        prefix = tf.convert_to_tensor(prefix, tf.int32)
        if guide is not None:
            guide.check(max_length, prefix)
        others = [prefix, tf.convert_to_tensor(row_numbers, tf.int32)]
        if settings.jit_compile:
            tensors, others = _rounded_up(tensors, others)
        seed = settings.random_seed if random_seed is None else random_seed
        found = concrete(tensors, token, max_length, *others, tf.constant(seed))
        return {name: value[:count] for name, value in found.items()}

    return call


def _rounded_up(
    tensors: dict[str, tf.Tensor], others: list[tf.Tensor]
) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
    """Gives few different shapes: the last row is repeated, lengths are padded."""
    count = tensors["inputs_mask"].shape[0]
    rows = tf.minimum(tf.range(rounded_up(count)), count - 1)
    more = 0
    if tensors["inputs_mask"].shape.rank == 2:
        length = tensors["inputs_mask"].shape[1]
        more = rounded_up(length) - length
    padded = {
        name: tf.pad(tf.gather(value, rows), [[0, 0], [0, more]])
        if more
        else tf.gather(value, rows)
        for name, value in tensors.items()
    }
    return padded, [tf.gather(value, rows) for value in others]


def _traced_once(decode, inputs, token, *others):
    """Gives decode, compiled for every length."""
    concrete = tf.function(decode, autograph=False).get_concrete_function(
        inputs, token, tf.TensorSpec([], tf.int32), *others
    )
    return lambda batch, token, max_length, *others: concrete(
        batch, token, tf.constant(max_length), *others
    )


def _traced_per_length(decode, inputs, token, *others):
    """Gives decode, compiled for each length when it is first asked for."""

    @functools.lru_cache(maxsize=16)
    def concrete(max_length):
        return tf.function(
            lambda batch, token, *given: decode(batch, token, max_length, *given),
            autograph=False,
        ).get_concrete_function(inputs, token, *others)

    return lambda batch, token, max_length, *others: concrete(max_length)(
        batch, token, *others
    )


def _as_signed(
    batch: Batch, signature: Mapping[str, tf.TensorSpec]
) -> dict[str, tf.Tensor]:
    return {
        name: tf.convert_to_tensor(batch[name], spec.dtype)
        for name, spec in signature.items()
    }


def ranked_classes(
    model: Model, problem_name: str, batch: Batch, *, token: tf.Tensor | None = None
) -> Found:
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


def sequences(
    model: Model,
    problem_name: str,
    batch: Batch,
    settings: DecodeHParams,
    *,
    max_length: tf.Tensor | int,
    token: tf.Tensor | None = None,
    prefix: tf.Tensor | None = None,
    row_numbers: tf.Tensor | None = None,
    random_seed: tf.Tensor | int | None = None,
    guide: Guide | None = None,
    extra_scorer: Any = None,
    jit_compile: bool = False,
) -> Found:
    """Searches for answers; what `make_decoder` compiles, with its arguments.

    Args:
      max_length: int32 scalar; an int for XLA.
      token: of the command, [D]; None for the problem's own.
      random_seed: int32 scalar; None for that of the settings.

    Returns:
      "ids" int32 [B, N, max_length], with padding after each end; "scores" and
      "penalized" float32 [B, N].
    """
    problem = model.problems[problem_name]
    source, _ = model.encode_inputs(problem, batch, training=False)
    if token is None:
        token = model.commands.token(problem.command)
    num_inputs = tf.shape(source.x)[0]
    if prefix is None:
        prefix = tf.zeros([num_inputs, 0], tf.int32)
    if row_numbers is None:
        row_numbers = tf.range(num_inputs)

    chance = tf.zeros([0, 0])
    if settings.temperature:
        if random_seed is None:
            random_seed = settings.random_seed
        chance = chances(settings.num_return, row_numbers, max_length, random_seed)

    def search(source, token, prefix, chance):
        modality = model.modalities[problem.targets.modality]
        size = modality.vocabularies[problem.targets.vocabulary]
        if problem.targets.spelled:
            size = NUM_SPELLED
        guides = _guides(settings, size, prefix, extra_scorer, guide)
        if settings.alignment_weight and model.is_read_aloud(problem):
            guides.append(AlignmentGuide(settings.alignment_weight))
        return _searched(
            model,
            problem.targets,
            source,
            settings,
            guides,
            max_length=max_length,
            token=token,
            chance=chance,
        )

    if jit_compile:
        search = tf.function(search, autograph=False, jit_compile=True)
    return search(source, token, prefix, chance)


def _guides(settings, size, prefix, extra_scorer, guide) -> list[Guide]:
    """Gives all that has a say in a search."""
    guides: list[Guide] = [NoPadding(size, settings.min_length)]
    if settings.no_repeat_ngram:
        guides.append(NoRepeat(size, settings.no_repeat_ngram))
    if prefix.shape[1] != 0:
        guides.append(ForcedPrefix(size, prefix))
    if extra_scorer is not None:
        guides.append(SecondOpinion(extra_scorer))
    if guide is not None:
        guides.append(guide)
    return guides


def _searched(
    model, feature, source, settings, guides, *, max_length, token, chance
) -> Found:
    """Searches for answers to encoded inputs."""
    modality = model.modalities[feature.modality]
    is_beam = settings.beam_size > 1
    stepper = model.start_decoding(
        source,
        max_length=max_length,
        num_beams=settings.beam_size if is_beam else settings.num_return,
    )
    speaker = Speaker(
        stepper=stepper,
        embed=lambda ids: modality.targets_bottom(ids[:, None], feature=feature)[:, 0],
        logits=modality.prepared_top(feature=feature),
        token=tf.cast(token, model.compute_dtype),
        source=source,
        guides=guides,
    )
    if is_beam:
        return beam_search(speaker, settings, max_length=max_length)
    return row_by_row(speaker, settings, max_length=max_length, chance=chance)


def make_scorer(
    model: Model, problem_name: str, signature: Mapping[str, tf.TensorSpec]
) -> Callable[[Batch, tf.Tensor], tf.Tensor]:
    """Gives the compiled scorer of all problems with one pair of features.

    Args:
      model: a built model.
      problem_name: one of its problems.
      signature: of a batch, with free dimensions.

    Returns:
      f(batch, token): float32 [B, L], the log-probability of each target id given the
      input, the command and the ids before it; 0 at padding. For class problems
      [B, 1]. Summed over L it is the score that a decoder gives this answer.
    """

    @tf.function(autograph=False)
    def score(batch, token):
        return target_log_probabilities(model, problem_name, batch, token=token)

    concrete = score.get_concrete_function(
        dict(signature), tf.TensorSpec([model.hparams.hidden_size], model.compute_dtype)
    )
    return lambda batch, token: concrete(_as_signed(batch, signature), token)


def target_log_probabilities(
    model: Model, problem_name: str, batch: Batch, *, token: tf.Tensor | None = None
) -> tf.Tensor:
    """Gives float32 [B, L] of the targets of a batch; what `make_scorer` compiles."""
    problem = model.problems[problem_name]
    source, _ = model.encode_inputs(problem, batch, training=False)
    targets, mask = batch["targets"], batch["targets_mask"]
    if problem.targets.modality == CLASS_LABEL:
        logits, _ = model.class_logits(problem, source, training=False, token=token)
        logits = logits[:, None]  # [B, 1, V]
    else:
        h, _ = model.decode_targets(
            problem, targets, mask, source=source, training=False, token=token
        )
        modality = model.modalities[problem.targets.modality]
        logits = modality.top(h, feature=problem.targets)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    return tf.where(mask, -losses, 0.0)
