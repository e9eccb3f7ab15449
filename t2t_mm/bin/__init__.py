"""The commands: flags in, engine called; the one place where zoo and engine meet.

Each `mm_*.py` is a console script. Nothing here imports TensorFlow at import, so that
`--help` and a wrong flag answer at once.
"""
