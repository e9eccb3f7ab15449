"""mm-eval from a trained run to its table, its file and the report."""

import json

import pytest

from t2t_mm import problem, registry
from t2t_mm.bin import command, mm_eval, mm_report

COUNTS = {"train": 13, "dev": 3, "test": 7, "test_far": 2}


class ToyCopy(problem.Problem):
    """A few letters to the same letters."""

    inputs = problem.Feature("text", vocabulary="bytes")
    targets = problem.Feature("text", vocabulary="bytes")
    command = "To-Copy"
    metrics = ("exact_match", "cer")
    test_splits = ("test", "test_far")
    baseline = "copy"

    def generate(self, split, tmp_dir):
        """Yields one letter, two letters, ..."""
        for number in range(COUNTS[split]):
            text = "xyz"[number % 3] * (number % 3 + 1)
            yield {"inputs": text, "targets": text}


class ToySize(ToyCopy):
    """A few letters to whether they are many."""

    targets = problem.Feature("class_label", vocabulary="size", labels=("few", "many"))
    command = "To-Size"
    metrics = ()
    baseline = None

    def generate(self, split, tmp_dir):
        """Yields a class for the texts of ToyCopy."""
        for example in super().generate(split, tmp_dir):
            size = "many" if len(example["inputs"]) > 2 else "few"
            yield {"inputs": example["inputs"], "targets": size}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run of two steps on both problems."""
    command.load_zoo()
    from t2t_mm import datagen, trainer

    folder = tmp_path_factory.mktemp("mm_eval")
    names, data_dir = ["toy_copy", "toy_size"], str(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        entries = dict(registry.problems._entries)
        patch.setattr(registry.problems, "_entries", entries)
        for one in (ToyCopy, ToySize):
            registry.register_problem(one)
        datagen.generate_data(
            names, data_dir, str(folder), num_processes=0, progress=False
        )
        trainer.train(
            output_dir=str(folder / "run"),
            train_steps=2,
            model="transformer",
            hparams_set="transformer_tiny",
            hparams="hidden_size=8,num_heads=2,filter_size=11,num_encoder_layers=1,"
            "num_decoder_layers=1",
            problem=",".join(names),
            data_dir=data_dir,
            eval_frequency=0,
            progress=False,
        )
        yield str(folder / "run")


def evaluated(run_dir):
    with open(f"{run_dir}/eval.json", encoding="utf-8") as file:
        return json.load(file)


def test_scores_add_up_in_one_file_and_reach_the_report(run_dir, capsys):
    arguments = [f"--output_dir={run_dir}", "--num_samples=2"]
    assert mm_eval.main([*arguments, "--problem=toy_copy"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["problem", "examples", "metric", "score", "baseline"]
    assert table[1].startswith("toy_copy") and " 100.0 %" in table[1]
    assert table[2].split()[:2] == ["test_far", "2"]
    assert list(evaluated(run_dir)["problems"]) == ["toy_copy"]

    assert mm_eval.main([*arguments, "--problem=toy_size", "--split=dev"]) == 0
    assert "n/a" in capsys.readouterr().out
    record = evaluated(run_dir)
    assert list(record["problems"]) == ["toy_copy", "toy_size"]
    assert (record["step"], record["model"]) == (2, "transformer")
    assert record["parameters"] > 100
    result = record["problems"]["toy_copy"]["test"]
    assert result["examples"] == 7 and len(result["samples"]) == 2
    assert result["baseline"] == {
        "name": "copy",
        "metrics": {"exact_match": 1.0, "cer": 0.0},
    }
    assert record["problems"]["toy_size"]["dev"]["baseline"] is None

    assert mm_report.main([run_dir]) == 0
    with open(f"{run_dir}/report.html", encoding="utf-8") as file:
        page = file.read()
    assert "toy_copy" in page and "test_far" in page
    assert "Better than its baseline on 0 of 1 problems" in page


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--split=tset", "no split 'tset'; expected one of train, dev, test"),
        ("--problem=algorithmic_sort_letters", "knows no problem"),
        ("--problem=toy_cpoy", "knows no problem 'toy_cpoy'; it was trained on toy_c"),
        ("--problem=,", "--problem=, names no problem; expected one of toy_copy"),
        ("--step=99", "no checkpoint of step 99; it has: 2"),
        ("--step=last", "expected the number of a checkpoint's step, or best"),
        ("--limit=0", "limit"),
        ("--checkpoint_path=/nowhere/x", "expected a checkpoint of that run. Leave"),
        ("--decode_hparams=beam_sise=4", "Nearest: beam_size"),
        ("--decode_hparams=return_beams=True", "is gone. Set num_return to the"),
        ("--decode_limit=0", "decode_limit"),
        ("--gin_binding=hparams.hidden_size=5", "Nothing has read the gin bindings"),
        ("--data_dir=/nowhere", "/nowhere"),
    ],
)
def test_a_users_mistake_is_explained(run_dir, capsys, flag, message):
    assert mm_eval.main([f"--output_dir={run_dir}", flag]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert mm_eval.main([f"--output_dir={tmp_path}"]) == 2
    assert "train first" in capsys.readouterr().err
