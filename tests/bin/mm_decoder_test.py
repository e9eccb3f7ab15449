"""mm-decoder on a run of four small problems: files, splits, the prompt, mistakes."""

import io
import json
import sys

import pytest
import soundfile
from PIL import Image

from t2t_mm import inference
from t2t_mm.bin import mm_decoder, prompt
from t2t_mm.inference import load_run

SHORT = "--decode_hparams=max_length=5"


@pytest.fixture(scope="module")
def run(small_run, small_zoo):
    return load_run(small_run)


@pytest.fixture
def decode(run, small_run, capsys, monkeypatch):
    """Calls mm-decoder on the run; gives its code, what it wrote, and what it said."""

    def load_once(path, *, data_dir=None, step=None):
        is_known = (path, data_dir, step) == (small_run, None, None)
        return run if is_known else load_run(path, data_dir=data_dir, step=step)

    monkeypatch.setattr(inference, "load_run", load_once)

    def call(problem, *arguments, typed=None):
        if typed is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed)))
        flags = [f"--output_dir={small_run}", f"--problem={problem}", *arguments]
        code = mm_decoder.main(flags)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


LINES = ["a b c d e a b c", "", "e", "a\u2028b", "c d", "b b b"]


def test_a_file_is_answered_line_by_line_in_its_order(decode, run, tmp_path):
    (tmp_path / "in.txt").write_text("".join(f"{line}\n" for line in LINES))
    expected = run.generate("small_reverse", LINES, decode_hparams="max_length=5")
    files = [f"--decode_from_file={tmp_path}/in.txt", "--chunk_lines=4"]
    code, out, err = decode("small_reverse", SHORT, *files)
    assert (code, err) == (0, "")
    written = [
        line.replace("\\n", "\n").replace("\\r", "\r").replace("\\\\", "\\")
        for line in out.removesuffix("\n").split("\n")
    ]
    assert written == [answer.output for answer in expected]

    path = tmp_path / "out.txt"
    code, nothing, err = decode(
        "small_reverse", SHORT, *files, f"--decode_to_file={path}"
    )
    assert (code, nothing) == (0, "")
    assert err == f"6 lines written to {path}\n"
    assert path.read_bytes().decode() == out
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in.txt", "out.txt"]


def test_a_killed_call_goes_on(decode, tmp_path, monkeypatch):
    from t2t_mm.inference import Run

    (tmp_path / "in.txt").write_text("a\nb\nc\nd\n")
    flags = [SHORT, f"--decode_from_file={tmp_path}/in.txt", "--chunk_lines=2"]
    _, whole, _ = decode("small_reverse", *flags)
    flags.append(f"--decode_to_file={tmp_path}/out.txt")
    generate = Run.generate

    def dies(self, problem, inputs, **options):
        if "c" in inputs:
            raise KeyboardInterrupt
        return generate(self, problem, inputs, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "generate", dies)
        assert decode("small_reverse", *flags)[0] == 130
    assert not (tmp_path / "out.txt").exists()
    record = json.loads((tmp_path / "out.txt.progress.json").read_text())
    assert record["lines"] == 2

    code, _, err = decode("small_reverse", *flags, "--decode_hparams=max_length=6")
    assert code == 2
    assert "was begun with other settings: max_length (then 5, now 6). Exp" in err
    code, _, err = decode("small_reverse", *flags)
    assert code == 0 and f"Going on after line 2 of {tmp_path}/in.txt." in err
    assert (tmp_path / "out.txt").read_bytes().decode() == whole


def test_n_best_answers_stand_in_columns_with_their_scores(decode, run):
    settings = "beam_size=3,num_return=2,max_length=4"
    _, out, _ = decode(
        "small_reverse", f"--decode_hparams={settings}", "--scores", typed=b"a b\n"
    )
    columns = out.rstrip("\n").split("\t")
    best = run.generate("small_reverse", "a b", decode_hparams=settings).best_few
    assert [float(one) for one in columns[::2]] == pytest.approx(
        [one.score for one in best], abs=1e-3
    )
    assert len(columns) == 4


def test_given_targets_are_scored(decode, run, tmp_path):
    (tmp_path / "pairs.tsv").write_text("a b\tb a\nc\tc c c\n")
    code, out, _ = decode("small_reverse", f"--score_file={tmp_path}/pairs.tsv")
    expected = run.score("small_reverse", ["a b", "c"], ["b a", "c c c"])
    assert code == 0
    assert [float(line) for line in out.splitlines()] == pytest.approx(
        [float(one) for one in expected], abs=1e-4
    )


def test_a_pair_without_a_tab_is_named(decode, tmp_path):
    (tmp_path / "pairs.tsv").write_text("a b\tb a\nc\n")
    code, _, err = decode("small_reverse", f"--score_file={tmp_path}/pairs.tsv")
    assert code == 2
    assert "Line 2 of" in err and "has 0 tabs; expected one, between input" in err


def test_lists_of_files_are_read_from_their_folder(decode, run, tmp_path):
    Image.new("RGB", (17, 19), (200, 30, 30)).save(tmp_path / "red.png")
    soundfile.write(tmp_path / "low.flac", [0.0, 0.5] * 700, 16000)
    for problem, name in (("small_colours", "red.png"), ("small_tones", "low.flac")):
        (tmp_path / "list.txt").write_text(f"{name}\n")
        code, out, _ = decode(problem, f"--decode_from_file={tmp_path}/list.txt", SHORT)
        expected = run.generate(
            problem, str(tmp_path / name), decode_hparams="max_length=5"
        )
        assert (code, out.rstrip("\n")) == (
            0,
            mm_decoder._escaped(str(expected), is_column=False),
        )
    code, _, err = decode("small_tones", typed=b"nowhere.wav\n")
    assert code == 2 and "nowhere.wav is not a file; expected the path of a s" in err


def test_another_command_asks_for_another_product(decode, run, tmp_path):
    path = tmp_path / "red.png"
    Image.new("RGB", (17, 19), (200, 30, 30)).save(path)
    typed = f"{path}\n".encode()
    options = {"command": "To-Reversed", "decode_hparams": "max_length=5"}
    expected = run.generate("small_colours", path, **options)
    code, out, _ = decode("small_colours", SHORT, "--command=To-Reversed", typed=typed)
    assert code == 0
    assert out.rstrip("\n") == mm_decoder._escaped(str(expected), is_column=False)


def test_a_split_is_shown_with_inputs_and_references(decode, tmp_path):
    code, out, _ = decode("small_captions", "--split=test", "--limit=2", SHORT)
    assert code == 0
    assert out.count("inputs     (image)") == out.count("reference  all ") == 2
    path = tmp_path / "out.txt"
    decode("small_captions", "--split=test", SHORT, f"--decode_to_file={path}")
    assert len(path.read_text().split("\n")) == 5 + 1


def test_a_prefix_is_how_every_answer_begins(decode):
    _, out, _ = decode("small_captions", "--split=test", "--prefix=all", SHORT)
    outputs = [line[11:] for line in out.split("\n") if line.startswith("output ")]
    assert outputs and all(text.startswith("all") for text in outputs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--split=dev", "--decode_from_file=a"],
            "--split and --decode_from_file came",
        ),
        (["--score_file=a", "--split=dev"], "--split and --score_file came together"),
        (["--decode_from_file=/no/in"], "--decode_from_file=/no/in is not a file"),
        (["--score_file=/no/in"], "--score_file=/no/in is not a file; expected one"),
        (["--split=tset"], "has no split 'tset'; expected one of train, dev, test"),
        (["--decode_hparams=beam_sise=4"], "Nearest: beam_size"),
        (["--decode_hparams=write_beam_scores=True"], "is gone. Use --scores, which"),
        (["--decode_hparams=extra_length=9"], "is gone. Set max_length, the most"),
        (["--batch_size=9"], "is gone. Use --decode_hparams=batch_size=64."),
        (["--decode_shards=2"], "is gone. Cut the input with split(1)"),
        (["--step=x"], "--step=x came; expected the number of a checkpoint's step"),
        (["--step=4"], "has no checkpoint of step 4; it has: 3, 5"),
        (["--step=5", "--checkpoint_path=a"], "and --step=5 came together; expected"),
        (["--command=To-Latin"], "Command 'To-Latin' came; this model knows To-Cat"),
        (["--gin_binding=hparams.hidden_size=5"], "Nothing has read the gin bindings"),
        (["--problem=image_emoji"], "knows no problem 'image_emoji'; it was trained"),
        (["--data_dir=/nowhere"], "/nowhere"),
        (["--chunk_lines=0"], "--chunk_lines=0 came; expected a positive integer."),
        (["--step=\u00b2"], "--step=\u00b2 came; expected the number of a"),
        (["--checkpoint_path=/no"], "came with --output_dir="),
        (
            ["--decode_to_file=/"],
            "--decode_to_file=/ is a folder; expected a place for",
        ),
        (
            ["--decode_to_file=/dev/null/x"],
            "--decode_to_file=/dev/null/x cannot be: /dev/null is no folder",
        ),
        (
            [f"--score_file={__file__}", "--scores"],
            "--score_file came with --prefix, --scores or --decode_hparams; expected",
        ),
        (
            [f"--decode_from_file={__file__}", f"--decode_to_file={__file__}"],
            "is the file of the inputs; expected another",
        ),
    ],
)
def test_a_users_mistake_is_explained(decode, arguments, message):
    code, _, err = decode("small_reverse", *arguments, typed=b"a\n")
    assert code == 2
    assert message in err and "Traceback" not in err


def test_without_a_run_the_message_says_so(capsys):
    assert mm_decoder.main(["--problem=image_emoji"]) == 2
    assert "No value came for --output_dir. Expected: --o" in capsys.readouterr().err


def test_a_checkpoint_is_enough(small_run, small_zoo, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n")))
    path = f"--checkpoint_path={small_run}/best/ckpt-3"
    assert mm_decoder.main([path, "--problem=small_reverse", SHORT]) == 0
    assert capsys.readouterr().out.endswith("\n")


@pytest.fixture
def talk(run, capsys, monkeypatch, tmp_path):
    """Types lines into the prompt; gives what it printed."""
    from t2t_mm.decode_settings import DecodeHParams

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def call(*lines, **options):
        typed = iter(lines)

        def read(shown):
            try:
                return next(typed)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr("builtins.input", read)
        settings = DecodeHParams(max_length=4)
        prompt.Prompt(run, "small_reverse", settings, None, **options).converse()
        return capsys.readouterr().out

    return call


def test_the_prompt_answers_and_changes_what_it_asks(talk, run, tmp_path):
    path = tmp_path / "red.png"
    Image.new("RGB", (17, 19), (200, 30, 30)).save(path)
    shown = talk(
        *("a b", ":decode max_length=4,beam_size=2,num_return=2", "a b"),
        *(":problem small_colours", str(path), "nowhere.png", ":command To-English"),
        *(":problem", ":command To-Latin", ":decode beam=3", ":set", ":quit", "a b"),
    )
    assert "small_reverse at step 5. Type text; an empty line ends" in shown
    assert str(run.generate("small_reverse", "a b", decode_hparams="max_length=4"))
    assert "small_colours at step 5. Type the path of a file" in shown
    assert all(f"%  {label}" in shown for label in ("red", "green", "blue"))
    assert "nowhere.png is not a file; expected the path of a picture" in shown
    assert "small_colours, To-English at step 5." in shown
    assert "  small_tones\n" in shown
    assert "Command 'To-Latin' came; this model knows" in shown
    assert "Nearest: beam_size" in shown
    assert "There is no :set; expected one of these:\n  :problem NAME" in shown


def test_prefix_and_scores_count_at_the_prompt(talk, run):
    shown = talk("a b", prefix="c", with_scores=True)
    answer = run.generate(
        "small_reverse", "a b", prefix="c", decode_hparams="max_length=4"
    )
    assert f"{answer.score:8.2f}  {answer.output}" in shown
    assert answer.output.startswith("c")


def test_an_empty_line_ends_the_prompt(talk):
    assert talk("", "a b").count("\n") == 1


def test_the_prompt_remembers_between_calls(talk, tmp_path, monkeypatch):
    readline = pytest.importorskip("readline")
    readline.clear_history()
    readline.add_history("typed before")
    talk("")
    readline.clear_history()
    talk("")
    assert readline.get_history_item(1) == "typed before"
    assert (tmp_path / "state" / "t2t_mm" / "history").exists()
    readline.clear_history()
