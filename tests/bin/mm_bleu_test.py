import json
import shutil

import pytest
import tensorflow as tf

from t2t_mm.bin import mm_bleu

TEXTS = "The cat sat on the mat.\nGuten Morgen zusammen, liebe Leute!\n"


@pytest.fixture
def files(tmp_path):
    for name, text in (("wanted", TEXTS), ("out", TEXTS.lower()), ("in", "x\ny\n")):
        (tmp_path / f"{name}.txt").write_text(text)
    return tmp_path


def test_a_file_is_scored_with_signatures(files, capsys):
    arguments = [f"--translation={files}/out.txt", f"--reference={files}/wanted.txt"]
    assert mm_bleu.main(arguments) == 0
    bleu, uncased, chrf = capsys.readouterr().out.splitlines()
    assert bleu.startswith("bleu ") and "case:mixed" in bleu
    assert uncased.split()[:2] == ["bleu_uncased", "100.00"] and "case:lc" in uncased
    assert chrf.startswith("chrf ") and "version:" in chrf


def test_the_source_is_scored_as_it_is(files, capsys):
    arguments = [f"--translation={files}/out.txt", f"--reference={files}/wanted.txt"]
    assert mm_bleu.main([*arguments, f"--source={files}/wanted.txt"]) == 0
    assert "untranslated: bleu 100.00, bleu_uncased 100.00" in capsys.readouterr().out


def test_every_checkpoint_of_a_run_is_scored_once(
    small_run, small_zoo, tmp_path, capsys
):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    arguments = [f"--output_dir={run}", "--problem=small_reverse", "--limit=3"]
    arguments += ["--decode_hparams=max_length=3"]
    assert mm_bleu.main(arguments) == 0
    table = capsys.readouterr().out
    rows = [line.split()[0] for line in table.splitlines()]
    assert rows == ["step", "3", "5", "bleu:", "bleu_uncased:", "chrf:"]
    lines = (run / "bleu.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [one["step"] for one in records] == [3, 5]
    assert records[0]["split"] == "test" and records[0]["limit"] == 3
    assert set(records[0]["scores"]) == {"bleu", "bleu_uncased", "chrf"}
    tags = {
        value.tag
        for path in (run / "bleu").glob("events*")
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert "bleu/small_reverse/test" in tags

    assert mm_bleu.main(arguments) == 0
    assert capsys.readouterr().out == table
    assert (run / "bleu.jsonl").read_text().splitlines() == lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Neither --translation nor --output_dir with --problem came"),
        (["--output_dir=/no"], "Neither --translation nor --output_dir with --problem"),
        (["--translation=a"], "--translation=a came without --reference; expected"),
        (
            ["--translation=a", "--output_dir=b"],
            "--translation came with --output_dir; expected the one or the other",
        ),
        (
            ["--output_dir=/no", "--problem=p", "--source=a"],
            "--source and --reference: only one of them came",
        ),
        (
            ["--translation=/no/a", "--reference=/no/b"],
            "--translation=/no/a is not a file; expected one with a line for each",
        ),
        (
            ["--translation=a", "--limit=3", "--split=dev"],
            "--translation came with --split --limit; expected the one or the other.",
        ),
        (
            ["--output_dir=/no", "--problem=p", "--step=3", "--min_steps=2"],
            "--step came with --min_steps; expected the one or the other.",
        ),
        (["--min_steps=-1"], "--min_steps=-1 came; expected a non-negative integer."),
        (["--wait_minutes=nan"], "--wait_minutes=nan came; expected a number."),
        (["--bleu_variant=both"], "a flag of Tensor2Tensor that is gone. Both are"),
        (["--wait_minutes=-1"], "wait_minutes"),
    ],
)
def test_a_users_mistake_is_explained(arguments, message, capsys):
    assert mm_bleu.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_files_of_different_lengths_are_refused(files, capsys):
    (files / "out.txt").write_text("one\n")
    arguments = [f"--translation={files}/out.txt", f"--reference={files}/wanted.txt"]
    assert mm_bleu.main(arguments) == 2
    assert "1 translations came for 2 references" in capsys.readouterr().err
    arguments = [f"--translation={files}/wanted.txt", f"--reference={files}/wanted.txt"]
    assert mm_bleu.main([*arguments, f"--source={files}/out.txt"]) == 2
    printed = capsys.readouterr()
    assert "out.txt has 1 lines and --reference=" in printed.err and not printed.out
