import io
import wave

import pytest

from t2t_mm.problems import speech


class FewJoins(speech.SpeechPrompts):
    "Few."

    num_joins = {"train": 30, "test_sequences": 10}


def seconds_of(example):
    with wave.open(io.BytesIO(example["inputs"])) as file:
        assert file.getframerate() == 16000
        return file.getnframes() / 16000


def test_tones_and_comments_have_no_transcript(tmp_dir):
    texts = speech.read_transcripts(tmp_dir)
    assert "beep" not in texts
    assert texts["digits/1"]
    assert not any(text != text.lower() for text in texts.values())


def test_no_utterance_is_longer_than_promised(tmp_dir):
    problem = FewJoins()
    for split in problem.splits:
        for example in problem.generate(split, tmp_dir):
            assert 0.1 < seconds_of(example) <= problem.max_seconds


def test_the_number_of_joins_is_as_set(tmp_dir):
    class None_(FewJoins):
        "None."

        num_joins = {}

    alone = list(None_().generate("train", tmp_dir))
    assert len(list(FewJoins().generate("train", tmp_dir))) == len(alone) + 30
    assert len(list(FewJoins().generate("test_sequences", tmp_dir))) == 10
    assert not list(None_().generate("test_sequences", tmp_dir))


def test_too_few_words_for_the_joins_are_an_error(stand_ins):
    class TooMany(FewJoins):
        "More than the stand-ins give in this split."

        max_seconds = 0.35
        num_joins = {"test_sequences": 10}

    with pytest.raises(ValueError, match=r"Only \d+ different .* lower num_joins"):
        list(TooMany().generate("test_sequences", stand_ins))


def test_short_prompts_are_in_training_and_sentences_are_split_by_text(tmp_dir):
    prompts = speech.read_prompts(tmp_dir)
    split_of = {}
    for prompt in prompts:
        split = speech.split_of_prompt(prompt, {})
        assert split_of.setdefault(prompt.text, split) == split
        if len(prompt.text.split()) <= 3:
            assert split == "train"
    assert set(split_of.values()) == {"train", "dev", "test"}


def test_a_prompt_that_says_a_held_out_name_is_in_no_split(tmp_dir):
    prompt = speech.read_prompts(tmp_dir)[0]
    assert speech.split_of_prompt(prompt, {prompt.text: "test"}) == ""
