"""Examples <-> TFRecord files: TensorFlow reads what we write, wrong input is named."""

import io
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from t2t_mm import records
from t2t_mm.problem import Feature, Problem
from t2t_mm.vocabulary import ByteVocabulary

values = st.dictionaries(
    st.text(min_size=1),
    st.one_of(
        st.binary(), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5)
    ),
)


@given(values)
def test_what_is_packed_is_unpacked(example):
    assert records.unpack(records.pack(example)) == example


def test_tensorflow_reads_an_example():
    import tensorflow as tf

    content = records.pack({"inputs": [3, 5, 1], "targets": b"\x00x\x00", "n": 7})
    example = tf.train.Example.FromString(content)
    features = example.features.feature
    assert features["inputs"].int64_list.value == [3, 5, 1]
    assert features["targets"].bytes_list.value == [b"\x00x\x00"]
    assert features["n"].int64_list.value == [7]
    assert example.SerializeToString(deterministic=True) == content


def write(path, contents):
    with records.RecordWriter(path) as writer:
        return [(writer.write(content), len(content)) for content in contents]


def test_tensorflow_reads_a_file(tmp_path):
    import tensorflow as tf

    path = str(tmp_path / "file")
    contents = [b"one", b"", b"three" * 1000]
    write(path, contents)
    assert list(tf.data.TFRecordDataset(path).as_numpy_iterator()) == contents


@given(st.lists(st.binary(), min_size=1))
def test_records_come_back_in_order_and_by_place(tmp_path_factory, contents):
    path = str(tmp_path_factory.mktemp("records") / "file")
    places = write(path, contents)
    assert list(records.read_records(path)) == contents
    file = records.RecordFile(path)
    assert [file.read(*place) for place in places] == contents
    file.close()


@pytest.mark.parametrize("place", [0, 9, 14, 20, 30, 40])
def test_a_changed_byte_is_noticed(tmp_path, place):
    path = tmp_path / "file"
    places = write(str(path), [b"first record", b"second record"])
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged at byte"):
        list(records.read_records(str(path)))
    file = records.RecordFile(str(path))
    if place in (14, 20):
        with pytest.raises(ValueError, match="damaged: the record at byte 0"):
            file.read(*places[0])
    file.close()


def test_a_file_that_was_cut_off_is_noticed(tmp_path):
    path = tmp_path / "file"
    places = write(str(path), [b"first record", b"second record"])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is damaged"):
        list(records.read_records(str(path)))
    file = records.RecordFile(str(path))
    with pytest.raises(ValueError, match="is damaged"):
        file.read(*places[1])
    file.close()


def picture(kind="PNG"):
    content = io.BytesIO()
    Image.new("RGB", (3, 2)).save(content, kind)
    return content.getvalue()


def sound(rate=8000, channels=1, width=2, frames=5):
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(bytes(frames * channels * width))
    return content.getvalue()


FEATURES = {
    "text": Feature("text", vocabulary="bytes"),
    "class_label": Feature("class_label", vocabulary="c", labels=("cat", "dog")),
    "image": Feature("image", height=2, width=3),
    "audio": Feature("audio", sample_rate=8000),
}


def problem_of(modality):
    class Some(Problem):
        """Some problem."""

        inputs = FEATURES[modality]
        targets = FEATURES["text"]
        registered_name = "some"

    return Some()


def raw(modality, value):
    example = {"inputs": value, "targets": "é"}
    return records.raw_values(problem_of(modality), "dev", 17, example)


@pytest.mark.parametrize(
    ("modality", "value", "stored"),
    [
        ("text", "añ", {"inputs": "añ".encode()}),
        ("class_label", "dog", {"inputs": 1}),
        ("image", picture(), {"inputs": picture()}),
        ("image", picture("JPEG"), {"inputs": picture("JPEG")}),
        ("audio", sound(), {"inputs": sound(), "inputs/length": 5}),
    ],
)
def test_a_right_value_is_stored(modality, value, stored):
    assert raw(modality, value) == stored | {"targets": "é".encode()}


@pytest.mark.parametrize(
    ("modality", "value", "error", "words"),
    [
        (
            "text",
            b"bytes",
            TypeError,
            r"b'bytes' \(bytes\); a text feature holds a str",
        ),
        ("text", "\ud800", ValueError, "half of a surrogate pair at position 0"),
        ("class_label", 1, TypeError, r"1 \(int\); a class label is a str"),
        ("class_label", "dogs", ValueError, "one of the 2 labels. Nearest: dog"),
        ("image", "cat.png", TypeError, "bytes of a PNG or JPEG file"),
        ("image", b"GIF89a", ValueError, "no picture that Pillow can read"),
        ("audio", [0.1], TypeError, r"\[0.1\] \(list\); an audio feature holds"),
        ("audio", b"RIFF", ValueError, "is no PCM WAV file"),
        ("audio", sound(rate=16000), ValueError, "16 bits at 16000 Hz .* at 8000 Hz"),
        ("audio", sound(channels=2), ValueError, "has 2 channels"),
        ("audio", sound(width=1), ValueError, "of 8 bits"),
        ("audio", sound(frames=0), ValueError, "0 samples"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(modality, value, error, words):
    with pytest.raises(error, match=words) as caught:
        raw(modality, value)
    place = "Feature 'inputs' of example 17 of problem 'some' (split 'dev')"
    assert str(caught.value).startswith(place)


@pytest.mark.parametrize(
    ("example", "error", "words"),
    [
        ("text", TypeError, r"'text' \(str\); expected a dict"),
        ({"inputs": "a"}, ValueError, "has the keys inputs; expected inputs, targets"),
        ({}, ValueError, r"has the keys \(none\)"),
    ],
)
def test_an_example_of_another_form_is_named(example, error, words):
    with pytest.raises(error, match=words):
        records.raw_values(problem_of("text"), "dev", 17, example)


def test_text_becomes_ids_that_end_in_eos():
    stored = records.unpack(records.pack(raw("audio", sound())))
    encoded = records.encoded_values(
        problem_of("audio"), [stored], {"bytes": ByteVocabulary("bytes")}
    )
    assert encoded == [stored | {"targets": [0xC3 + 3, 0xA9 + 3, 1]}]
    assert records.lengths(problem_of("audio"), encoded[0]) == [5, 3]


def test_an_empty_index_has_a_column_for_each_feature():
    assert records.empty_index(problem_of("text")).shape == (0, records.LENGTHS + 2)
    assert records.empty_index(problem_of("text")).dtype == np.int64


def test_a_full_disk_is_named_with_the_file():
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        with records.RecordWriter("/dev/full") as writer:
            for _ in range(100):
                writer.write(bytes(10000))
