"""How weights are updated: the settings of optimisation, part of every `HParams`.

`optimizers`, `schedules`, `train_step`, `accumulation` and `averages` read them.
Imports no TensorFlow.
"""

from dataclasses import dataclass

from t2t_mm.fields import setting


@dataclass(frozen=True)
class OptimisationSettings:
    """Optimizer, schedule, and what happens to losses and gradients before an update.

    `configuration.HParams` adds the rest and checks types and ranges.
    """

    optimizer: str = setting("adam", "registered optimizer")
    learning_rate: float = setting(1e-3, "peak learning rate", low=0)
    schedule: str = setting(
        "constant*linear_warmup*rsqrt_decay",
        "factors of the learning rate, joined by *",
    )
    warmup_steps: int = setting(1000, "steps of linear warm-up", low=0)
    decay_steps: int = setting(
        0, "steps until cosine or linear decay ends; 0: train_steps", low=0
    )
    clip_norm: float = setting(
        1.0, "largest global norm of the gradient; 0 never clips", low=0
    )
    weight_decay: float = setting(0.0, "decoupled decay of matrices", low=0)
    freeze: str = setting(
        "", "regular expression; variables whose path it finds keep their values"
    )
    adam_beta1: float = setting(0.9, "decay of Adam's first moment", low=0, below=1)
    adam_beta2: float = setting(0.98, "decay of Adam's second moment", low=0, below=1)
    adam_epsilon: float = setting(1e-9, "Adam's epsilon", low=0)
    loss_weights: tuple[tuple[str, float], ...] = setting(
        (), "(problem, weight of its loss) pairs; 1 where none is given"
    )
    loss_balancing: bool = setting(
        False, "divide each problem's loss by its running mean, so that all weigh alike"
    )
    gradient_accumulation: int = setting(
        1, "batches per update, each drawn anew; their gradients are averaged", low=1
    )
    gradient_conflicts: str = setting(
        "add",
        "gradients of several problems in one update: added as they are, or first "
        "projected so that none undoes another (PCGrad)",
        choices=("add", "project"),
    )
    ema_decay: float = setting(
        0.0,
        "decay of the weights' moving average, which is evaluated and used; 0: none",
        low=0,
        below=1,
    )
