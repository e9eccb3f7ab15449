"""Trains a network on one problem or many, and goes on where it was stopped.

mm-trainer --generate_data --problem=eight_small --model=multimodel
    --hparams_set=multimodel_tiny --data_dir=~/data --output_dir=~/runs/eight
    --train_steps=4000

mm-trainer --output_dir=~/runs/eight --train_steps=8000        go on with a run

Each step trains one problem, drawn by the rates of the mixture. Ctrl-C saves; the same
command goes on from there, to the same network as if it had never stopped. What a flag
leaves out is as the run in --output_dir has it. mm-report draws a run while it trains.
"""

import sys
from collections.abc import Sequence

from absl import flags

from t2t_mm.bin import command

_ONE_DEVICE = "This version trains on one device; leave it out."
_DROPPED = {
    "autotune_max_trials": "Call t2t_mm.trainer.train(...) from a search library.",
    "autotune_maximize": "Call t2t_mm.trainer.train(...) from a search library.",
    "autotune_objective": "Call t2t_mm.trainer.train(...) from a search library.",
    "autotune_parallel_trials": "Call t2t_mm.trainer.train(...) from a search library.",
    "cloud_mlengine": "Run mm-trainer on the machine itself.",
    "dbgprofile": "Use TensorFlow's profiler around t2t_mm.trainer.train(...).",
    "eval_early_stopping_metric": "The best checkpoint is kept: mm-eval --step=best.",
    "eval_early_stopping_steps": "The best checkpoint is kept: mm-eval --step=best.",
    "eval_run_autoregressive": "Every evaluation scores decoded answers already.",
    "eval_steps": "Use --eval_examples, which counts examples, not batches.",
    "eval_throttle_seconds": "Use --eval_frequency; it is kept exactly.",
    "eval_use_test_set": "Use mm-eval, which scores the test splits.",
    "gpu_automatic_mixed_precision": "This version computes in float32; leave it out.",
    "gpu_order": _ONE_DEVICE,
    "hparams_range": "Call t2t_mm.trainer.train(...) from a search library.",
    "iterations_per_loop": _ONE_DEVICE,
    "keep_checkpoint_every_n_hours": "Use --keep_checkpoint_max; the best stays, too.",
    "log_step_count_steps": "Use --log_frequency.",
    "optionally_use_dist_strat": _ONE_DEVICE,
    "ps_gpu": _ONE_DEVICE,
    "ps_replicas": _ONE_DEVICE,
    "save_checkpoints_secs": "Each evaluation saves: use --eval_frequency.",
    "schedule": (
        "mm-trainer trains and evaluates; mm-eval scores test splits; mm-decoder "
        "decodes."
    ),
    "sync": _ONE_DEVICE,
    "tfdbg": "Use --debug, and tf.debugging from Python.",
    "tpu_num_shards": _ONE_DEVICE,
    "use_tpu": _ONE_DEVICE,
    "worker_gpu": _ONE_DEVICE,
    "worker_gpu_memory_fraction": _ONE_DEVICE,
    "worker_id": _ONE_DEVICE,
    "worker_replicas": _ONE_DEVICE,
    "xla_compile": "This version runs graphs without XLA; leave it out.",
    "xla_jit_level": "This version runs graphs without XLA; leave it out.",
}
# Flags that go to `trainer.train` under their own name, where they are given.
_PASSED_ON = (
    "output_dir model hparams_set hparams problem data_dir train_steps random_seed "
    "eval_frequency eval_examples log_frequency keep_checkpoint_max rates temperature "
    "max_minutes"
).split()


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of mm-trainer."""
    command.define_problem_flags(values)
    command.define_model_flags(values)
    command.define_run_flags(values)
    flags.DEFINE_bool(
        "generate_data",
        False,
        "make the data that is not there, as mm-datagen does",
        flag_values=values,
    )
    for name, text in (
        ("train_steps", "updates in total, over all calls"),
        ("random_seed", "of weights, data order, mixture and dropout (default: 1)"),
        ("eval_frequency", "steps between evaluations, each saves; 0: at the end only"),
        ("eval_examples", "dev examples of each problem to evaluate; 0: all"),
        ("log_frequency", "steps between lines of the log"),
        ("keep_checkpoint_max", "newest checkpoints to keep, beside the best"),
    ):
        flags.DEFINE_integer(name, None, text, lower_bound=0, flag_values=values)
    flags.DEFINE_alias("local_eval_frequency", "eval_frequency", flag_values=values)
    flags.DEFINE_enum(
        "rates",
        None,
        ["explicit", "equal", "proportional", "temperature"],
        "share of steps of each problem: the mixture's own, or by a rule from sizes",
        flag_values=values,
    )
    for name, text in (
        ("temperature", "of --rates=temperature; 1: proportional, large: equal"),
        ("max_minutes", "evaluate, save and stop after this time"),
    ):
        flags.DEFINE_float(name, None, text, lower_bound=0, flag_values=values)
    command.define_dropped_flags(values, _DROPPED)


def train(values: flags.FlagValues) -> int:
    """Trains; gives 128 plus the signal's number where one ended it early."""
    command.load_zoo(values.t2t_usr_dir)
    _check_names(values)
    command.start_tensorflow(values)
    from t2t_mm import trainer

    command.read_gin(values)
    given = {name: values[name].value for name in _PASSED_ON}
    given = {name: value for name, value in given.items() if value not in (None, "")}
    if given.get("eval_examples") == 0:
        given["eval_examples"] = None
    if values.generate_data:
        given["tmp_dir"] = values.tmp_dir
    result = trainer.train(**given)
    return 128 + result.signal if result.signal else 0


def _check_names(values: flags.FlagValues) -> None:
    """Refuses wrong names before TensorFlow is imported, which takes seconds."""
    from t2t_mm import configuration, mixture, registry

    if values.problem:
        mixture.parse_problems(values.problem)
    if values.model and values.model not in registry.models:
        registry.models.get(values.model)
    if values.hparams_set:
        named = configuration.named_hparams(values.hparams_set)
        configuration.parse_overrides(values.hparams, named)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives the exit code."""
    return command.run(
        "mm-trainer",
        train,
        __doc__,
        define_flags,
        argv,
        required=("output_dir", "train_steps"),
    )


if __name__ == "__main__":
    sys.exit(main())
