"""Many problems, many modalities, one network: Tensor2Tensor and its MultiModel anew.

What a user's own problems, models and sets need stands here; importing it does not
import TensorFlow. The commands `mm-datagen`, `mm-trainer`, `mm-decoder`, `mm-eval`,
`mm-report` and `mm-registry` are the front door; `t2t_mm.train` is mm-trainer as a
function, and `t2t_mm.load` gives a trained run to ask.
"""

from typing import TYPE_CHECKING, Any

from t2t_mm.configuration import HParams, setting
from t2t_mm.mixture import Mixture
from t2t_mm.problem import Download, Feature, Problem
from t2t_mm.registry import (
    register_hparams,
    register_metric,
    register_mixture,
    register_modality,
    register_model,
    register_optimizer,
    register_problem,
    register_vocabulary,
)

if TYPE_CHECKING:
    from t2t_mm.bin.front import load as load
    from t2t_mm.trainer import train as train

__version__ = "0.1.0"

__all__ = [
    "Download",
    "Feature",
    "HParams",
    "Mixture",
    "Problem",
    "load",
    "register_hparams",
    "register_metric",
    "register_mixture",
    "register_modality",
    "register_model",
    "register_optimizer",
    "register_problem",
    "register_vocabulary",
    "setting",
    "train",
]


def __getattr__(name: str) -> Any:
    """Gives `load` and `train`, imported when used: TensorFlow comes with them.

    As with the commands, all that ships and all plug-ins are registered by then.
    """
    if name == "load":
        from t2t_mm.bin.front import load

        return load
    if name == "train":
        from t2t_mm.bin.command import load_zoo
        from t2t_mm.trainer import train

        load_zoo()
        return train
    raise AttributeError(f"module 't2t_mm' has no attribute '{name}'")
