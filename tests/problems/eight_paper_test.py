"""The full-size problems from stand-ins of their layouts to answers, all at once."""

import numpy as np
import pytest
from fake_datasets import picture, png

import t2t_mm
import t2t_mm.problems  # noqa: F401
from t2t_mm import datagen, mixture
from t2t_mm.bin import mm_datagen, mm_decoder, mm_trainer
from t2t_mm.media import wav_file
from t2t_mm.problem import AUDIO, IMAGE, TEXT, get_problem
from t2t_mm.problems import parsing
from t2t_mm.vocabulary import vocabulary_spec

BOTH = ("eight_paper", "eight_paper_free")
_ANY = (
    "hidden_size=8,num_heads=2,image_stages=4,image_filters=2,audio_filters=2,"
    "batch_examples=2,batch_tokens=256,batch_seconds=2"
)
SMALL = {
    "transformer": f"{_ANY},filter_size=8",
    "multimodel": f"{_ANY},expert_size=8,audio_width=8",
}


@pytest.mark.parametrize("name", BOTH)
def test_the_mixture_names_eight_problems_of_four_modalities(name):
    problems = mixture.get_problems(mixture.parse_problems(name))
    assert len(problems) == 8
    modalities = {f.modality for p in problems for f in p.features.values()}
    assert modalities == {"text", "image", "audio", "class_label"}
    texts = [f for p in problems for f in p.features.values() if f.modality == TEXT]
    assert {feature.vocabulary for feature in texts} == {"eight_paper"}


def test_the_vocabulary_is_learned_from_what_anybody_may_fetch():
    spec = vocabulary_spec("eight_paper")
    assert spec.size == 8192
    for name in spec.problems:
        assert "LDC" not in get_problem(name).licence


@pytest.fixture(scope="module")
def data(tmp_path_factory, stand_ins, made_up_parser):
    """The data of both mixtures, made from the stand-ins."""
    folder = tmp_path_factory.mktemp("eight_paper")
    arguments = [f"--data_dir={folder}", f"--tmp_dir={stand_ins}", "--num_processes=1"]
    assert mm_datagen.main(["--problem=eight_paper", *arguments]) == 0
    free = mixture.parse_problems("eight_paper_free").problems
    with pytest.MonkeyPatch.context() as patch:
        # In this process, since the parser is a stand-in here and nowhere else.
        patch.setattr(parsing, "parsed", made_up_parser)
        patch.setattr(parsing.ParsingSilver, "downloads", (parsing.VERSES,))
        datagen.generate_data(
            free, str(folder), stand_ins, num_processes=0, progress=False
        )
    return folder


@pytest.mark.parametrize("name", BOTH)
def test_the_stand_ins_of_all_eight_become_data_that_can_be_trusted(data, name):
    arguments = [f"--problem={name}", f"--data_dir={data}", "--num_processes=1"]
    arguments.append("--verify")
    assert mm_datagen.main(arguments) == 0
    for one in mixture.parse_problems(name).problems:
        splits = datagen.check_manifest(str(data), get_problem(one))["splits"]
        assert all(split["examples"] > 0 for split in splits.values())


def test_brackets_of_trees_are_whole_sub_words(data):
    from t2t_mm.vocabulary import load_vocabulary

    words = load_vocabulary("eight_paper", str(data))
    pieces = words.pieces("(S (NP DT NN )NP (VP VBZ )VP . )S")
    assert len(pieces) <= 1.5 * 10


@pytest.fixture(scope="module")
def question(tmp_path_factory):
    """Gives an input of a problem as a user types it."""
    folder = tmp_path_factory.mktemp("questions")
    rng = np.random.default_rng(0)
    content = {
        IMAGE: png(picture(rng)),
        AUDIO: wav_file(rng.normal(size=3000) / 9, 16000),
    }
    for modality, value in content.items():
        (folder / modality).write_bytes(value)

    def asked(problem):
        modality = problem.inputs.modality
        return "the dog" if modality == TEXT else str(folder / modality)

    return asked


@pytest.mark.parametrize(
    "name, model", [("eight_paper", "transformer"), ("eight_paper_free", "multimodel")]
)
def test_all_eight_train_two_steps_each_and_answer(
    data, tmp_path, question, name, model
):
    """Two steps each: drawn evenly, 32 steps leave none out with this seed."""
    run = f"--output_dir={tmp_path / 'run'}"
    arguments = [run, f"--data_dir={data}", f"--problem={name}", "--train_steps=32"]
    arguments += [f"--model={model}", f"--hparams_set={model}_tiny"]
    arguments += [f"--hparams={SMALL[model]}", "--eval_examples=1", "--random_seed=1"]
    rates = dict.fromkeys(mixture.parse_problems(name).problems, 1.0)
    drawn = [mixture.draw_problem(1, step, rates) for step in range(32)]
    assert min(drawn.count(one) for one in rates) >= 2
    assert mm_trainer.main(arguments) == 0
    trained = t2t_mm.load(str(tmp_path / "run"))
    for one in rates:
        problem = get_problem(one)
        answer = trained.generate(one, question(problem))
        if problem.targets.labels:
            assert answer.output in problem.targets.labels
        else:
            assert isinstance(answer.output, str)


def test_the_decoder_answers_for_a_full_size_problem(data, tmp_path):
    run = f"--output_dir={tmp_path / 'run'}"
    arguments = [run, f"--data_dir={data}", "--problem=translate_enfr_wmt8k_rev"]
    arguments += ["--model=transformer", "--hparams_set=transformer_tiny"]
    arguments += [f"--hparams={SMALL['transformer']}", "--train_steps=2"]
    assert mm_trainer.main([*arguments, "--eval_examples=1"]) == 0
    asked, answered = tmp_path / "asked", tmp_path / "answered"
    asked.write_text("le chien\n")
    files = [f"--decode_from_file={asked}", f"--decode_to_file={answered}"]
    assert mm_decoder.main([run, "--problem=translate_enfr_wmt8k_rev", *files]) == 0
    assert len(answered.read_text().split("\n")) == 2
