import json
import os
import shutil

import pytest

from t2t_mm import run_settings
from t2t_mm.run_settings import Request, load_run_record
from tests.made.quick_runs import QUICK_NAMES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hparams": "clip_norm=2.0"}, "clip_norm .run 1.0, asked 2.0"),
        ({"problem": "quick_copy"}, r"problems .run .*asked \['quick_copy'\]"),
        ({"model": "multimodel"}, "model .run 'quick_bag', asked 'multimodel'"),
        ({"random_seed": 2}, "random_seed .run 1, asked 2"),
        ({"train_steps": 0}, "train_steps is 0; expected 1 or more"),
        ({"eval_frequency": -1}, "eval_frequency is -1; expected 0"),
        ({"rates": "square"}, "rates rule is 'square'"),
    ],
)
def test_going_on_under_other_settings_is_refused(
    train_quickly, cheap_evaluation, finished_run, changes, message
):
    with pytest.raises(ValueError, match=message):
        train_quickly(**{"output_dir": finished_run, "train_steps": 2} | changes)


@pytest.fixture(scope="module")
def finished_run(quick_data, tmp_path_factory):
    """A run whose settings are written and that was killed before its first step."""
    run_dir = str(tmp_path_factory.mktemp("finished"))
    request = Request("quick_bag", "quick_tiny", "", ",".join(QUICK_NAMES), quick_data)
    settings = run_settings.settle(request, run_dir)
    run_settings.save_run(
        settings,
        run_dir,
        rates={"quick_reverse": 0.5, "quick_copy": 0.5},
        vocabularies={},
        train_steps=2,
    )
    return run_dir


def test_other_rates_and_vocabularies_than_the_runs_are_refused(
    finished_run, quick_data
):
    request = Request(data_dir=quick_data)
    settings = run_settings.settle(request, finished_run)
    rates = {"quick_reverse": 0.5, "quick_copy": 0.5}
    for changes, message in (
        ({"rates": {"quick_copy": 1.0}, "vocabularies": {}}, "rates .run"),
        ({"rates": rates, "vocabularies": {"bytes": "f"}}, "vocabularies .run"),
    ):
        with pytest.raises(ValueError, match=message):
            run_settings.save_run(settings, finished_run, train_steps=2, **changes)


def test_two_patterns_to_freeze_are_refused(finished_run):
    request = Request(hparams="freeze=encoder", freeze="decoder")
    with pytest.raises(ValueError, match="freeze came as 'decoder' and, in hparams,"):
        run_settings.settle(request, finished_run)


def test_a_file_is_no_run(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(NotADirectoryError, match="run is a file; expected a folder,"):
        run_settings.settle(Request(), str(tmp_path / "run"))


def test_a_folder_that_no_disk_can_hold_is_refused(tmp_path):
    place = str(tmp_path / ("a" * 300))
    with pytest.raises(OSError, match=r"output_dir=.* cannot be made \(File name too"):
        run_settings.only_trainer_in(place)


def test_there_is_no_run_below_a_file(tmp_path):
    (tmp_path / "notes").write_text("mine")
    place = str(tmp_path / "notes" / "runs" / "first")
    with pytest.raises(NotADirectoryError, match="first lies below .*notes, a file;"):
        run_settings.settle(Request(), place)


def test_a_place_that_may_not_be_written_is_refused_at_once(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "access", lambda path, _: asked.append(path))
    with pytest.raises(PermissionError, match="may be written to .*; expected a fold"):
        run_settings.settle(Request(), str(tmp_path / "runs" / "first"))
    assert asked == [str(tmp_path)]
    assert not list(tmp_path.iterdir())


def test_a_run_without_its_hparams_is_refused(finished_run, tmp_path):
    shutil.copy(os.path.join(finished_run, "run.json"), tmp_path)
    with pytest.raises(FileNotFoundError, match="has run.json and no hparams.json; "):
        run_settings.settle(Request(), str(tmp_path))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_no_generator_takes_is_refused(finished_run, seed):
    with pytest.raises(ValueError, match=f"random_seed is {seed}; expected 0 to 429"):
        run_settings.settle(Request(random_seed=seed), finished_run)


def test_a_new_run_must_say_what_it_is(tmp_path):
    with pytest.raises(
        ValueError, match="--model --hparams_set --data_dir did not come"
    ):
        run_settings.settle(Request(problem="quick_copy"), str(tmp_path / "new"))


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b"3"])
def test_a_broken_run_record_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ValueError, match="run.json cannot be read"):
        load_run_record(str(tmp_path))


def test_two_do_not_train_into_one_folder(train_quickly, cheap_evaluation, tmp_path):
    with run_settings.only_trainer_in(str(tmp_path / "run")):
        with pytest.raises(
            OSError, match="Another mm-trainer is at work in .*run; one"
        ):
            train_quickly(train_steps=1)
        assert not (tmp_path / "run" / "run.json").exists()
    assert train_quickly(train_steps=1).step == 1
    assert train_quickly(train_steps=2).step == 2


def started_run(data_dir, run_dir):
    """Writes the record of a run of one problem; gives its folder."""
    request = Request("quick_bag", "quick_tiny", "", "quick_copy", str(data_dir))
    settings = run_settings.settle(request, str(run_dir))
    rates = {"quick_copy": 1.0}
    run_settings.save_run(
        settings, str(run_dir), rates=rates, vocabularies={}, train_steps=2
    )
    return str(run_dir)


def test_a_run_finds_its_data_from_every_working_directory(
    quick_data, tmp_path, monkeypatch
):
    monkeypatch.chdir(os.path.dirname(quick_data))
    run_dir = started_run(os.path.basename(quick_data), tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert load_run_record(run_dir)["data_dir"] == quick_data
    assert load_run_record("run")["data_dir"] == quick_data
    assert run_settings.settle(Request(), "run").data_dir == quick_data


def test_a_run_and_its_data_may_be_moved_together(quick_data, tmp_path):
    shutil.copytree(quick_data, tmp_path / "before" / "data")
    started_run(tmp_path / "before" / "data", tmp_path / "before" / "runs" / "one")
    (tmp_path / "before").rename(tmp_path / "after")
    run_dir = str(tmp_path / "after" / "runs" / "one")
    found = run_settings.settle(Request(), run_dir)
    assert found.data_dir == str(tmp_path / "after" / "data")


def test_data_that_went_elsewhere_must_be_named(
    train_quickly, quick_data, tmp_path, cheap_evaluation
):
    shutil.copytree(quick_data, tmp_path / "data")
    train_quickly(train_steps=1, data_dir=str(tmp_path / "data"))
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(
        FileNotFoundError,
        match=r"no folder .*data; the data of problem 'quick_reverse' .* --data_dir",
    ):
        train_quickly(train_steps=2, data_dir=None)
    train_quickly(train_steps=2, data_dir=str(tmp_path / "elsewhere"))
    record = load_run_record(str(tmp_path / "run"))
    assert record["data_dir"] == str(tmp_path / "elsewhere")


def test_a_record_of_before_means_its_path_as_it_stands(tmp_path, quick_data):
    run_dir = started_run(quick_data, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    del record["data_dir_from_run"]
    path.write_text(json.dumps({**record, "data_dir": "demo/data"}))
    assert load_run_record(run_dir)["data_dir"] == "demo/data"
