"""What a run needs before its first step: data, network, optimizer, a description."""

import gc
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras

from t2t_mm import configuration, datagen, input_pipeline, vocabulary
from t2t_mm.cadence import Cadence
from t2t_mm.configuration import HParams
from t2t_mm.distribution import Distribution
from t2t_mm.manifests import check_contents
from t2t_mm.mixture import check_rule, mixture_rates
from t2t_mm.models import build_model, model_class
from t2t_mm.optimizers import make_optimizer, unbuilt_optimizer
from t2t_mm.packing import check_packing
from t2t_mm.problem import AUDIO, Problem
from t2t_mm.run_history import RUN_FILE
from t2t_mm.run_settings import Settings, save_run
from t2t_mm.step_errors import size_explained
from t2t_mm.train_step import TrainSteps, check_updates
from t2t_mm.training_state import TrainingState
from t2t_mm.warm_start import (
    check_weights,
    compiled,
    describe_frozen,
    find_weights,
    freeze,
    warm_start,
)


@dataclass(frozen=True)
class Parts:
    """What a run is made of.

    Args:
      settings, distribution: what it is, and where it computes.
      problems: by name.
      rates: share of the steps that train each problem.
      vocabularies: by name.
      state: network, optimizer, and all else that changes.
      steps: the updates.
      origin: what came from another run's weights, in words; empty if nothing did.
    """

    settings: Settings
    distribution: Distribution
    problems: Mapping[str, Problem]
    rates: Mapping[str, float]
    vocabularies: Mapping[str, vocabulary.Vocabulary]
    state: TrainingState
    steps: TrainSteps
    origin: str


def prepare(
    settings: Settings,
    problems: Sequence[Problem],
    distribution: Distribution,
    *,
    cadence: Cadence,
    precision: str,
    tmp_dir: str | None,
    rates: str,
    temperature: float | None,
    warm_start_from: str | None,
    progress: bool,
) -> Parts:
    """Makes data that is missing, and builds network and optimizer.

    Args:
      settings, problems, distribution: what the run is, and where it computes.
      cadence, precision: how it goes, which must be alike on all workers.
      tmp_dir: of downloads; None if no data is to be made.
      rates, temperature: the rule of `mixture_rates`.
      warm_start_from: the run or checkpoint whose weights it starts with, if any.
      progress: show how the making of data goes on.

    Raises:
      TypeError, ValueError: if settings do not fit each other or the data.
      OSError: if data is missing or memory runs out.
    """
    # Making data may take hours: what can be refused before it, is.
    train_steps = cadence.train_steps
    check_settings(settings, problems, distribution, train_steps)
    check_rule(rates, temperature)
    if warm_start_from:
        find_weights(warm_start_from)
    check_workers(settings, cadence, precision, distribution)
    if tmp_dir is not None and (settings.hparams.freeze or warm_start_from):
        check_weights_and_paths(settings, problems, warm_start_from)
    num_examples = prepare_data(
        problems, settings.data_dir, tmp_dir, progress, distribution
    )
    shares = mixture_rates(
        settings.mixture, num_examples, rule=rates, temperature=temperature
    )
    vocabularies = vocabulary.load_vocabularies(problems, settings.data_dir)
    with size_explained(settings.hparams):
        state = make_state(settings, problems, vocabularies, train_steps, distribution)
        steps = make_steps(state, settings, problems, distribution)
    origin = ""
    if warm_start_from:
        origin = warm_start(state.model, warm_start_from, problems, vocabularies)
        if state.averages:
            state.averages.restart()
    return Parts(
        settings,
        distribution,
        {problem.name: problem for problem in problems},
        shares,
        vocabularies,
        state,
        steps,
        origin,
    )


def check_settings(
    settings: Settings,
    problems: Sequence[Problem],
    distribution: Distribution,
    train_steps: int,
) -> None:
    """Checks what can be checked of a run without its data and its network.

    Raises:
      TypeError, ValueError: if settings do not fit each other, the problems or the
        devices.
    """
    hparams = settings.hparams
    network = model_class(settings.model, hparams)
    unbuilt_optimizer(hparams, train_steps)
    compiled(hparams.freeze)
    check_updates(hparams, [problem.name for problem in problems])
    if distribution.has_static_shapes:
        check_fixed_shapes(hparams, problems)
    check_packing(
        hparams,
        problems,
        model=settings.model,
        takes_packed_rows=network.takes_packed_rows,
        has_static_shapes=distribution.has_static_shapes,
    )


def check_weights_and_paths(
    settings: Settings, problems: Sequence[Problem], warm_start_from: str | None
) -> None:
    """Checks what needs a network, while the vocabularies are yet to be made.

    Raises:
      ValueError: if hparam `freeze` finds nothing, or all, of the network's variables,
        or nothing of the weights to start from can fit.
    """
    names = vocabulary.text_vocabulary_names(problems)
    words = {name: vocabulary.ByteVocabulary(name) for name in names}
    sizes = vocabulary.vocabulary_sizes(problems, words)
    with size_explained(settings.hparams):
        model = build_model(settings.model, settings.hparams, problems, sizes)
    freeze(model, settings.hparams.freeze)
    if warm_start_from:
        check_weights(model, warm_start_from)
    # Layers know each other in circles; their weights would stay for a while.
    del model
    gc.collect()


def prepare_data(
    problems: Sequence[Problem],
    data_dir: str,
    tmp_dir: str | None,
    progress: bool,
    distribution: Distribution,
) -> dict[str, int]:
    """Generates what is missing, checks what is there; gives training examples."""
    if tmp_dir is not None and distribution.is_chief:
        names = [problem.name for problem in problems]
        datagen.generate_data(names, data_dir, tmp_dir, progress=progress)
    distribution.total(0.0)  # the other workers wait for the data here
    counts = {}
    for problem in problems:
        manifest = datagen.check_manifest(data_dir, problem)
        check_contents(manifest, data_dir, problem)
        counts[problem.name] = manifest["splits"]["train"]["examples"]
    return counts


def make_state(
    settings: Settings,
    problems: Sequence[Problem],
    vocabularies: Mapping[str, vocabulary.Vocabulary],
    train_steps: int,
    distribution: Distribution,
) -> TrainingState:
    """Builds network and optimizer from the run's seed, on every replica."""
    keras.utils.set_random_seed(settings.random_seed)
    sizes = vocabulary.vocabulary_sizes(problems, vocabularies)
    hparams = settings.hparams
    with distribution.scope():
        model = build_model(settings.model, hparams, problems, sizes)
        freeze(model, hparams.freeze)
        optimizer = make_optimizer(hparams, model.trainable_variables, train_steps)
        return TrainingState(
            model,
            optimizer,
            [problem.name for problem in problems],
            ema_decay=hparams.ema_decay,
            is_balancing=hparams.loss_balancing,
        )


def make_steps(
    state: TrainingState,
    settings: Settings,
    problems: Sequence[Problem],
    distribution: Distribution,
) -> TrainSteps:
    """Gives the updates of the run; each is compiled when it is first called.

    Raises:
      ValueError: if hparams ask for updates that cannot be made.
    """
    hparams = settings.hparams
    signatures = {
        one.name: input_pipeline.training_signature(one, hparams) for one in problems
    }
    return TrainSteps(state, signatures, hparams.clip_norm, distribution)


def check_workers(
    settings: Settings, cadence: Cadence, precision: str, distribution: Distribution
) -> None:
    """Checks that all workers are about to take the same steps.

    Raises:
      ValueError: if their settings differ; names them.
    """
    distribution.check_same(
        {
            "model": settings.model,
            "problem": settings.mixture.problems,
            "random_seed": settings.random_seed,
            "precision": precision,
            "train_steps": cadence.train_steps,
            "eval_frequency": cadence.eval_frequency,
            "log_frequency": cadence.log_frequency,
            **vars(settings.hparams),
        }
    )


def check_same_run(parts: Parts, run_dir: str) -> None:
    """Checks that all workers take up the same run, from the same step.

    Raises:
      ValueError: if they do not.
    """
    distribution = parts.distribution
    distribution.check_same({"rates": parts.rates})
    distribution.check_same_folder(os.path.join(run_dir, RUN_FILE))
    distribution.check_same_step(parts.state.step, run_dir)


def keep_settings(parts: Parts, run_dir: str, train_steps: int) -> None:
    """Writes into the run's folder what it is, or checks it against what is there.

    Raises:
      ValueError: if the folder's run is another one.
      OSError: if the folder cannot be written.
    """
    words = parts.vocabularies
    save_run(
        parts.settings,
        run_dir,
        rates=parts.rates,
        vocabularies={name: one.fingerprint for name, one in words.items()},
        train_steps=train_steps,
    )
    configuration.save_operative_gin(run_dir)


def check_fixed_shapes(hparams: HParams, problems: Sequence[Problem]) -> None:
    """Checks that a step can be compiled for fixed shapes, as XLA and TPU need it.

    Raises:
      ValueError: if something would depend on values that are known at run time only.
    """
    has_experts = getattr(hparams, "use_moe", False)
    if has_experts and getattr(hparams, "expert_dispatch", "") != "capacity":
        raise ValueError(
            "--xla or --strategy=tpu came with hparam expert_dispatch='exact', where "
            "the room of an expert depends on the batch; expected fixed shapes. Set "
            "--hparams=expert_dispatch=capacity."
        )
    groups = getattr(hparams, "expert_groups", 1)
    if has_experts and groups > 1:
        raise ValueError(
            f"--xla or --strategy=tpu came with hparam expert_groups={groups}; "
            "expected 1, since one XLA program computes on one device. Set "
            "--hparams=expert_groups=1, or leave --xla out."
        )
    is_audio = any(problem.inputs.modality == AUDIO for problem in problems)
    if is_audio and hparams.audio_alignment_weight:
        raise ValueError(
            "--xla or --strategy=tpu came with hparam audio_alignment_weight="
            f"{hparams.audio_alignment_weight:g} and problems that hear; expected 0, "
            "since that loss runs on the CPU only. Set "
            "--hparams=audio_alignment_weight=0,audio_merging=false."
        )


def describe(parts: Parts) -> str:
    """Gives what is about to be trained, on what, on which devices."""
    settings, variables = parts.settings, parts.state.model.trainable_variables
    size = sum(math.prod(variable.shape) for variable in variables)
    lines = [
        f"{settings.model} ({settings.hparams_set}): {size:,} parameters in "
        f"{len(variables)} variables, on {parts.distribution.describe()}."
    ]
    for problem in parts.problems.values():
        batches = input_pipeline.describe_batches(
            problem, settings.data_dir, settings.hparams
        )
        share = parts.rates[problem.name]
        lines.append(f"  {problem.name}, {share:.1%} of the steps: {batches}")
    lines += [describe_frozen(parts.state.model, settings.hparams.freeze), parts.origin]
    return "\n".join(line for line in lines if line)
