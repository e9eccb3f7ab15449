import inspect
import signal

import pytest

from t2t_mm.bin import mm_trainer

GIVEN = ["--output_dir=/tmp/run", "--train_steps=3"]


@pytest.fixture
def trained(monkeypatch):
    """Replaces the training by a note of what it was asked for."""
    from t2t_mm import trainer

    calls = []
    endings = {"signal": None}

    def train(**settings):
        calls.append(settings)
        return trainer.TrainingResult(3, {}, endings["signal"])

    monkeypatch.setattr(trainer, "train", train)
    return calls, endings


def refused(arguments, capsys):
    assert mm_trainer.main(arguments) == 2
    return capsys.readouterr().err


def test_only_what_was_given_reaches_the_trainer(trained):
    calls, _ = trained
    assert mm_trainer.main(GIVEN) == 0
    assert calls == [{"output_dir": "/tmp/run", "train_steps": 3}]


def test_flags_reach_the_trainer_under_their_names(trained):
    calls, _ = trained
    arguments = [
        *GIVEN,
        "--model=transformer",
        "--hparams_set=transformer_tiny",
        "--hparams=dropout=0.2",
        "--problem=algorithmic_addition",
        "--data_dir=/tmp/data",
        "--tmp_dir=/tmp/downloads",
        "--generate_data",
        "--local_eval_frequency=5",
        "--eval_examples=0",
        "--rates=temperature",
        "--temperature=3",
        "--max_minutes=1.5",
        "--strategy=mirrored",
        "--precision=mixed_bfloat16",
        "--notf32",
        "--eval_early_stopping_metric=bleu",
        "--eval_early_stopping_steps=100",
        "--freeze=a{1,2}",
        "--warm_start_from=/tmp/other",
        "--check",
    ]
    assert mm_trainer.main(arguments) == 0
    assert calls == [
        {
            "output_dir": "/tmp/run",
            "train_steps": 3,
            "model": "transformer",
            "hparams_set": "transformer_tiny",
            "hparams": "dropout=0.2",
            "problem": "algorithmic_addition",
            "data_dir": "/tmp/data",
            "tmp_dir": "/tmp/downloads",
            "eval_frequency": 5,
            "eval_examples": None,
            "rates": "temperature",
            "temperature": 3.0,
            "max_minutes": 1.5,
            "strategy": "mirrored",
            "precision": "mixed_bfloat16",
            "tf32": False,
            "eval_early_stopping_metric": "bleu",
            "eval_early_stopping_steps": 100,
            "freeze": "a{1,2}",
            "warm_start_from": "/tmp/other",
            "check": True,
        }
    ]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_shows_in_the_exit_code(trained, number, code):
    _, endings = trained
    endings["signal"] = int(number)
    assert mm_trainer.main(GIVEN) == code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "No value came for --output_dir --train_steps"),
        ([*GIVEN, "--problem=algorithmic_adition"], "Nearest: algorithmic_addition"),
        ([*GIVEN, "--model=multi_model"], "Nearest: multimodel"),
        ([*GIVEN, "--hparams_set=multimodel_tinny"], "Nearest: multimodel_tiny"),
        (
            [*GIVEN, "--hparams_set=multimodel_tiny", "--hparams=hiden_size=3"],
            "hidden_size",
        ),
        ([*GIVEN, "--eval_steps=10"], "Use --eval_examples"),
        ([*GIVEN, "--schedule=evaluate"], "Use mm-eval --split=dev"),
        ([*GIVEN, "--schedule=run_std_server"], "--strategy=multi_worker on every"),
        ([*GIVEN, "--schedule=trian"], "expected one of continuous_train_and_eval"),
        (
            [*GIVEN, "--schedule=train", "--eval_examples=5"],
            "--eval_examples came with --schedule=train, which never evaluates; "
            "expected a flag that something reads. Leave out --schedule=train to "
            "evaluate, or else --eval_examples.",
        ),
        (
            [
                *(*GIVEN, "--schedule=train", "--keep_best_metric=loss"),
                *("--eval_early_stopping_steps=5", "--eval_frequency=5"),
                *("--eval_early_stopping_metric=bleu",),
                *("--eval_early_stopping_metric_delta=0.1",),
            ],
            "mm-trainer: --keep_best_metric --eval_early_stopping_steps "
            "--eval_early_stopping_metric --eval_early_stopping_metric_delta came with "
            "--schedule=train, which",
        ),
        ([*GIVEN, "--worker_gpu=4"], "Use --strategy=mirrored for several GPUs"),
        ([*GIVEN, "--use_tpu"], "Use --strategy=tpu"),
        ([*GIVEN, "--ps_replicas=2"], "Parameter servers are gone"),
        ([*GIVEN, "--worker_id=1"], "mm-make-tf-configs prints"),
        (
            [*GIVEN, "--eval_early_stopping_metric_minimize"],
            "each metric knows whether more is better",
        ),
        ([*GIVEN, "--rates=loud"], "temperature"),
        ([*GIVEN, "--train_steps=-3"], "train_steps"),
        (
            [*GIVEN, "--warm_start_from="],
            "--warm_start_from= came without a value;",
        ),
        ([*GIVEN, "--tmp_dir="], "--tmp_dir= came without a value; expected folder of"),
        ([*GIVEN, "--t2t_usr_dir="], "--t2t_usr_dir= came without a value; expected f"),
        ([*GIVEN, "--gin_file="], "--gin_file= came without a value; expected file of"),
        (
            [*GIVEN, "--gin_binding="],
            "--gin_binding= came without a value; expected one gin setting, such as "
            "train.eval_frequency=500. Give one, or leave the flag out.",
        ),
        ([*GIVEN, "--strategy="], "--strategy= came without a value; expected devices"),
        ([*GIVEN, "--check", "--profile"], "--profile came with --check or --schedule"),
    ],
)
def test_a_mistake_gets_a_message_that_helps(arguments, message, capsys):
    assert message in refused(arguments, capsys)


def test_help_names_every_flag_and_no_dropped_one(capsys):
    assert mm_trainer.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for flag in ("--train_steps", "--eval_frequency", "--generate_data", "--rates"):
        assert flag in shown
    assert "worker_gpu" not in shown


@pytest.mark.parametrize(
    ("schedule", "meaning"),
    [
        ("continuous_train_and_eval", {}),
        ("train_and_evaluate", {}),
        ("train", {"evaluate": False}),
        ("test", {"check": True}),
    ],
)
def test_schedules_of_tensor2tensor_that_train_are_understood(
    trained, schedule, meaning
):
    calls, _ = trained
    assert mm_trainer.main([*GIVEN, f"--schedule={schedule}"]) == 0
    assert calls == [{"output_dir": "/tmp/run", "train_steps": 3} | meaning]


def test_a_schedule_without_evaluations_says_when_to_save(trained):
    calls, _ = trained
    assert mm_trainer.main([*GIVEN, "--schedule=train", "--eval_frequency=7"]) == 0
    assert (calls[0]["evaluate"], calls[0]["eval_frequency"]) == (False, 7)


def test_the_help_shows_the_defaults_of_training(capsys):
    from t2t_mm import trainer

    assert mm_trainer.main(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    defaults = inspect.signature(trainer.train).parameters
    names = "eval_frequency eval_examples log_frequency keep_checkpoint_max".split()
    for name in names:
        text = shown.partition(f"--{name}= ")[2].partition(" --")[0]
        assert text.endswith(f"(default: {defaults[name].default})"), text
