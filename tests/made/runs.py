"""Runs as the trainer leaves them, whose networks were never trained."""

import keras

from t2t_mm import vocabulary
from t2t_mm.checkpoints import Checkpoints
from t2t_mm.mixture import Mixture
from t2t_mm.models import build_model
from t2t_mm.optimizers import make_optimizer
from t2t_mm.problem import get_problem
from t2t_mm.run_settings import Settings, save_run
from t2t_mm.training_state import TrainingState


def write_run(
    folder, model, hparams_set, hparams, names, data_dir, *, seed, steps, add=None
):
    """Writes a run with a checkpoint at each of some steps, the first as the best.

    Args:
      folder: of the run.
      model, hparams_set, hparams, names, data_dir: its settings; names are problems.
      seed: of the weights.
      steps: numbers of the checkpoints.
      add: f(shape), what each save adds to each weight before.

    Returns:
      The network as it was saved last.
    """
    problems = [get_problem(name) for name in names]
    words = vocabulary.load_vocabularies(problems, data_dir)
    sizes = vocabulary.vocabulary_sizes(problems, words)
    keras.utils.set_random_seed(seed)
    network = build_model(model, hparams, problems, sizes)
    mixture = Mixture(tuple(names))
    settings = Settings(model, hparams_set, hparams, mixture, data_dir, 1, True)
    prints = {name: one.fingerprint for name, one in words.items()}
    save_run(settings, folder, rates={}, vocabularies=prints, train_steps=steps[-1])
    optimizer = make_optimizer(hparams, network.trainable_variables, steps[-1])
    state = TrainingState(network, optimizer, names)
    kept = Checkpoints(folder, state)
    for step in steps:
        for variable in network.trainable_variables if add else ():
            variable.assign_add(add(variable.shape))
        state.step = step
        kept.save(is_best=step == steps[0])
    return network
