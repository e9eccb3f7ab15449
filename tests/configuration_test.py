"""HParams, overrides, gin, and their files in a run."""

import dataclasses
import json

import gin
import pytest

from t2t_mm import configuration, registry
from t2t_mm.configuration import HParams, setting


@dataclasses.dataclass(frozen=True)
class ToyHParams(HParams):
    """Adds the kinds of fields that models have."""

    kernels: tuple[tuple[int, int], ...] = setting(((3, 1),), "kernels")
    num_experts: int = setting(5, "experts", low=1)


@gin.configurable("toy_train")
def toy_train(output_dir, *, eval_frequency=100, name="x"):
    """Stands for an engine function with settings of how a run goes."""
    return eval_frequency, name


@pytest.fixture(autouse=True)
def toy_set(monkeypatch):
    monkeypatch.setattr(registry.hparams, "_entries", {})
    gin.clear_config()

    @registry.register_hparams
    def toy_tiny():
        """Smallest."""
        return ToyHParams(hidden_size=7)

    yield
    gin.clear_config()


def test_values_are_converted_and_frozen():
    hparams = ToyHParams(learning_rate=1, kernels=[[5, 1]])
    assert hparams.learning_rate == 1.0 and type(hparams.learning_rate) is float
    assert hparams.kernels == ((5, 1),)
    with pytest.raises(dataclasses.FrozenInstanceError):
        hparams.hidden_size = 3


def test_every_field_is_documented():
    for field in dataclasses.fields(HParams):
        assert field.metadata.get("doc"), field.name


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"hidden_size": "64"}, TypeError, "hparam 'hidden_size' came as '64' .str.; "),
        ({"hidden_size": 64.0}, TypeError, "expected int: width D"),
        ({"image_flip": 1}, TypeError, "expected bool"),
        ({"kernels": ((3,),)}, TypeError, "expected tuple.tuple.int, int., ...."),
        ({"hidden_size": 0}, ValueError, "is 0; expected 1 or more: width D"),
        ({"dropout": float("nan")}, ValueError, "expected 0 to less than 1: share"),
        ({"dropout": 1}, ValueError, "is 1.0; expected 0 to less than 1: share"),
        ({"label_smoothing": 1.0}, ValueError, "is 1.0; expected 0 to less than 1"),
        ({"ema_decay": 1.0}, ValueError, "is 1.0; expected 0 to less than 1"),
        ({"adam_beta2": 1.0}, ValueError, "is 1.0; expected 0 to less than 1"),
        ({"audio_input": "mel"}, ValueError, "one of log_mel, waveform"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_expected(values, error, message):
    with pytest.raises(error, match=message):
        ToyHParams(**values)
    with pytest.raises(error, match=message):
        configuration.override(ToyHParams(), **values)


def test_merging_sounds_by_letters_needs_the_loss_that_teaches_letters():
    with pytest.raises(ValueError, match="Set audio_alignment_weight=1, or audio_me"):
        ToyHParams(audio_merging=True)
    assert ToyHParams(audio_merging=True, audio_alignment_weight=0.5).audio_merging


def test_a_misspelt_field_is_an_error_with_the_nearest_name():
    """The ancestor's tiny set misspelt its number of experts and kept 30."""
    with pytest.raises(
        registry.UnknownNameError,
        match="ToyHParams has no hparam 'num_expert'; expected .* Nearest: num_experts",
    ):
        configuration.override(ToyHParams(), num_expert=10)
    with pytest.raises(registry.UnknownNameError, match="Nearest: num_experts"):
        configuration.parse_overrides("num_expert=10", ToyHParams())
    with pytest.raises(TypeError):
        ToyHParams(num_expert=10)


def test_overrides_are_read_by_the_types_of_the_fields():
    text = "hidden_size=11, dropout=0,kernels=((3,1),(7,1)),image_flip=yes,"
    assert configuration.parse_overrides(text, ToyHParams()) == {
        "hidden_size": 11,
        "dropout": 0.0,
        "kernels": ((3, 1), (7, 1)),
        "image_flip": True,
    }
    assert configuration.parse_overrides("", ToyHParams()) == {}
    schedule = "schedule=constant*cosine_decay"
    assert configuration.parse_overrides(schedule, ToyHParams()) == {
        "schedule": "constant*cosine_decay"
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hidden_size", "--hparams has 'hidden_size'; expected name=value"),
        ("hidden_size=big", "sets hidden_size=big; expected int"),
        ("hidden_size=", "expected int"),
        ("kernels=(3,1)", "expected tuple"),
        ("dropout=0.1,dropout=0.2", "sets 'dropout' twice"),
        ("kernels=((3,1)", "opening as closing brackets"),
    ],
)
def test_an_override_that_cannot_be_read_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        configuration.parse_overrides(text, ToyHParams())


def test_gin_and_flags_change_the_same_set_and_flags_win():
    configuration.parse_gin([], ["hparams.hidden_size = 13", "hparams.dropout = 0.5"])
    hparams = configuration.configured_hparams("toy_tiny", dropout=0.25)
    assert (hparams.hidden_size, hparams.dropout) == (13, 0.25)
    assert configuration.unused_gin_bindings() == ["hparams.dropout"]


def test_gin_values_are_type_checked():
    configuration.parse_gin([], ["hparams.hidden_size = '13'"])
    with pytest.raises(TypeError, match="hparam 'hidden_size' came as '13'"):
        configuration.configured_hparams("toy_tiny")
    configuration.parse_gin([], ["hparams.hiden_size = 13"])
    with pytest.raises(registry.UnknownNameError, match="Nearest: hidden_size"):
        configuration.configured_hparams("toy_tiny")


def test_gin_files_are_read_and_bindings_win(tmp_path):
    path = tmp_path / "run.gin"
    path.write_text("toy_train.eval_frequency = 300\ntoy_train.name = 'slow'\n")
    configuration.parse_gin([str(path)], ["toy_train.name = 'fast'"])
    assert toy_train("run") == (300, "fast")
    assert configuration.unused_gin_bindings() == []


def test_a_module_with_settings_may_be_imported_after_the_settings_were_read():
    configuration.parse_gin([], ["toy_train.eval_frequency = 300"])

    @gin.configurable(module="later")
    def toy_late(size=1):
        return size

    assert toy_late() == 1
    assert toy_train("run") == (300, "x")


def test_bindings_that_nothing_read_are_listed():
    configuration.parse_gin([], ["toy_train.name = 'slow'", "hparams.dropout = 0.5"])
    configuration.configured_hparams("toy_tiny")
    assert configuration.unused_gin_bindings() == ["toy_train.name"]


def test_settings_of_an_earlier_run_are_forgotten():
    configuration.parse_gin([], ["toy_train.eval_frequency = 3"])
    configuration.parse_gin([], [])
    assert toy_train("run") == (100, "x")


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        (
            "toy_tran.name='a'",
            "No configurable matching 'toy_tran'. Nearest: toy_train",
        ),
        ("toy_train.nam='a'", "parameter named 'nam'. Nearest: name"),
        ("toy_train.name=@toy_tran", "reference '@toy_tran'. Nearest: toy_train"),
        ("toy_train.name=slow", "malformed node.*text in quotes"),
        ("toy_train.name", "expected ':' or '='"),
        ("toy_train.name=%SLOW", "No bindings specified for 'SLOW/gin.macro'"),
    ],
)
def test_a_mistake_in_gin_is_one_line_with_the_nearest_name(binding, message):
    with pytest.raises(ValueError, match=message) as error:
        configuration.parse_gin([], [binding])
    assert f"--gin_binding={binding}" in str(error.value)
    assert "\n" not in str(error.value)
    assert " object at 0x" not in str(error.value)


def test_a_mistake_in_a_gin_file_names_file_and_line(tmp_path):
    path = tmp_path / "run.gin"
    path.write_text("toy_train.eval_frequency = 300\ntoy_tran.name = 'slow'\n")
    with pytest.raises(ValueError, match=r"run.gin\", line 2"):
        configuration.parse_gin([str(path)], [])


def test_a_missing_gin_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="--gin_file=.*none.gin is no file"):
        configuration.parse_gin([str(tmp_path / "none.gin")], [])


def test_hparams_come_back_from_their_file_as_they_were(tmp_path):
    hparams = ToyHParams(hidden_size=11, kernels=((3, 1), (7, 1)), learning_rate=0.1)
    configuration.save_hparams(hparams, "toy_tiny", str(tmp_path))
    loaded = configuration.load_hparams(str(tmp_path))
    assert loaded == (hparams, "toy_tiny")
    assert type(loaded[0].kernels[0]) is tuple


def test_a_folder_without_hparams_has_none(tmp_path):
    assert configuration.load_hparams(str(tmp_path)) is None


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"values": {}}',
        b'{"hparams_set": "toy_tiny", "values": [1]}',
        b'{"hparams_set": "toy_tiny", "values": {"hidden_size": "x"}}',
        b'{"hparams_set": "toy_tiny", "values": {"gone_field": 1}}',
        b'{"hparams_set": "gone_set", "values": {}}',
        b'{"hparams_set": ["x"], "values": {}}',
    ],
)
def test_a_broken_hparams_file_is_named(tmp_path, content):
    (tmp_path / configuration.HPARAMS_FILE).write_bytes(content)
    with pytest.raises(ValueError, match="hparams.json cannot be used: "):
        configuration.load_hparams(str(tmp_path))


def test_the_file_says_class_set_and_every_value():
    record = json.loads(configuration.to_json(ToyHParams(), "toy_tiny"))
    assert record["class"] == "ToyHParams" and record["hparams_set"] == "toy_tiny"
    assert set(record["values"]) == {f.name for f in dataclasses.fields(ToyHParams)}


def test_a_run_refuses_other_hparams_and_names_every_field_that_differs():
    """The ancestor let an old run's file beat the set that was asked for."""
    saved, asked = ToyHParams(), ToyHParams(hidden_size=11, dropout=0.5)
    with pytest.raises(ValueError) as error:
        configuration.check_same(saved, asked, "/runs/one")
    message = str(error.value)
    assert "hidden_size (run 128, asked 11)" in message
    assert "dropout (run 0.1, asked 0.5)" in message
    assert "learning_rate" not in message
    configuration.check_same(saved, ToyHParams(), "/runs/one")


def test_a_run_refuses_another_class_of_hparams():
    with pytest.raises(ValueError, match="trained with ToyHParams, now HParams came"):
        configuration.check_same(ToyHParams(), HParams(), "/runs/one")


def test_the_operative_gin_of_a_run_is_written(tmp_path):
    configuration.parse_gin([], ["toy_train.eval_frequency = 300"])
    toy_train("run")
    configuration.save_operative_gin(str(tmp_path))
    text = (tmp_path / configuration.GIN_FILE).read_text()
    assert "toy_train.eval_frequency = 300" in text


def test_a_setting_newer_than_the_run_is_as_the_class_has_it(tmp_path):
    configuration.save_hparams(ToyHParams(hidden_size=3), "toy_tiny", str(tmp_path))
    path = tmp_path / configuration.HPARAMS_FILE
    record = json.loads(path.read_text())
    del record["values"]["hidden_size"]
    path.write_text(json.dumps(record))
    # The set has 7; a run from before the setting had what is now the default.
    loaded, _ = configuration.load_hparams(str(tmp_path))
    assert loaded.hidden_size == HParams().hidden_size
