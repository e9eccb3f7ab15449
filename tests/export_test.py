"""Exports a small run once, asks it in a process without our package, and compares."""

import base64
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL_PROBLEMS

from t2t_mm import export, inference
from t2t_mm.bin import mm_export, plugins
from t2t_mm.graph_inputs import Limits
from t2t_mm.media import wav_file
from t2t_mm.models.settings import TransformerHParams
from t2t_mm.samples import png_bytes
from tests.made.rest_format import rest_predict
from tests.made.runs import write_run

NAMES = ("small_reverse", "small_tones", "small_colours")
SEARCH = "beam_size=3,num_return=2,alpha=0.7"
LIMITS = Limits(ids=40, seconds=1.0, pixels=1000)
HPARAMS = TransformerHParams(
    hidden_size=8,
    num_heads=2,
    num_encoder_layers=1,
    num_decoder_layers=1,
    filter_size=7,
    image_stages=2,
    image_filters=3,
    audio_filters=3,
    audio_mel_bins=11,
    audio_alignment_weight=0.7,
    audio_merging=True,
    max_length=9,
)
DICE = np.random.default_rng(1)
PICTURES = [png_bytes(DICE.random(shape)) for shape in ((19, 17, 3), (7, 30, 3))]
SOUNDS = [wav_file(DICE.normal(0, 0.2, size), 8000) for size in (1234, 4000)]
INPUTS = {
    "small_reverse": ["a b c", "", "größer \u2581 \U0001f600", " d e"],
    "small_tones": SOUNDS,
    "small_tones:waveform": SOUNDS,
    "small_colours": PICTURES,
    "small_tones@To-Reversed": SOUNDS,
    "small_tones@To-Reversed:waveform": SOUNDS,
}


@pytest.fixture(scope="module")
def run_dir(small_data, tmp_path_factory):
    """An untrained run of all modalities, as the trainer would leave it."""
    folder = str(tmp_path_factory.mktemp("run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        patch.delitem(sys.modules, "small_problems", raising=False)
        plugins.import_user_dir(SMALL_PROBLEMS)
    dice = np.random.default_rng(2)

    def add(shape):  # so that the answers are not all alike
        return dice.normal(0, 0.3, shape)

    kind = "transformer", "transformer_tiny", HPARAMS
    write_run(folder, *kind, NAMES, small_data, seed=4, steps=(5,), add=add)
    return folder


@pytest.fixture(scope="module")
def run(run_dir):
    return inference.load_run(run_dir)


@pytest.fixture(scope="module")
def version_dir(run):
    said = []
    folder = export.export_run(
        run,
        pairs=[("small_tones", "To-Reversed")],
        decode_hparams=SEARCH,
        limits=LIMITS,
        num_checked=1,
        say=said.append,
    )
    assert len(said) == 2
    return folder


@pytest.fixture(scope="module")
def model(version_dir):
    return export.load_exported(version_dir)


# Without site, no .pth file makes an editable install importable; an installed package
# is barred as well. `make test-export` sets EXPORT_PYTHON to have an environment that
# holds nothing else.
STRANGER = """
import base64, importlib.util, json, sys
sys.dont_write_bytecode = True
sys.modules["t2t_mm"] = None
folder, paths = sys.argv[1:]
sys.path += json.loads(paths)
place = folder + "/assets.extra/exported.py"
spec = importlib.util.spec_from_file_location("exported", place)
exported = importlib.util.module_from_spec(spec)
spec.loader.exec_module(exported)
model = exported.load_exported(folder)
answers = {}
for name, inputs in json.load(sys.stdin).items():
    inputs = [base64.b64decode(i["b64"]) if isinstance(i, dict) else i for i in inputs]
    answers[name] = model.generate(name, inputs)
assert not [name for name in sys.modules if name.startswith("t2t_mm.")]
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(version_dir):
    """What the export answers in a process that has not our package."""
    requests = {
        name: [as_json(name, one) for one in inputs] for name, inputs in INPUTS.items()
    }
    stranger = os.environ.get("EXPORT_PYTHON")  # of an environment without us
    program, paths = [stranger, "-I"], []
    if not stranger:
        program = [sys.executable, "-I", "-S"]
        paths = [path for path in sys.path if path.endswith("site-packages")]
    done = subprocess.run(
        [*program, "-c", STRANGER, version_dir, json.dumps(paths)],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def as_json(name, one):
    if name.endswith(":waveform"):
        return samples_of(one)
    return {"b64": base64.b64encode(one).decode()} if isinstance(one, bytes) else one


def samples_of(content):
    return tf.audio.decode_wav(content).audio[:, 0].numpy().tolist()


def expected_of(run, name):
    problem, _, command = name.removesuffix(":waveform").partition("@")
    return run.generate(
        problem, INPUTS[name], command=command or None, decode_hparams=SEARCH
    )


@pytest.mark.parametrize("name", [name for name in INPUTS if name != "small_colours"])
def test_texts_are_those_of_the_run_without_our_package(name, run, answers):
    expected = expected_of(run, name)
    assert len({one.score for one in expected}) > 1
    for row, answer in zip(answers[name], expected, strict=True):
        assert row["output"] == answer.output
        assert row["error"] == ""
        best = answer.best_few
        assert row["outputs"] == [one.output for one in best]
        for key, values in (
            ("scores", [one.score for one in best]),
            ("penalized", [one.penalized for one in best]),
        ):
            np.testing.assert_allclose(row[key], values, rtol=1e-4)
        assert row["score"] == row["scores"][0]


def test_what_a_sound_says_by_itself_counts_in_the_export_as_in_the_run(run, answers):
    settings = SEARCH + ",alignment_weight=0"
    without = run.generate("small_tones", SOUNDS, decode_hparams=settings)
    for row, answer in zip(answers["small_tones"], without, strict=True):
        assert abs(row["penalized"][0] - answer.penalized) > 0.01


def test_labels_are_those_of_the_run_without_our_package(run, answers):
    expected = expected_of(run, "small_colours")
    for row, answer in zip(answers["small_colours"], expected, strict=True):
        labels, probabilities = zip(*answer.ranked, strict=True)
        assert row["labels"] == list(labels)
        assert row["output"] == answer.output
        assert row["error"] == ""
        np.testing.assert_allclose(row["probabilities"], probabilities, rtol=1e-4)
        np.testing.assert_allclose(row["score"], answer.score, rtol=1e-4)


def test_an_input_is_answered_the_same_alone_and_in_a_batch(model, answers):
    for name in ("small_reverse", "small_tones", "small_colours"):
        for one, row in zip(INPUTS[name], answers[name], strict=True):
            (alone,) = model.generate(name, [one])
            assert alone["output"] == row["output"]
            np.testing.assert_allclose(alone["score"], row["score"], rtol=1e-4)


@pytest.mark.parametrize("name", list(INPUTS))
def test_every_signature_fits_the_rest_format(name, model, answers):
    names = list(model.signatures[name].structured_input_signature[1])
    values = [as_json(name, one) for one in INPUTS[name]]
    if len(names) > 1:
        width = max(map(len, values))
        padded = [one + [0.0] * (width - len(one)) for one in values]
        columns = {"waveform": padded, "lengths": list(map(len, values))}
        rows = [
            {"waveform": one, "lengths": len(value)}
            for one, value in zip(padded, values, strict=True)
        ]
        bodies = [{"instances": rows}, {"inputs": columns}]
    else:
        assert names[0].endswith("_bytes") == isinstance(INPUTS[name][0], bytes)
        rows = [{names[0]: one} for one in values]
        bodies = [{"instances": rows}, {"instances": values}, {"inputs": values}]
    for body in bodies:
        text = rest_predict(model, json.dumps({"signature_name": name, **body}))
        found = json.loads(text)
        if "outputs" in found:
            assert found["outputs"]["output"] == [a["output"] for a in answers[name]]
        else:
            assert [one["output"] for one in found["predictions"]] == [
                answer["output"] for answer in answers[name]
            ]


def test_the_first_signature_is_the_default(model):
    body = json.dumps({"instances": INPUTS["small_reverse"]})
    named = json.dumps({"signature_name": "small_reverse", **json.loads(body)})
    assert rest_predict(model, body) == rest_predict(model, named)
    assert model.description["default_signature"] == "small_reverse"


# Bad inputs


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("small_reverse", [b"\xff", "x" * 99], ["is no UTF-8", "over 40 tokens"]),
        ("small_colours", [PICTURES[0][:99], SOUNDS[0]], ["no whole PNG", "neither"]),
        (
            "small_tones",
            [b"RIFF", wav_file(np.zeros(9000), 8000)],
            ["no WAV", "over 1 s"],
        ),
        ("small_tones:waveform", [[], [np.nan]], ["no samples", "not finite"]),
    ],
)
def test_a_bad_input_gets_a_message_and_harms_no_other(
    name, bad, message, model, answers
):
    good = INPUTS[name][-1]
    one = samples_of(good) if name.endswith(":waveform") else good
    *found, last = model.generate(name, [*bad, one])
    for row, part in zip(found, message, strict=True):
        assert part in row["error"]
        assert row["output"] == ""
        assert row["score"] == pytest.approx(-1e9)
        assert set(row.get("outputs", row.get("labels"))) == {""}
        assert set(row.get("probabilities", [0.0])) == {0.0}
    expected = answers[name][-1]
    assert last["error"] == ""
    assert last["output"] == expected["output"]
    assert last["score"] == pytest.approx(expected["score"], rel=1e-4)


def test_nothing_is_answered_with_nothing(model):
    assert model.generate("small_reverse", []) == []


# Folders


def test_an_export_holds_what_tells_where_it_comes_from(version_dir, run_dir):
    assert version_dir == os.path.join(run_dir, "export", "1")
    assert sorted(os.listdir(os.path.dirname(version_dir))) == ["1"]
    extra = os.listdir(os.path.join(version_dir, "assets.extra"))
    names = ["exported.py", "hparams.json", "run.json", "small_words.subwords.model"]
    assert sorted(extra) == names


def test_the_description_says_what_is_asked_and_answered(model, version_dir):
    told = model.description
    assert (told["version"], told["step"], told["model"]) == (1, 5, "transformer")
    assert told["decode_hparams"]["beam_size"] == 3
    assert told["limits"] == {"ids": 40, "seconds": 1.0, "pixels": 1000}
    assert set(told["signatures"]) == set(INPUTS)
    files = sum(
        os.path.getsize(os.path.join(place, name))
        for place, _, names in os.walk(version_dir)
        for name in names
    )
    assert told["size_bytes"] == pytest.approx(files, abs=99)
    for name, facts in told["signatures"].items():
        function = model.signatures[name]
        specs = function.structured_input_signature[1]
        assert set(facts["inputs"]) == set(specs)
        assert set(facts["outputs"]) == set(function.structured_outputs)
        assert facts["latency_ms"] > 0
        assert (facts["compared"], facts["inputs_from"]) == (1, "dev")
    pair = told["signatures"]["small_tones@To-Reversed"]
    assert (pair["problem"], pair["command"]) == ("small_tones", "To-Reversed")
    assert told["signatures"]["small_colours"]["labels"] == ["red", "green", "blue"]
    assert told["signatures"]["small_tones:waveform"]["sample_rate"] == 8000
    text = export.summary(version_dir)
    assert all(name in text for name in INPUTS)


def test_the_command_writes_another_version_and_only_what_is_asked_for(
    run_dir, version_dir, capfd
):
    before = os.stat(os.path.join(version_dir, "saved_model.pb")).st_mtime_ns
    command_line = [
        *(f"--output_dir={run_dir}", f"--t2t_usr_dir={SMALL_PROBLEMS}"),
        *("--problem=small_colours", "--command_pairs="),
    ]
    assert mm_export.main(command_line) == 0
    out = capfd.readouterr().out
    assert out.startswith(os.path.join(run_dir, "export", "2") + ": step 5, ")
    assert "small_colours  image_bytes -> To-Category, " in out
    assert os.stat(os.path.join(version_dir, "saved_model.pb")).st_mtime_ns == before
    newest = export.load_exported(os.path.dirname(version_dir))
    assert newest.description["version"] == 2
    assert set(newest.signatures) == {"small_colours", "serving_default"}
    # The weights that make sounds, texts and their vocabulary are left behind.
    sizes = [
        os.path.getsize(os.path.join(folder, "variables/variables.data-00000-of-00001"))
        for folder in (version_dir, newest.folder)
    ]
    assert sizes[1] < 0.7 * sizes[0]
    assert mm_export.main([*command_line, "--version=2"]) == 2
    err = capfd.readouterr().err
    assert "Version 2 is in" in err
    assert "which gives 3" in err


def test_an_export_that_answers_otherwise_is_not_written(
    run, version_dir, monkeypatch, tmp_path
):
    other = export.load_exported(version_dir)
    monkeypatch.setattr(
        other,
        "generate",
        lambda name, inputs: [{"output": "?", "score": 0, "error": ""}],
    )
    monkeypatch.setattr(export, "load_exported", lambda folder: other)
    with pytest.raises(ValueError, match="of the export answers '\\?'"):
        export.export_run(
            run, str(tmp_path), problems=["small_colours"], num_checked=1, say=str
        )
    assert os.listdir(tmp_path) == []


def test_what_the_run_does_not_know_is_refused(run, tmp_path):
    for arguments, message in (
        ({"problems": ["small_cats"]}, "knows no problem 'small_cats'"),
        ({"pairs": [("small_colours", "To-Latin")]}, "Command 'To-Latin' came"),
        ({"decode_hparams": "beam=4"}, "has no hparam 'beam'"),
    ):
        with pytest.raises(ValueError, match=message):
            export.export_run(run, str(tmp_path), say=str, **arguments)
    with pytest.raises(FileNotFoundError, match="holds no export: export.json"):
        export.load_exported(str(tmp_path))


def test_an_unknown_signature_is_refused(model):
    with pytest.raises(
        ValueError, match="no signature 'small_cats'; it has serving_de"
    ):
        model.generate("small_cats", ["a"])


def test_pairs_are_read_and_all_of_them_found(run):
    assert export.parse_pairs("") == []
    assert export.parse_pairs("a@To-B,c@To-D") == [("a", "To-B"), ("c", "To-D")]
    for text in ("a", "a@", "@To-B"):
        with pytest.raises(ValueError, match="expected problem@command"):
            export.parse_pairs(text)
    assert set(export.all_pairs(run)) == {
        ("small_reverse", "To-English"),
        ("small_reverse", "To-Category"),
        ("small_tones", "To-Reversed"),
        ("small_tones", "To-Category"),
        ("small_colours", "To-Reversed"),
        ("small_colours", "To-English"),
    }
