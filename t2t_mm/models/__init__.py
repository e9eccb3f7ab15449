"""Architectures, one per file, each readable alone; the index, and how one is made."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from t2t_mm.configuration import HParams
from t2t_mm.problem import Problem
from t2t_mm.registry import models

if TYPE_CHECKING:
    from t2t_mm.models.base import Model

for _name in ("multimodel", "transformer"):
    models.declare(_name, f"t2t_mm.models.{_name}")


def build_model(
    name: str,
    hparams: HParams,
    problems: Sequence[Problem],
    vocabularies: Mapping[str, int],
) -> "Model":
    """Makes a model with all its variables.

    Args:
      name: of a registered model.
      hparams: of the model's own class.
      problems: what it is to learn.
      vocabularies: size of each vocabulary and label set, by name.

    Raises:
      UnknownNameError: if there is no such model.
      TypeError: if the hparams are another model's, or a modality cannot be what a
        problem wants of it.
    """
    model = model_class(name, hparams)(hparams, problems, vocabularies, name=name)
    model.build()
    return model


def model_class(name: str, hparams: HParams) -> "type[Model]":
    """Gives the class of a model that has such hparams.

    Raises:
      UnknownNameError: if there is no such model.
      TypeError: if the hparams are another model's.
    """
    found = models.get(name)
    if not isinstance(hparams, found.hparams_class):
        raise TypeError(
            f"Model '{name}' came with {type(hparams).__name__}; expected "
            f"{found.hparams_class.__name__}. Choose a set of that class "
            "with --hparams_set; mm-registry lists them."
        )
    return found
