import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.configuration import named_hparams
from t2t_mm.input_pipeline import batch_signature
from t2t_mm.made_up_batches import made_up_batch, made_up_problem
from t2t_mm.models import build_model
from t2t_mm.optimizers import clip_by_global_norm, make_optimizer
from t2t_mm.precision import computing_in
from t2t_mm.problem import Feature
from t2t_mm.train_step import NUMBERS, TrainSteps
from t2t_mm.training_state import TrainingState

WORDS = Feature("text", vocabulary="words")
ANIMALS = Feature("class_label", vocabulary="animals", labels=("cat", "dog", "eel"))
SIZES = {"words": 11, "animals": 3}
COPY = made_up_problem("copy", WORDS, WORDS, "To-Copy")
SHOUT = made_up_problem("shout", WORDS, WORDS, "To-Shout")
WHISPER = made_up_problem("whisper", WORDS, WORDS, "To-Shout")
ANIMAL = made_up_problem("animal", WORDS, ANIMALS, "To-Animal")
PROBLEMS = [COPY, SHOUT, WHISPER, ANIMAL]


def made_run(optimizer="adam", seed=1, **changes):
    """State and compiled steps of a small network over all problems."""
    keras.utils.set_random_seed(seed)
    hparams = dataclasses.replace(
        named_hparams("transformer_tiny"),
        **{"hidden_size": 12, "filter_size": 13, "num_encoder_layers": 1}
        | {"num_decoder_layers": 1, "dropout": 0.0, "learning_rate": 0.01}
        | {"schedule": "constant", "optimizer": optimizer}
        | changes,
    )
    model = build_model("transformer", hparams, PROBLEMS, SIZES)
    optimizer = make_optimizer(hparams, model.trainable_variables, 100)
    state = TrainingState(
        model,
        optimizer,
        [problem.name for problem in PROBLEMS],
        is_balancing=hparams.loss_balancing,
    )
    signatures = {problem.name: batch_signature(problem) for problem in PROBLEMS}
    return state, TrainSteps(state, signatures, hparams.clip_norm)


def batch_of(problem, seed=0, rows=3):
    batch = made_up_batch(problem, SIZES, num_examples=rows, seed=seed)
    return {name: tf.constant(value) for name, value in batch.items()}


def values_of(state):
    """Every variable of network and optimizer, by name."""
    values = state.variables().items()
    return {key: v.numpy() for key, v in values if not key.startswith("trainer/")}


def gradients_of(state, problem, batch, scale=1.0):
    """The gradient of every variable that has one, by path, without any sharing."""
    model = state.model
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        losses = model.losses_of(problem.name, batch, training=True)
        loss = scale * losses["loss_sum"] / losses["weight"] + losses["auxiliary_loss"]
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    return {
        variable.path: tf.convert_to_tensor(gradient)
        for gradient, variable in zip(gradients, variables, strict=True)
        if gradient is not None
    }


def train_plainly(state, problem, batch, clip_norm, scale=1.0):
    """One update without any sharing: the gradient of every variable, then `apply`."""
    gradients = gradients_of(state, problem, batch, scale)
    clipped, _ = clip_by_global_norm(list(gradients.values()), clip_norm)
    by_path = {v.path: v for v in state.model.trainable_variables}
    state.optimizer.apply(clipped, [by_path[path] for path in gradients])


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "adafactor", "momentum"])
def test_a_shared_step_is_the_plain_update_of_each_problem(optimizer):
    shared, steps = made_run(optimizer, decode_classes=True)
    plain, _ = made_run(optimizer, decode_classes=True)
    for turn, problem in enumerate([COPY, SHOUT, ANIMAL, WHISPER, COPY]):
        batch = batch_of(problem, seed=turn)
        steps(problem.name, batch)
        train_plainly(plain, problem, batch, 1.0)
    found, expected = values_of(shared), values_of(plain)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=2e-3, atol=2e-5, err_msg=key)
    assert int(shared.optimizer.iterations) == 5


def test_problems_of_the_same_features_are_compiled_once():
    state, steps = made_run()
    traces = []
    losses_of = state.model.losses_of

    def counted(name, batch, **options):
        traces.append(name)
        return losses_of(name, batch, **options)

    state.model.losses_of = counted
    for problem in (SHOUT, COPY, WHISPER, ANIMAL, COPY):
        numbers, _ = steps(problem.name, batch_of(problem, rows=5))
        assert np.isfinite(numbers.numpy()).all()
    assert traces == ["shout", "animal"]
    assert steps.num_compiled == 2


def test_a_step_moves_the_command_of_its_problem_and_no_other():
    state, steps = made_run()
    names = {"To-Copy": "to_copy", "To-Shout": "to_shout", "To-Animal": "to_animal"}
    for problem in (COPY, SHOUT, WHISPER):
        before = values_of(state)
        steps(problem.name, batch_of(problem))
        after = values_of(state)
        moved = {key for key in after if (after[key] != before[key]).any()}
        for command, name in names.items():
            own = {key for key in after if name in key}
            assert len(own) == 3, own  # the vector and its two moments
            assert own <= moved if command == problem.command else not own & moved


def test_the_clipped_norm_counts_the_command_too():
    state, steps = made_run(optimizer="momentum", adam_beta1=0.0, learning_rate=1.0)
    before = values_of(state)
    numbers, _ = steps("copy", batch_of(COPY))
    norm = dict(zip(NUMBERS, numbers.numpy(), strict=True))["gradient_norm"]
    assert norm > 1
    after = values_of(state)
    moves = [
        np.sum((after[key] - before[key]).astype(np.float64) ** 2)
        for key in after
        if key.startswith("model/") and after[key].dtype == np.float32
    ]
    assert np.sqrt(np.sum(moves)) == pytest.approx(1.0, rel=1e-4)


def freeze(state, is_frozen):
    for variable in state.model.trainable_variables:
        variable.trainable = not is_frozen(variable.path)


def test_the_clipped_norm_leaves_out_a_command_that_is_frozen():
    made = {"optimizer": "momentum", "adam_beta1": 0.0, "learning_rate": 1.0}
    state, steps = made_run(**made, clip_norm=0.1)
    freeze(state, lambda path: "to_copy" in path)
    for problem in (COPY, SHOUT):  # of one step's features; the other's is trained
        before = values_of(state)
        numbers, _ = steps(problem.name, batch_of(problem))
        norm = dict(zip(NUMBERS, numbers.numpy(), strict=True))["gradient_norm"]
        after = values_of(state)
        moved = {
            key: after[key] - before[key]
            for key in after
            if key.startswith("model/") and (after[key] != before[key]).any()
        }
        total = sum(np.sum(np.square(x, dtype=np.float64)) for x in moved.values())
        assert norm > 0.1 and np.sqrt(total) == pytest.approx(0.1, rel=1e-4)
        assert not any("to_copy" in key for key in moved)
        assert any("to_shout" in key for key in moved) == (problem is SHOUT)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_commands_alone_can_be_trained(accumulation):
    state, steps = made_run(gradient_accumulation=accumulation)
    freeze(state, lambda path: "commands" not in path)
    before = values_of(state)
    for _ in range(2 * accumulation):
        numbers, _ = steps("copy", batch_of(COPY))
    after = values_of(state)
    assert int(state.optimizer.iterations) == 2
    moved = {key for key in after if (after[key] != before[key]).any()}
    assert {key for key in moved if key.startswith("model/")} == {
        key for key in after if key.startswith("model/") and "to_copy" in key
    }
    assert all(np.isfinite(after[key]).all() for key in moved)


def test_class_problems_that_never_decode_leave_every_command_alone():
    state, steps = made_run()
    before = values_of(state)
    steps("animal", batch_of(ANIMAL))
    after = values_of(state)
    commands = [key for key in after if "commands" in key]
    assert len(commands) == 9
    for key in commands:
        np.testing.assert_array_equal(after[key], before[key], err_msg=key)


def test_a_problem_counts_as_much_as_its_loss_weight_says():
    state, steps = made_run(loss_weights=(("copy", 0.25),), clip_norm=0.0)
    plain, _ = made_run()
    for turn, (problem, scale) in enumerate([(COPY, 0.25), (SHOUT, 1.0)]):
        batch = batch_of(problem, seed=turn)
        numbers, _ = steps(problem.name, batch)
        found = dict(zip(NUMBERS, numbers.numpy(), strict=True))
        assert found["loss"] > 1.5, "what is logged is not weighted"
        train_plainly(plain, problem, batch, 0.0, scale)
    expected = values_of(plain)
    for key, value in values_of(state).items():
        np.testing.assert_allclose(value, expected[key], rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("pair", [("copied", 1.0), ("copy", 0.0)])
def test_loss_weights_of_nobody_and_of_nothing_are_refused(pair):
    with pytest.raises(ValueError, match=r"loss_weights' has .* expected problems of"):
        made_run(loss_weights=(pair,))


def test_two_loss_weights_of_one_problem_are_refused():
    with pytest.raises(ValueError, match="names copy, copy; expected each problem on"):
        made_run(loss_weights=(("copy", 0.5), ("copy", 0.7)))


def test_balanced_losses_are_divided_by_their_running_mean():
    state, steps = made_run(loss_balancing=True)
    assert float(state.loss_scale("copy")) == 1.0
    losses = []
    for turn in range(2):
        numbers, _ = steps("copy", batch_of(COPY, seed=turn))
        found = dict(zip(NUMBERS, numbers.numpy(), strict=True))
        losses.append(found["loss_sum"] / found["weight"])
    mean = losses[0] + 0.01 * (losses[1] - losses[0])
    assert float(state.loss_scale("copy")) == pytest.approx(1 / mean, rel=1e-5)
    assert float(state.loss_scale("shout")) == 1.0
    assert "trainer/mean_loss/copy" in state.variables()


def test_bfloat16_learns_along_the_same_curve():
    curves = {}
    for precision in ("float32", "mixed_bfloat16"):
        with computing_in(precision):
            state, steps = made_run(learning_rate=0.003)
            losses = []
            for turn in range(50):
                numbers, _ = steps("copy", batch_of(COPY, seed=turn % 5, rows=7))
                losses.append(numbers.numpy()[NUMBERS.index("loss")])
        curves[precision] = np.array(losses)
        moments = [v.dtype for v in state.optimizer.variables if "mom" in v.path]
        assert set(moments) == {"float32"}
    assert curves["float32"][-5:].mean() < 0.8 * curves["float32"][:5].mean()
    np.testing.assert_allclose(
        curves["mixed_bfloat16"], curves["float32"], rtol=0.05, atol=0.02
    )


@pytest.mark.parametrize("model", ["transformer", "multimodel"])
def test_a_step_moves_only_what_the_problem_uses(model):
    problems = [
        made_up_problem("copy", WORDS, WORDS, "To-Copy"),
        made_up_problem("animal", WORDS, ANIMALS, "To-Animal"),
    ]
    hparams = named_hparams(f"{model}_tiny")
    hparams = dataclasses.replace(hparams, hidden_size=16, learning_rate=0.1)
    sizes = {"words": 11, "animals": 3}
    network = build_model(model, hparams, problems, sizes)
    optimizer = make_optimizer(hparams, network.trainable_variables, 100)
    state = TrainingState(network, optimizer, ["copy", "animal"])
    batch = {
        name: tf.constant(value)
        for name, value in made_up_batch(problems[0], sizes).items()
    }
    signature = {
        name: tf.TensorSpec([None] * value.ndim, value.dtype)
        for name, value in batch.items()
    }
    before = {v.path: v.numpy() for v in network.trainable_variables}
    steps = TrainSteps(state, {"copy": signature}, hparams.clip_norm)
    for _ in range(2):
        numbers, _ = steps("copy", batch)
    assert numbers.shape == [len(NUMBERS)]
    assert np.isfinite(numbers.numpy()).all()
    assert int(optimizer.iterations) == 2
    moved = {
        variable.path
        for variable in network.trainable_variables
        if (variable.numpy() != before[variable.path]).any()
    }
    still = before.keys() - moved
    assert any("class_label" in path for path in still)
    assert not any("class_label" in path for path in moved)
    assert any("/text/" in path for path in moved)
    moments = {v.path: v.numpy() for v in optimizer.variables}
    for path in still:
        key = path.replace("/", "_")
        for moment in ("momentum", "velocity"):
            assert not moments[f"{optimizer.name}/{key}_{moment}"].any()
