"""Showing data: what people read about it, and the pictures."""

import pathlib
import shutil
import wave

import numpy as np
import pytest
from PIL import Image

from t2t_mm import inspection
from t2t_mm.problem import get_problem


@pytest.fixture
def own_data(small_data, tmp_path):
    return shutil.copytree(small_data, tmp_path / "data")


def inspect(name, folder):
    return inspection.inspect(get_problem(name), str(folder))


def test_text_is_shown_with_its_pieces_and_lengths(small_problems, small_data):
    text = inspect("small_reverse", small_data)
    assert text.startswith("small_reverse: Writes words backwards.")
    assert "train: 61 examples" in text and "licence: none needed" in text
    example = next(get_problem("small_reverse").generate("train", ""))
    assert "First examples of test:" in text
    assert "tokens: ▁" in text and "|EOS)" in text
    assert "Lengths of 'targets' in train, tokens:" in text
    assert len(example["inputs"]) > 0


def test_labels_are_counted(small_problems, own_data):
    text = inspect("small_colours", own_data)
    counts = [
        int(line.split()[-1])
        for line in text.splitlines()
        if line.split()[:1] in (["red"], ["green"], ["blue"])
    ]
    assert sum(counts) == 61
    assert "JPEG 17 x 19 RGB" in text


def test_pictures_are_drawn_on_a_sheet(small_problems, own_data):
    text = inspect("small_captions", own_data)
    path = pathlib.Path(own_data) / "inspect" / "small_captions.png"
    assert str(path) in text
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    for colour in small_problems.COLOURS.values():
        assert (pixels == colour).all(axis=-1).sum() > 1000


def test_sounds_are_written_to_listen_to(small_problems, own_data):
    text = inspect("small_tones", own_data)
    assert "s at 8000 Hz, peak 0.27" in text
    assert "Lengths of 'inputs' in train, seconds:" in text
    path = pathlib.Path(own_data) / "inspect" / "small_tones-4.wav"
    with wave.open(str(path)) as sound:
        assert sound.getframerate() == 8000


def test_every_length_is_in_the_histogram():
    for values in (np.array([3] * 5), np.arange(1, 100), np.array([0.5, 0.75, 9.0])):
        lines = inspection._histogram(values).splitlines()[1:]
        assert sum(int(line.split()[-1]) for line in lines if line) == len(values)


def test_data_that_is_not_there_says_what_to_run(small_problems, tmp_path):
    with pytest.raises(FileNotFoundError, match="mm-datagen"):
        inspect("small_captions", tmp_path)
