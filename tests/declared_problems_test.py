import json
import pathlib
import re

import numpy as np
import pytest
from fake_datasets import make_saved_dataset, make_tfds, png

from t2t_mm import declared_problems, media, mixture, registry
from t2t_mm.bin import mm_datagen, mm_decoder, mm_eval, mm_trainer
from t2t_mm.problem import get_problem

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "declared_problems.md"
SMALL = (
    "hidden_size=16,num_heads=2,filter_size=16,image_stages=1,image_filters=2,"
    "batch_examples=4"
)


@pytest.fixture(autouse=True)
def registries(own_registries):
    """What a test declares is gone after it."""


def toml_of_the_page():
    return re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.fixture
def folder(tmp_path):
    """The data of the page, small."""
    rng = np.random.default_rng(0)
    for label, brightness in (("cat", 60), ("dog", 190)):
        (tmp_path / "pets" / label).mkdir(parents=True)
        for number in range(30):
            pixels = rng.normal(brightness, 20, (7, 5, 3)).clip(0, 255)
            path = tmp_path / "pets" / label / f"{number}.png"
            path.write_bytes(png(pixels.astype(np.uint8)))
    pairs = [f"the dog {number}\tder Hund {number}" for number in range(80)]
    table = "\n".join(["english\tgerman", *pairs])
    (tmp_path / "sentences.tsv").write_text(table)
    (tmp_path / "joint.toml").write_text(toml_of_the_page()[0])
    return tmp_path


def declared(folder, text, name="mine"):
    path = folder / f"{name}.toml"
    path.write_text(text)
    found = mixture.parse_problems(str(path))
    return get_problem(found.problems[0])


def test_the_walk_through_of_the_page_works_from_files_to_answers(folder, capsys):
    made, run = f"--data_dir={folder / 'made'}", f"--output_dir={folder / 'run'}"
    toml = f"--problem={folder / 'joint.toml'}"
    tmp = f"--tmp_dir={folder / 'tmp'}"
    assert mm_datagen.main([toml, made, tmp, "--num_processes=1"]) == 0
    table = capsys.readouterr().out
    assert re.search(r"pets +train \d+, dev \d+, test \d+", table)
    arguments = ["--model=transformer", "--hparams_set=transformer_tiny"]
    arguments += [f"--hparams={SMALL}", "--train_steps=2", "--eval_examples=1"]
    assert mm_trainer.main([toml, made, run, *arguments]) == 0
    picture = folder / "some.png"
    picture.write_bytes((folder / "pets" / "cat" / "3.png").read_bytes())
    (folder / "joint.toml").unlink()
    (folder / "sentences.tsv").rename(folder / "elsewhere.tsv")
    for name in ("pets", "sentences"):
        registry.problems.forget(name)
    questions, answers = folder / "questions", folder / "answers"
    questions.write_text(f"{picture}\n")
    files = [f"--decode_from_file={questions}", f"--decode_to_file={answers}"]
    assert mm_decoder.main([run, "--problem=pets", *files]) == 0
    assert answers.read_text().split()[0] in ("cat", "dog")
    assert mm_eval.main([run, "--problem=sentences", "--limit=2"]) == 0
    (folder / "joint.toml").write_text(toml_of_the_page()[0])
    assert mm_decoder.main([run, toml, *files]) == 2
    message = "joint.toml declares pets, sentences; one problem was expected"
    assert message in capsys.readouterr().err
    assert mm_eval.main([run, toml, "--limit=2"]) == 0
    assert "sentences" in capsys.readouterr().out
    assert mm_trainer.main([run, "--train_steps=3", "--eval_examples=1"]) == 0


def test_pictures_are_dealt_out_and_features_follow(folder):
    names = mixture.parse_problems(str(folder / "joint.toml")).problems
    assert names == ("pets", "sentences")
    pets, sentences = map(get_problem, names)
    assert pets.targets.labels == ("cat", "dog")
    assert (pets.inputs.height, pets.inputs.width) == (64, 64)
    assert sentences.inputs.vocabulary == sentences.targets.vocabulary == "joint"
    assert sentences.command == "To-German"
    assert pets.splits == ("train", "dev", "test")
    sizes = [len(list(pets.generate(split, ""))) for split in pets.splits]
    assert sum(sizes) == 60
    assert min(sizes) > 0


def test_rates_and_vocabularies_of_the_page_are_read(folder):
    text = toml_of_the_page()
    (folder / "joint.toml").write_text(text[0] + text[2])
    found = mixture.parse_problems(str(folder / "joint.toml"))
    assert found.problems == ("pets", "sentences", "translate_ende_home")
    assert found.rates == {"pets": 1, "sentences": 3, "translate_ende_home": 2}
    assert registry.vocabularies.get("joint")().size == 4096


def test_the_sounds_of_the_page_are_read(tmp_path):
    (tmp_path / "wavs").mkdir()
    sound = media.wav_file(np.zeros(800), 8000)
    (tmp_path / "wavs" / "a1.wav").write_bytes(sound)
    for split in ("train", "dev", "test"):
        row = "file,transcript\na1,hello world\n"
        (tmp_path / f"{split}.csv").write_text(row)
    problem = declared(tmp_path, toml_of_the_page()[1])
    assert problem.inputs.sample_rate == 16000
    [example] = problem.generate("dev", "")
    assert example["targets"] == "hello world"
    assert len(example["inputs"]) == 44 + 2 * 1600


def test_every_key_that_the_page_lists_is_one(folder):
    from t2t_mm.declarations import KEYS

    rows = re.findall(r"^\| (`.*?) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    named = {word for row in rows for word in re.findall(r"`(\w+)[ `]", row)}
    assert named >= set(KEYS)


def test_parallel_text_and_named_splits(tmp_path):
    for split in ("train", "dev", "test_far"):
        (tmp_path / f"{split}.en").write_text(f"a {split}\nb\n")
        (tmp_path / f"{split}.de").write_text(f"A {split}\nB\n")
    pairs = [f'{s} = ["{s}.en", "{s}.de"]' for s in ("train", "dev", "test_far")]
    text = f'kind = "text_to_text"\nparallel = {{{", ".join(pairs)}}}'
    problem = declared(tmp_path, text)
    assert problem.splits == ("train", "dev", "test_far")
    first = next(problem.generate("test_far", ""))
    assert first == {"inputs": "a test_far", "targets": "A test_far"}


def test_an_empty_cell_is_no_label(tmp_path):
    rows = [f"fine {number},glad\nawful {number},sad" for number in range(40)]
    rows.insert(3, "odd, ")
    (tmp_path / "moods.csv").write_text("\n".join(["text,mood", *rows]))
    text = 'kind = "text_to_class"\ntable = "moods.csv"\n'
    problem = declared(tmp_path, text + 'inputs = "text"\ntargets = "mood"')
    assert problem.targets.labels == ("glad", "sad")
    with pytest.raises(ValueError, match=r"moods.csv, row 8, column 'mood': ' ' came"):
        for split in problem.splits:
            list(problem.generate(split, ""))


def test_labels_of_a_table_are_found(tmp_path):
    rows = [{"text": f"word {i}", "mood": ["glad", "sad"][i % 2]} for i in range(40)]
    lines = "\n".join(map(json.dumps, rows))
    (tmp_path / "t.jsonl").write_text(lines)
    text = (
        'kind = "text_to_class"\ntable = "t.jsonl"\ninputs = "text"\ntargets = "mood"'
    )
    assert declared(tmp_path, text).targets.labels == ("glad", "sad")


def test_a_saved_hugging_face_data_set_is_declared(tmp_path):
    features = {"label": {"_type": "ClassLabel", "names": ["no", "yes"]}}
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
    make_saved_dataset(tmp_path / "saved", {"train": rows, "test": rows}, features)
    text = (
        'kind = "text_to_class"\nhuggingface = "saved"\ninputs = "text"\n'
        'targets = "label"\nsplits = {train = "train", dev = "test"}'
    )
    problem = declared(tmp_path, text)
    assert problem.targets.labels == ("no", "yes")
    assert [e["targets"] for e in problem.generate("dev", "")] == ["yes", "no"]


def test_any_data_set_of_tfds_is_a_problem_by_its_name(tmp_path):
    make_tfds(tmp_path, "mnist", num_examples=6)
    make_tfds(tmp_path, "librispeech")
    splits = 'splits = {train = "train_clean100", dev = "dev_clean"}'
    speech = declared(tmp_path, f'tfds = "librispeech"\n{splits}')
    assert (speech.inputs.modality, speech.targets.modality) == ("audio", "text")
    assert len(list(speech.generate("dev", str(tmp_path)))) == 6
    [name] = mixture.parse_problems("tfds:mnist").problems
    mnist = get_problem(name)
    assert name == "tfds_mnist"
    assert (mnist.inputs.height, mnist.inputs.channels) == (28, 1)
    found = [e["targets"] for e in mnist.generate("test", str(tmp_path))]
    assert found == list("012345")


@pytest.mark.parametrize(
    "line, name, made, question",
    [
        ("tfds:mnist", "tfds_mnist", "mnist", ""),
        (
            "tfds:wmt14_translate/de-en?inputs=en&targets=de&name=ende",
            "ende",
            "wmt14_translate/de-en",
            "the dog",
        ),
    ],
)
def test_a_data_set_of_tfds_trains_from_the_command_line(
    tmp_path, capsys, line, name, made, question
):
    make_tfds(tmp_path / "tmp", made, num_examples=40)
    problem, data = f"--problem={line}", f"--data_dir={tmp_path / 'data'}"
    tmp, run = f"--tmp_dir={tmp_path / 'tmp'}", f"--output_dir={tmp_path / 'run'}"
    assert mm_datagen.main([problem, data, tmp, "--num_processes=1"]) == 0
    assert mm_datagen.main([problem, data, tmp, "--verify"]) == 0
    arguments = ["--model=transformer", "--hparams_set=transformer_tiny"]
    arguments += [f"--hparams={SMALL}", "--train_steps=2", "--eval_examples=1"]
    assert mm_trainer.main([problem, data, run, *arguments]) == 0
    # The run knows its problem: by name, and by what declared it, without the source.
    (tmp_path / "tmp").rename(tmp_path / "gone")
    registry.problems.forget(name)
    (tmp_path / "one.png").write_bytes(png(np.zeros((28, 28), np.uint8)))
    asked, answers = tmp_path / "asked", tmp_path / "answers"
    asked.write_text(f"{question or tmp_path / 'one.png'}\n")
    files = [f"--decode_from_file={asked}", f"--decode_to_file={answers}"]
    for wanted in (f"--problem={name}", problem):
        assert mm_decoder.main([run, wanted, *files]) == 0
        assert len(answers.read_text().split("\n")) == 2
        answers.unlink()
    capsys.readouterr()
    assert mm_eval.main([run, problem, "--limit=2"]) == 0
    assert re.search(rf"^{name} +2 ", capsys.readouterr().out, re.MULTILINE)


def test_one_line_declares_a_table(folder):
    line = f"tsv:{folder}/sentences.tsv?inputs=english&targets=german&side=7&name=two"
    [name] = mixture.parse_problems(line).problems
    assert name == "two"
    examples = list(get_problem(name).generate("train", ""))
    assert {"inputs": "the dog 1", "targets": "der Hund 1"} in examples
    assert 60 < len(examples) < 80
    both = mixture.parse_problems(f"folder:{folder}/pets,caption_emoji,{line}")
    assert both.problems == ("pets", "caption_emoji", "two")


FAULTS = [
    ('kind = "text_to_text"', "no source came; exactly one of table, parallel"),
    ('kind = "text"\ntable = "t.csv"', "kind is 'text'; expected one of text_to_text"),
    ('kin = "text_to_text"', "there is no key 'kin'. Nearest: kind"),
    ("side = true", "side is True; a whole number was expected"),
    ('kind = "text_to_text"\ntable = 3', "table is 3; a text, a list or a table"),
    (
        'kind = "text_to_text"\nfolder = "a"\ntable = "b"',
        "table and folder came; exactl",
    ),
    (
        'table = {train = "t.csv"}\nkind = "text_to_text"',
        "the splits are train; train a",
    ),
    ('kind = "text_to_class"\ntable = "no.csv"', "no.csv is not there; a file or fold"),
    (
        'kind = "text_to_class"\ntable = "t.csv"\ntargets = "c"',
        "row 2: there is no col",
    ),
    (
        'kind = "text_to_class"\ntable = "t.csv"\ntargets = "b"',
        "holds 1 different labe",
    ),
    (
        'kind = "text_to_text"\ntable = "t.csv"\ndata_dir = "x"',
        "data_dir came beside t",
    ),
    ("kind = text", "is no TOML: "),
    ('[problems.Pets]\nkind = "x"', "a table with a name of small letters"),
    ("problems = 3", "declares no problem"),
    ('kind = "text_to_text"\ntable = "t.csv"\nheld_out = {dev = 2}', "shares above 0"),
    (
        'kind = "text_to_text"\ntable = "t.csv"\n[rates]\nfault = "x"',
        "a number above 0",
    ),
    (
        'kind = "text_to_text"\ntable = "t.csv"\n[rates]\ncaptoin_emoji = 1',
        "Nearest: cap",
    ),
    (
        'kind = "text_to_text"\ntable = "t.csv"\n[vocabularies.v]\nsizes = 1',
        "key 'sizes'",
    ),
]


@pytest.mark.parametrize(("text", "message"), FAULTS)
def test_a_fault_is_named_with_its_file(text, message, tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        declared(tmp_path, text, "fault")
    assert message in str(error.value)
    assert "fault.toml" in str(error.value)


def test_a_missing_file_is_a_message_at_the_command_line(tmp_path, capsys):
    arguments = [f"--problem={tmp_path}/none.toml", f"--data_dir={tmp_path}/made"]
    assert mm_datagen.main(arguments) == 2
    assert "none.toml is not there; a TOML file" in capsys.readouterr().err


def test_a_declared_problem_takes_no_registered_name(tmp_path):
    (tmp_path / "t.csv").write_text("inputs,targets\n1,2\n")
    with pytest.raises(
        registry.DuplicateNameError, match="'caption_emoji' is declared"
    ):
        declared(tmp_path, 'kind = "text_to_text"\ntable = "t.csv"', "caption_emoji")


def test_another_process_registers_it_from_its_origin(folder):
    [name, _] = mixture.parse_problems(str(folder / "joint.toml")).problems
    before = get_problem(name)
    registry.problems.forget(name)
    registry.load(before.origin)
    after = get_problem(name)
    assert after is not before
    assert (after.features, after.version) == (before.features, before.version)
    assert next(after.generate("dev", "")) == next(before.generate("dev", ""))


def test_data_of_another_declaration_is_refused_by_the_name_of_its_file(folder, capsys):
    toml, made = folder / "joint.toml", f"--data_dir={folder / 'made'}"
    arguments = [f"--problem={toml}", made, f"--tmp_dir={folder / 'tmp'}"]
    assert mm_datagen.main([*arguments, "--num_processes=1"]) == 0
    toml.write_text(toml.read_text().replace('"german"', '"english"'))
    run = [f"--problem={toml}", made, f"--output_dir={folder / 'run'}"]
    run += ["--model=transformer", "--hparams_set=transformer_tiny"]
    capsys.readouterr()
    assert mm_trainer.main([*run, "--train_steps=1"]) == 2
    message = capsys.readouterr().err
    assert f"its declaration ({toml}) says something else of its source" in message
    assert f"Run mm-datagen --problem={toml} --data_dir=" in message
    assert "version" not in message
    assert mm_datagen.main([*arguments, "--num_processes=1"]) == 0
    message = capsys.readouterr().err
    assert "sentences: made again, because its declaration (" in message
    assert "pets: finished before, skipped" in message


def test_the_version_follows_what_decides_the_examples(tmp_path):
    (tmp_path / "t.csv").write_text("inputs,targets\n1,2\n")
    base = 'kind = "text_to_text"\ntable = "t.csv"'
    first = declared(tmp_path, base).version
    assert declared(tmp_path, base + '\nlicence = "mine"').version == first
    changed = [base + "\nversion = 2", base + "\nheld_out = {dev = 0.5}"]
    changed.append(base + '\ntargets = "inputs"')
    assert len({first, *(declared(tmp_path, text).version for text in changed)}) == 4
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "t.csv").write_text("inputs,targets\n1,2\n")
    assert declared(tmp_path / "moved", base).version == first


def test_a_run_is_not_continued_with_other_classes(folder):
    path = str(folder / "joint.toml")
    mixture.parse_problems(path)
    then = declared_problems.remembered(["pets", "sentences", "caption_emoji"])
    assert set(then) == {"pets", "sentences"}
    then = json.loads(json.dumps(then))
    declared_problems.check_same(then, "run")
    (folder / "pets" / "emu").mkdir()
    mixture.parse_problems(path)
    with pytest.raises(ValueError, match=r"'pets' is declared otherwise.*labels was"):
        declared_problems.check_same(then, "run")
    declared_problems.restore_all(then)
    assert get_problem("pets").targets.labels == ("cat", "dog")
