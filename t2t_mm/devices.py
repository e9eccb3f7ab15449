"""What kind of devices a network computes on; layers and losses choose by it."""

import tensorflow as tf


def has_only_cpus() -> bool:
    """Tells whether there is neither a GPU nor a TPU.

    Then work in parts, side by side, keeps all processors busy; a GPU or TPU wants few
    large operations.
    """
    return not any(tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU"))
