"""Named hparams sets, one file per model; importing this registers them all."""

from t2t_mm.hparams import multimodel as multimodel
from t2t_mm.hparams import transformer as transformer
