"""Modality nets: from raw columns to [B, S, D] and back; one file each, the index here.

One net per modality serves all problems. Its parts are shared by name: two text
features share an embedding when, and only when, their vocabularies have one name.
"""

from t2t_mm.registry import modalities

for _name in ("text", "image", "audio", "class_label"):
    modalities.declare(_name, f"t2t_mm.modalities.{_name}")
