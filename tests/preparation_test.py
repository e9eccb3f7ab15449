"""What is known to be wrong with a run is said before its data is made."""

import gin
import pytest

from t2t_mm import configuration, preparation
from tests.made.quick_runs import quick_training


class DataWasMadeError(Exception):
    """What the making of data is replaced by."""


@pytest.fixture
def train_from_nothing(train_quickly, tmp_path, monkeypatch):
    """Trains as `train_quickly`, but data would have to be made first."""

    def generate_data(*_, **__):
        raise DataWasMadeError

    monkeypatch.setattr(preparation.datagen, "generate_data", generate_data)

    def train(**changes):
        settings = {"data_dir": str(tmp_path / "data"), "tmp_dir": str(tmp_path)}
        return train_quickly(**settings | changes)

    yield train
    gin.clear_config()


def test_data_is_made_where_nothing_is_wrong(train_from_nothing):
    with pytest.raises(DataWasMadeError):
        train_from_nothing()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "transformer"}, "Model 'transformer' came with HParams; expected T"),
        ({"hparams": "optimizer=addam"}, "No optimizer is called 'addam'. Nearest: ad"),
        (
            {"hparams_set": "transformer_tiny", "hparams": "num_heads=3"},
            "num_heads=3 came with hidden_size=128; expected a divisor of it.",
        ),
        ({"hparams": "schedule=constnt"}, "No schedule factor is called 'constnt'"),
        ({"hparams": "weight_decay=0.1"}, "expected 0, since adam does not decay"),
        ({"hparams": "gradient_conflicts=project"}, "Set gradient_accumulation=2"),
        ({"hparams": "loss_weights=((nobody,1.0),)"}, "expected problems of the run"),
        ({"freeze": "("}, "hparam 'freeze' is '.', no regular expression"),
        ({"keep_checkpoint_max": 0}, "keep_checkpoint_max is 0; expected 1 or more"),
        ({"warm_start_from": "nowhere"}, "nowhere is neither a run with a checkpoint"),
        ({"rates": "square"}, "rates rule is 'square'; expected one of explicit"),
        ({"rates": "temperature", "temperature": 0.0}, "temperature is 0.0; expected"),
        ({"callbacks": 3}, "callbacks came as 3; expected a list of keras.callbacks"),
        ({"callbacks": ["x"]}, "callbacks holds 'x'; expected objects of keras.callb"),
        ({"keep_best_metric": "bleu"}, "Metric 'bleu' is of no problem of this run"),
        ({"profile": True}, "--profile came with 8 steps to train; expected 15 or"),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_a_mistake_is_refused_before_data_is_made(
    train_from_nothing, tmp_path, changes, message, check
):
    with pytest.raises((TypeError, ValueError), match=message):
        train_from_nothing(check=check, **changes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ("nowhere", "'nowhere', which finds 0 of 5 variables; expected some, and not"),
        (".", "which finds 5 of 5 variables; expected some, and not all. Their paths"),
    ],
)
def test_a_pattern_without_a_match_is_refused_before_data_is_made(
    train_from_nothing, tmp_path, freeze, message
):
    with pytest.raises(ValueError, match=message):
        train_from_nothing(freeze=freeze)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataWasMadeError):
        train_from_nothing(freeze="text/")


@pytest.fixture(scope="module")
def old_run(quick_data, tmp_path_factory):
    """A run of the quick problems after one step."""
    folder = tmp_path_factory.mktemp("old")
    start = quick_training(folder, quick_data)
    start(train_steps=1, evaluate=False)
    return str(folder / "run")


def test_weights_of_another_model_are_refused_before_data_is_made(
    train_from_nothing, old_run, tmp_path
):
    other = {"model": "transformer", "hparams_set": "transformer_tiny"}
    with pytest.raises(
        ValueError,
        match=r"Nothing of .*ckpt-1 fits the new model; expected a model of the same "
        r"kind and size. Its weights are like quick_bag/.* \[.*\]. Use its --model",
    ):
        train_from_nothing(warm_start_from=old_run, **other)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataWasMadeError):
        train_from_nothing(warm_start_from=old_run)


@pytest.mark.parametrize(
    "binding", ["train.output_dir = 'other'", "hparams.learning_rate = 0.5"]
)
def test_a_gin_binding_that_a_flag_beats_is_refused_before_data_is_made(
    train_from_nothing, tmp_path, binding
):
    configuration.parse_gin([], [binding])
    with pytest.raises(ValueError, match=f"bindings {binding.partition(' ')[0]}; exp"):
        train_from_nothing(hparams="learning_rate=0.1")
    assert not list(tmp_path.iterdir())
