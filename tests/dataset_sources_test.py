import io
import socket
import sys

import pytest
from fake_datasets import make_saved_dataset, make_tfds, png
from numpy import zeros

from t2t_mm import dataset_sources
from t2t_mm.dataset_sources import HuggingFace, Tfds


def all_rows(source, split, tmp_dir=""):
    return [
        row.values
        for part in source.parts(split, tmp_dir)
        for row in source.rows(split, tmp_dir, part)
    ]


@pytest.fixture(scope="module")
def tmp_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tfds_data"))
    for name in ("mnist", "coco_captions/2014", "wmt14_translate/de-en", "librispeech"):
        make_tfds(folder, name, num_examples=6)
    return folder


def test_pictures_of_tfds_come_compressed_and_labels_as_numbers(tmp_dir):
    rows = all_rows(Tfds("mnist", columns=("image", "label")), "test", tmp_dir)
    assert [row["label"] for row in rows] == list(range(6))
    assert all(row["image"].startswith(b"\x89PNG") for row in rows)


def test_nested_columns_of_tfds_are_lists(tmp_dir):
    source = Tfds(
        "coco_captions/2014", {"train": "train"}, columns=("image", "captions/text")
    )
    first = all_rows(source, "train", tmp_dir)[0]
    assert set(first) == {"image", "captions"}
    assert first["image"].startswith(b"\xff\xd8")
    assert len(first["captions"]["text"]) == 2
    assert all(isinstance(text, str) for text in first["captions"]["text"])


def test_text_of_tfds_is_text(tmp_dir):
    source = Tfds("wmt14_translate/de-en", {"dev": "validation"}, columns=("de", "en"))
    rows = all_rows(source, "dev", tmp_dir)
    assert len(rows) == 6
    assert rows[0]["de"].isupper()
    assert rows[0]["en"].islower()


def test_sounds_of_tfds_come_with_their_rate(tmp_dir):
    source = Tfds("librispeech", {"train": "train_clean100"})
    samples, rate = all_rows(source, "train", tmp_dir)[0]["speech"]
    assert (samples.dtype, samples.shape, rate) == ("int16", (2400,), 16000)


def test_several_splits_of_tfds_make_one(tmp_dir):
    names = "train_clean100+train_clean360"
    source = Tfds("librispeech", {"train": names}, columns=("text",))
    assert len(all_rows(source, "train", tmp_dir)) == 12


def test_slices_of_tfds_are_cut_into_parts(tmp_dir, monkeypatch):
    monkeypatch.setattr(dataset_sources, "ROWS_PER_PART", 2)
    source = Tfds("mnist", {"train": "train[:5]", "dev": "train[5:]"})
    assert source.parts("train", tmp_dir) == ["train[0:2]", "train[2:4]", "train[4:5]"]
    labels = [row["label"] for row in all_rows(source, "train", tmp_dir)]
    assert labels == [0, 1, 2, 3, 4]
    assert [row["label"] for row in all_rows(source, "dev", tmp_dir)] == [5]


@pytest.mark.parametrize(
    ("available", "train", "dev", "test"),
    [
        (("train", "validation", "test"), "train", "validation", "test"),
        (("train", "test"), "train[:95%]", "train[95%:]", "test"),
        (("train", "validation"), "train[:95%]", "train[95%:]", "validation"),
        (("train",), "train[:90%]", "train[90%:95%]", "train[95%:]"),
    ],
)
def test_splits_of_tfds_follow_from_those_it_has(available, train, dev, test):
    source = Tfds("any")
    found = [source.instruction(s, available) for s in ("train", "dev", "test")]
    assert found == [train, dev, test]


def test_faults_of_tfds_are_named(tmp_dir, tmp_path):
    with pytest.raises(ValueError, match="tensorflow-datasets has no 'mnits'"):
        Tfds("mnits").builder(tmp_dir)
    with pytest.raises(ValueError, match="no split 'tran'; it has train, test"):
        Tfds("mnist", {"train": "tran[:3]"}).parts("train", tmp_dir)
    source = Tfds("imagenet2012", layout="the tar file in {manual}")
    message = r"'imagenet2012' .* is not there .*Expected: the tar file in .*manual"
    with pytest.raises(OSError, match=message):
        source.parts("train", str(tmp_path))


@pytest.fixture
def asked_tfds(monkeypatch):
    """Notes whether tfds itself was asked to fetch, which then fails."""
    import tensorflow_datasets as tfds

    asked = []

    def fails(self, **options):
        asked.append(self.name)
        raise ConnectionError("tfds gave up")

    builder = tfds.core.DatasetBuilder
    monkeypatch.setattr(builder, "download_and_prepare", fails)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return asked


def no_network(*arguments):
    raise socket.gaierror(-2, "Name or service not known")


def test_without_a_network_a_data_set_of_tfds_is_refused_at_once(
    tmp_path, monkeypatch, asked_tfds
):
    monkeypatch.setattr(socket, "create_connection", no_network)
    message = (
        r"'mnist' of tensorflow-datasets is not there and cannot be made: there is no "
        r"connection to storage.googleapis.com \(Name or service not known\)"
    )
    with pytest.raises(OSError, match=message):
        Tfds("mnist").prepared(str(tmp_path))
    assert not asked_tfds


def test_tfds_is_asked_where_its_host_answers_or_files_were_fetched_before(
    tmp_path, monkeypatch, asked_tfds
):
    called = []

    def connected(place, seconds):
        called.append((place, seconds))
        return io.BytesIO()  # has a `close`, too

    monkeypatch.setattr(socket, "create_connection", connected)
    with pytest.raises(OSError, match="cannot be made: tfds gave up"):
        Tfds("mnist").prepared(str(tmp_path))
    assert called == [(("storage.googleapis.com", 443), 5.0)]
    monkeypatch.setattr(socket, "create_connection", no_network)
    half = tmp_path / "tfds" / "downloads" / "mnist" / "images.gz.tmp.17"
    half.mkdir(parents=True)
    (half / "part").write_bytes(b"1")
    with pytest.raises(OSError, match="there is no connection"):
        Tfds("mnist").prepared(str(tmp_path))
    (half.parent / "images.gz").write_bytes(b"1")
    with pytest.raises(OSError, match="cannot be made: tfds gave up"):
        Tfds("mnist").prepared(str(tmp_path))
    assert asked_tfds == ["mnist", "mnist"]


FEATURES = {
    "picture": {"_type": "Image"},
    "label": {"_type": "ClassLabel", "names": ["cat", "dog"]},
}


@pytest.fixture
def saved(tmp_path):
    rows = [
        {
            "picture": {"bytes": png(zeros((2, 3), "uint8")), "path": None},
            "label": i % 2,
        }
        for i in range(3)
    ]
    splits = {"train": rows, "validation": rows[:1]}
    make_saved_dataset(tmp_path / "pets", splits, FEATURES)
    return str(tmp_path / "pets")


def test_a_folder_of_hugging_face_is_read_without_its_library(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)  # cannot be imported
    source = HuggingFace(saved)
    assert source.split_names == ("train", "dev")
    rows = all_rows(source, "train")
    assert [row["label"] for row in rows] == ["cat", "dog", "cat"]
    assert rows[0]["picture"]["bytes"].startswith(b"\x89PNG")
    assert len(all_rows(source, "dev")) == 1
    assert source.features_of("train") == FEATURES


def test_a_folder_of_one_split_is_dealt_out(saved):
    source = HuggingFace(saved + "/train", held_out={"dev": 0.3})
    assert source.split_names == ("train", "dev")
    assert len(all_rows(source, "train")) + len(all_rows(source, "dev")) == 3


def test_a_folder_that_is_none_of_hugging_face_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="save_to_disk wrote was expected"):
        HuggingFace(str(tmp_path))


def test_a_builder_of_tensorflow_datasets_finds_its_own_files():
    """Says whether all is installed that making a data set needs."""
    import tensorflow_datasets as tfds

    assert tfds.builder_cls("mnist").code_path.name == "mnist.py"
