"""Requests in TensorFlow Serving's REST format, as its api_rest.md describes it."""

import base64
import json

import numpy as np
import tensorflow as tf


def rest_predict(model, body):
    """Answers a request as TensorFlow Serving does: JSON to tensors and back."""
    request = json.loads(body)
    name = request.get("signature_name", "serving_default")
    function = model.signatures[name]
    specs = function.structured_input_signature[1]
    in_rows = "instances" in request
    given = request["instances"] if in_rows else request["inputs"]
    if in_rows:
        rows = [one if is_named(one) else {next(iter(specs)): one} for one in given]
        assert all(row.keys() == specs.keys() for row in rows)
        columns = {key: [row[key] for row in rows] for key in specs}
    else:
        columns = given if is_named(given) else {next(iter(specs)): given}
    tensors = {
        key: tf.constant(decoded(columns[key]), spec.dtype)
        for key, spec in specs.items()
    }
    assert all(specs[key].is_compatible_with(value) for key, value in tensors.items())
    found = {key: value.numpy() for key, value in function(**tensors).items()}
    # A server writes bytes as they are, unless the name says that they are no text.
    assert not any(key.endswith("_bytes") for key in found)
    lists = {
        key: np.char.decode(value.astype(bytes), "utf-8").tolist()
        if value.dtype == object
        else value.tolist()
        for key, value in found.items()
    }
    if not in_rows:
        return json.dumps({"outputs": lists}, allow_nan=False)
    rows = [{k: v[i] for k, v in lists.items()} for i in range(len(given))]
    return json.dumps({"predictions": rows}, allow_nan=False)


def is_named(value):
    return isinstance(value, dict) and value.keys() != {"b64"}


def decoded(value):
    if isinstance(value, list):
        return [decoded(one) for one in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"], validate=True)
    return value
