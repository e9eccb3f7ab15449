"""Generating data: the same bytes always, and again only what must be."""

import json
import os
import pathlib

import pytest

from t2t_mm import datagen, manifests, records, workers
from t2t_mm.problem import get_problem
from tests.made.data import NAMES, contents, generate, texts


def test_one_process_and_this_process_give_the_same_bytes(
    small_problems, small_data, tmp_path
):
    generate(tmp_path)
    assert contents(tmp_path / "data") == contents(small_data)


def test_two_processes_and_another_order_give_the_same_bytes(
    small_problems, small_data, tmp_path
):
    generate(tmp_path, NAMES[::-1], num_processes=2)
    assert contents(tmp_path / "data") == contents(small_data)


def test_every_example_is_there_once_in_another_order(small_problems, small_data):
    problem = get_problem("small_reverse")
    generated = [one["inputs"] for one in problem.generate("train", "")]
    stored = texts(small_data, "small_reverse")
    assert stored != generated
    assert sorted(stored) == sorted(generated)


def test_another_seed_gives_another_order(small_problems, small_data, tmp_path):
    generate(tmp_path, ["small_reverse"], seed=3)
    stored = texts(tmp_path / "data", "small_reverse")
    assert stored != texts(small_data, "small_reverse")
    assert sorted(stored) == sorted(texts(small_data, "small_reverse"))


def test_the_manifest_says_what_there_is(small_problems, small_data):
    problem = get_problem("small_reverse")
    manifest = manifests.check_manifest(small_data, problem)
    assert manifest["seed"] == datagen.DEFAULT_SEED
    assert manifest["licence"] == "none needed"
    assert manifest["features"]["inputs"]["vocabulary"] == "small_words"
    assert list(manifest["splits"]) == ["train", "dev", "test"]
    train = manifest["splits"]["train"]
    assert train["examples"] == sum(one["examples"] for one in train["shards"]) == 61
    assert train["shards"][3]["name"] == "small_reverse-train-00003-of-00010"
    lengths = [
        len(records.unpack(record)["targets"])
        for shard in train["shards"]
        for record in records.read_records(os.path.join(small_data, shard["name"]))
    ]
    assert train["lengths"]["targets"]["max"] == max(lengths)
    assert train["lengths"]["targets"]["mean"] == pytest.approx(
        sum(lengths) / 61, abs=1e-3
    )


def test_the_number_of_shards_can_be_chosen(small_problems, tmp_path):
    made = generate(tmp_path, ["small_colours"], num_shards=3)
    splits = made["small_colours"]["splits"]
    assert [one["examples"] for one in splits["train"]["shards"]] == [21, 20, 20]
    assert len(splits["dev"]["shards"]) == 1
    again = generate(tmp_path, ["small_colours"], num_shards=2)
    assert len(again["small_colours"]["splits"]["train"]["shards"]) == 2
    assert "small_colours-train-00000-of-00003" not in contents(tmp_path / "data")


def test_more_shards_than_examples_leave_some_empty(small_problems, tmp_path):
    made = generate(tmp_path, ["small_colours"], num_shards=67)
    counts = [
        one["examples"] for one in made["small_colours"]["splits"]["train"]["shards"]
    ]
    assert sum(counts) == 61 and counts.count(0) == 6


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_what_is_finished_is_not_touched_again(small_problems, tmp_path, capsys):
    generate(tmp_path)
    before = times(tmp_path / "data")
    generate(tmp_path, progress=True)
    after = times(tmp_path / "data")
    assert {k: v for k, v in after.items() if k != ".datagen.lock"} == {
        k: v for k, v in before.items() if k != ".datagen.lock"
    }
    assert "small_tones: finished before, skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("small_colours-train-00002-of-00010", "is missing"),
        ("small_colours-dev.index.npy", "is missing"),
        ("small_colours.manifest.json", "to be made"),
    ],
)
def test_what_was_lost_is_made_again(
    small_problems, small_data, tmp_path, capsys, name, reason
):
    generate(tmp_path)
    (tmp_path / "data" / name).unlink()
    generate(tmp_path, progress=True)
    assert contents(tmp_path / "data") == contents(small_data)
    assert reason in capsys.readouterr().err


def test_a_new_version_is_made_again(small_problems, tmp_path, capsys):
    generate(tmp_path, ["small_colours"])
    small_problems.SmallColours.version = 2
    made = generate(tmp_path, ["small_colours"], progress=True)
    assert made["small_colours"]["version"] == 2
    assert "version was 1 and is 2 now" in capsys.readouterr().err


def test_a_vocabulary_learned_again_makes_its_finished_problems_again(
    small_problems, tmp_path
):
    generate(tmp_path)
    small_problems.SmallTones.version = 2
    generate(tmp_path, ["small_tones", "small_reverse"])
    for name in NAMES:
        manifests.check_manifest(str(tmp_path / "data"), get_problem(name))


def test_a_problem_left_behind_by_its_vocabulary_is_refused(small_problems, tmp_path):
    generate(tmp_path)
    generate_tones = small_problems.SmallTones.generate

    def other_words(self, split, tmp_dir):
        for example in generate_tones(self, split, tmp_dir):
            yield example | {"targets": "quite other words"}

    small_problems.SmallTones.generate = other_words
    small_problems.SmallTones.version = 2
    generate(tmp_path, ["small_tones"])
    words = "vocabulary 'small_words' is missing or was learned again .*mm-datagen"
    with pytest.raises(ValueError, match=words):
        manifests.check_manifest(str(tmp_path / "data"), "small_reverse")


def test_the_order_of_sets_is_the_same_in_every_process():
    orders = set()
    for _ in range(2):
        with workers.Workers(1, (), progress=False) as pool:
            (result,) = pool.run(os.getenv, [("PYTHONHASHSEED",)], label="x")
            orders.add(result)
    assert orders == {(0, "0")}


def test_manifests_are_json_with_a_hash_for_every_file(small_data):
    import hashlib

    path = pathlib.Path(small_data) / "small_tones.manifest.json"
    for split in json.loads(path.read_text())["splits"].values():
        for file in (*split["shards"], split["index"]):
            content = (path.parent / file["name"]).read_bytes()
            assert len(content) == file["bytes"]
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
