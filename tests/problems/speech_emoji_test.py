import platform

import pytest

from t2t_mm.problems import emoji, synthetic_voice
from t2t_mm.problems.speech_emoji import SpeechEmoji
from t2t_mm.problems.spoken_text import in_spoken_words


def names(problem, split, tmp_dir):
    return [example["targets"] for example in problem.generate(split, tmp_dir)]


@pytest.mark.usefixtures("made_up_programs")
def test_the_splits_are_those_of_the_captions(stand_ins):
    for split in SpeechEmoji().splits:
        written = names(emoji.CaptionEmoji(), split, stand_ins)
        spoken = names(SpeechEmoji(), split, stand_ins)
        assert set(spoken) == {in_spoken_words(name) for name in written}


@pytest.mark.usefixtures("made_up_programs")
def test_training_hears_each_name_in_several_voices(stand_ins):
    problem = SpeechEmoji()
    for split, voices in (("train", problem.voices_per_name), ("test", 1)):
        spoken = names(problem, split, stand_ins)
        assert len(spoken) == voices * len(set(spoken))


def test_another_machine_is_refused_with_a_way_out(monkeypatch, tmp_path):
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(OSError, match=r"arm64; .* Leave speech_emoji out"):
        synthetic_voice.start(str(tmp_path))
