"""Manifests: what does not fit is refused, with what to do."""

import dataclasses
import json
import pathlib
import shutil

import pytest

from t2t_mm import manifests
from t2t_mm.problem import get_problem


@pytest.fixture
def own_data(small_data, tmp_path):
    return pathlib.Path(shutil.copytree(small_data, tmp_path / "data"))


def refused(own_data, words, error=ValueError, name="small_reverse"):
    with pytest.raises(error, match=words) as caught:
        manifests.check_manifest(str(own_data), get_problem(name))
    command = f"Run mm-datagen --problem={name} --data_dir={own_data}."
    assert str(caught.value).endswith(command)


def test_whole_data_fits(small_problems, own_data):
    by_name = manifests.check_manifest(str(own_data), "small_reverse")
    assert by_name == manifests.check_manifest(
        str(own_data), get_problem("small_reverse")
    )


def test_no_data_is_refused(small_problems, tmp_path):
    refused(tmp_path, "small_reverse.manifest.json is not there", FileNotFoundError)


@pytest.mark.parametrize("content", [b"{", b"{}", b"[]", b"\xff"])
def test_a_file_that_is_no_manifest_is_refused(small_problems, own_data, content):
    (own_data / "small_reverse.manifest.json").write_bytes(content)
    refused(own_data, "cannot be read .* Delete it")


def test_a_missing_shard_is_refused(small_problems, own_data):
    (own_data / "small_reverse-train-00003-of-00010").unlink()
    refused(own_data, "does not fit: .*small_reverse-train-00003-of-00010 is missing")


def test_a_shard_that_was_cut_off_is_refused(small_problems, own_data):
    path = own_data / "small_reverse-dev-00000-of-00001"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    refused(own_data, f"has {size - 1} bytes, {size} were written")


def test_a_new_version_is_refused(small_problems, own_data):
    small_problems.SmallReverse.version = 2
    refused(own_data, "version was 1 and is 2 now")


def change(cls, column, **settings):
    setattr(cls, column, dataclasses.replace(getattr(cls, column), **settings))


def test_a_changed_label_set_is_refused(small_problems, own_data):
    change(small_problems.SmallColours, "targets", labels=("red", "blue", "green"))
    words = r"labels of feature 'targets' was \['red', 'green', 'blue'\] and is"
    refused(own_data, words, name="small_colours")


def test_another_sample_rate_is_refused(small_problems, own_data):
    change(small_problems.SmallTones, "inputs", sample_rate=16000)
    refused(own_data, "sample_rate of feature 'inputs' was 8000", name="small_tones")


def test_another_size_of_pictures_needs_no_new_data(small_problems, own_data):
    change(small_problems.SmallColours, "inputs", height=12, width=14)
    manifests.check_manifest(str(own_data), "small_colours")


def test_a_new_split_is_refused(small_problems, own_data):
    small_problems.SmallReverse.test_splits = ("test", "test_long")
    refused(own_data, "split 'test_long' is missing")


def test_another_vocabulary_is_refused(small_problems, own_data):
    path = own_data / "small_words.subwords.model"
    path.write_bytes(path.read_bytes() + b"x")
    refused(own_data, "vocabulary 'small_words' is missing or was learned again")
    path.unlink()
    refused(own_data, "vocabulary 'small_words' is missing or was learned again")


def test_another_generator_version_is_refused(small_problems, own_data):
    path = own_data / "small_reverse.manifest.json"
    manifest = json.loads(path.read_text()) | {"generator_version": 0}
    del manifest["checksum"]
    path.write_text(json.dumps(manifest))
    refused(own_data, "generator_version was 0")


def test_a_bit_in_the_middle_of_a_shard_is_noticed_before_training(
    small_problems, own_data, monkeypatch
):
    from t2t_mm.distribution import Distribution
    from t2t_mm.preparation import prepare_data

    problem = get_problem("small_reverse")
    path = own_data / "small_reverse-train-00003-of-00010"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    manifest = manifests.check_manifest(str(own_data), problem)
    with pytest.raises(ValueError, match=rf"{path.name} is damaged: .* Delete the"):
        manifests.check_contents(manifest, str(own_data), problem)
    with pytest.raises(ValueError, match=rf"{path.name} is damaged"):
        prepare_data([problem], str(own_data), None, False, Distribution())
    # Data too large to be read before each training is left to --verify.
    monkeypatch.setattr(manifests, "CHECKED_BYTES", 100)
    manifests.check_contents(manifest, str(own_data), problem)
