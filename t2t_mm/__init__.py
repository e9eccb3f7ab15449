"""Many problems, many modalities, one network: Tensor2Tensor and its MultiModel anew.

What a user's own problems, models and sets need stands here; importing it does not
import TensorFlow. The commands `mm-datagen`, `mm-trainer`, `mm-decoder`, `mm-eval`,
`mm-report` and `mm-registry` are the front door.
"""

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

__version__ = "0.1.0"

__all__ = [
    "Download",
    "Feature",
    "HParams",
    "Mixture",
    "Problem",
    "register_hparams",
    "register_metric",
    "register_mixture",
    "register_modality",
    "register_model",
    "register_optimizer",
    "register_problem",
    "register_vocabulary",
    "setting",
]
