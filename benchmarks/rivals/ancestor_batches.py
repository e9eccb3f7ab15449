"""Batches for our step of `ancestor.py`: the ancestor's own, or our pipeline's."""


def own_batches(shards, hparams, seed):
    """Gives the batches that training makes of the pairs, read as it goes."""
    from t2t_mm.bin import plugins
    from t2t_mm.input_pipeline import training_batches
    from t2t_mm.problem import get_problem

    plugins.import_user_dir(f"{shards}/problem")
    problem = get_problem("benchmark_pairs")
    return (batch for _, batch in training_batches(problem, shards, hparams, seed=seed))


def made_batch(inputs, targets):
    """Gives our form of a batch: ids [B, S] and [B, L], and where they are real."""
    import tensorflow as tf

    batch = {}
    for name, ids in (("inputs", inputs), ("targets", targets)):
        ids = ids.reshape(ids.shape[:2])
        batch[name] = tf.constant(ids, tf.int32)
        batch[f"{name}_mask"] = tf.constant(ids != 0)
    return batch
