"""Many problems, many modalities, one network: Tensor2Tensor and its MultiModel anew.

`t2t_mm.registry` holds the decorators; the commands `mm-datagen`, `mm-trainer`,
`mm-decoder`, `mm-eval`, `mm-report` and `mm-registry` are the front door.
"""

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
    "register_hparams",
    "register_metric",
    "register_mixture",
    "register_modality",
    "register_model",
    "register_optimizer",
    "register_problem",
    "register_vocabulary",
]
