"""Short runs on a small problem, whose evaluations may be made up."""

import pytest

from t2t_mm import examination
from tests.made.quick_runs import training

TINY = "hidden_size=8,filter_size=8,num_heads=2,num_encoder_layers=1,"
TINY += "num_decoder_layers=1"


@pytest.fixture
def train(small_problems, small_data, tmp_path):
    """Trains a tiny network on a small problem; a test says what else it wants."""

    return training(
        tmp_path,
        train_steps=4,
        model="transformer",
        hparams_set="transformer_tiny",
        hparams=TINY,
        problem="small_reverse",
        data_dir=small_data,
        eval_frequency=2,
    )


@pytest.fixture
def losses(monkeypatch):
    """Makes evaluations cheap: each takes its loss from the list, then the last."""
    values = [3.0]

    def evaluate(*_, **__):
        loss = values.pop(0) if len(values) > 1 else values[0]
        metrics = {"exact_match": 1 / loss, "word_f1": loss}
        result = {"examples": 1, "loss": loss, "accuracy": 0.5, "samples": []}
        return result | {"metrics": metrics}

    monkeypatch.setattr(examination.evaluation, "evaluate", evaluate)
    return values
