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

from t2t_mm.bin import command, threads

_STRATEGY = (
    "Use --strategy=mirrored for several GPUs, multi_worker for several machines."
)
_SEARCH = "Call t2t_mm.train(...) from a search library."
_TF_CONFIG = "mm-make-tf-configs prints the TF_CONFIG that says it; see --strategy."
_DROPPED = {
    "autotune_max_trials": _SEARCH,
    "autotune_maximize": _SEARCH,
    "autotune_objective": _SEARCH,
    "autotune_parallel_trials": _SEARCH,
    "cloud_mlengine": "Run mm-trainer on the machine itself; see docs/distributed.md.",
    "dbgprofile": "Use --profile.",
    "eval_early_stopping_metric_minimize": (
        "Leave it out: each metric knows whether more is better."
    ),
    "eval_run_autoregressive": "Every evaluation scores decoded answers already.",
    "eval_steps": "Use --eval_examples, which counts examples, not batches.",
    "eval_throttle_seconds": "Use --eval_frequency; it is kept exactly.",
    "eval_timeout_mins": "Evaluation is part of training and waits for nothing.",
    "eval_use_test_set": "Use mm-eval, which scores the test splits.",
    "gpu_automatic_mixed_precision": "Use --precision=mixed_bfloat16.",
    "gpu_order": "Order them by CUDA_VISIBLE_DEVICES in the environment.",
    "hparams_range": _SEARCH,
    "iterations_per_loop": "Leave it out: a step is one call on every device.",
    "keep_checkpoint_every_n_hours": "Use --keep_checkpoint_max; the best stays, too.",
    "log_step_count_steps": "Use --log_frequency.",
    "optionally_use_dist_strat": _STRATEGY,
    "ps_gpu": "Parameter servers are gone: use --strategy=multi_worker.",
    "ps_replicas": "Parameter servers are gone: use --strategy=multi_worker.",
    "save_checkpoints_secs": "Each evaluation saves: use --eval_frequency.",
    "sync": "Leave it out: all workers take each step together.",
    "tfdbg": "Use --debug, and tf.debugging from Python.",
    "tpu_num_shards": "Leave it out: all cores of the TPU are used.",
    "use_tpu": "Use --strategy=tpu.",
    "worker_gpu": _STRATEGY,
    "worker_gpu_memory_fraction": "Leave it out: GPU memory is taken as it is needed.",
    "worker_id": _TF_CONFIG,
    "worker_replicas": _TF_CONFIG,
    "xla_compile": "Use --xla.",
    "xla_jit_level": "Use --xla.",
}
# What mm-trainer does is some of Tensor2Tensor's schedules; others are other commands.
_SCHEDULES = {
    "continuous_train_and_eval": {},
    "train_and_evaluate": {},
    "train_eval_and_decode": {},
    "train": {"evaluate": False},
    "test": {"check": True},
}
_OTHER_SCHEDULES = {
    "evaluate": "mm-eval --split=dev",
    "evaluate_on_train_data": "mm-eval --split=train",
    "continuous_eval": "mm-eval --split=dev, again after each checkpoint",
    "continuous_eval_on_train_data": "mm-eval --split=train",
    "decode": "mm-decoder",
    "continuous_decode": "mm-decoder",
    "continuous_decode_on_train_data": "mm-decoder --split=train",
    "continuous_decode_on_eval_data": "mm-decoder --split=dev",
    "continuous_decode_from_file": "mm-decoder --decode_from_file=FILE",
    "run_std_server": (
        "mm-trainer --strategy=multi_worker on every machine; no servers are needed"
    ),
}
# What only evaluations read; --eval_frequency says when to save, too.
_OF_EVALUATIONS = (
    "eval_examples keep_best_metric eval_early_stopping_steps "
    "eval_early_stopping_metric eval_early_stopping_metric_delta"
).split()
# Flags that go to `trainer.train` under their own name, where they are given.
_PASSED_ON = (
    "output_dir model hparams_set hparams problem data_dir train_steps random_seed "
    "eval_frequency eval_examples log_frequency keep_checkpoint_max rates temperature "
    "max_minutes warm_start_from strategy tpu_name precision tf32 xla keep_best_metric "
    "eval_early_stopping_steps eval_early_stopping_metric "
    "eval_early_stopping_metric_delta profile check freeze"
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
        (
            "eval_frequency",
            "steps between evaluations, each saves; 0: at the end only (default: 1000)",
        ),
        (
            "eval_examples",
            "dev examples of each problem to evaluate; 0: all (default: 200)",
        ),
        ("log_frequency", "steps between lines of the log (default: 50)"),
        (
            "keep_checkpoint_max",
            "newest checkpoints to keep, beside the best (default: 3)",
        ),
        (
            "eval_early_stopping_steps",
            "end when a metric has not improved for so many steps (default: never)",
        ),
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
        (
            "eval_early_stopping_metric_delta",
            "by how much that metric must improve to count (default: 0)",
        ),
    ):
        flags.DEFINE_float(name, None, text, lower_bound=0, flag_values=values)
    _define_other_flags(values)
    threads.define_thread_flags(values)
    command.define_dropped_flags(values, _DROPPED)


def _define_other_flags(values: flags.FlagValues) -> None:
    for name, text in (
        (
            "keep_best_metric",
            "what makes an evaluation the best: loss, accuracy, bleu, PROBLEM/bleu ... "
            "(default: loss)",
        ),
        ("eval_early_stopping_metric", "the metric that must improve (default: loss)"),
        (
            "strategy",
            "devices: auto, one_device, mirrored, multi_worker or tpu (default: auto)",
        ),
        ("tpu_name", "name or address of the TPU, with --strategy=tpu"),
        ("precision", "float32 or mixed_bfloat16 (default: float32)"),
        (
            "freeze",
            "regular expression; variables whose path it finds stay as they are",
        ),
        (
            "schedule",
            "train: never evaluate; others of Tensor2Tensor are other commands",
        ),
    ):
        flags.DEFINE_string(name, None, text, flag_values=values)
    command.define_path(
        values,
        "warm_start_from",
        None,
        "a run or checkpoint; a new run starts from those of its weights that fit",
    )
    for name, text in (
        ("tf32", "let GPUs multiply float32 with 10 bits of mantissa (default: yes)"),
        ("xla", "compile steps with XLA, for batches of few fixed shapes"),
        ("profile", "record steps 11 to 15 for TensorBoard's profiler"),
        ("check", "try out two steps of everything, report, leave nothing behind"),
    ):
        flags.DEFINE_bool(name, None, text, flag_values=values)


def train(values: flags.FlagValues) -> int:
    """Trains; gives 128 plus the signal's number where one ended it early."""
    _refuse_empty(values)
    command.load_zoo(values.t2t_usr_dir)
    from_schedule = _read_schedule(values.schedule)
    if not from_schedule.get("evaluate", True):
        _refuse_unread(values)
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
    given |= from_schedule
    if given.get("check") and given.get("profile"):
        raise ValueError(
            "--profile came with --check or --schedule=test; expected one of them, "
            "since a check leaves nothing behind. Leave --profile out."
        )
    result = trainer.train(**given)
    return 128 + result.signal if result.signal else 0


def _refuse_empty(values: flags.FlagValues) -> None:
    """Refuses --warm_start_from= and the like: what a shell makes of an unset name."""
    shared = ("tmp_dir", "t2t_usr_dir", "gin_file", "gin_binding")
    for name in (*_PASSED_ON, *shared):
        if values[name].present and values[name].value in ("", [""]):
            raise ValueError(
                f"--{name}= came without a value; expected "
                f"{values[name].help.partition(';')[0]}. Give one, or leave the flag "
                "out."
            )


def _read_schedule(name: str | None) -> dict[str, bool]:
    """Gives what a schedule of Tensor2Tensor means here.

    Raises:
      ValueError: if it is another command's work, or unknown.
    """
    if name is None:
        return {}
    if name in _OTHER_SCHEDULES:
        raise ValueError(
            f"--schedule={name} came; mm-trainer trains, with evaluations in between. "
            f"Use {_OTHER_SCHEDULES[name]}."
        )
    if name not in _SCHEDULES:
        raise ValueError(
            f"--schedule={name} came; expected one of {', '.join(_SCHEDULES)}. "
            "Leave it out to train and evaluate."
        )
    return _SCHEDULES[name]


def _refuse_unread(values: flags.FlagValues) -> None:
    """Refuses flags of evaluations where none are made."""
    unread = [f"--{name}" for name in _OF_EVALUATIONS if values[name].present]
    if unread:
        raise ValueError(
            f"{' '.join(unread)} came with --schedule={values.schedule}, which never "
            "evaluates; expected a flag that something reads. Leave out "
            f"--schedule={values.schedule} to evaluate, or else {' '.join(unread)}."
        )


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
