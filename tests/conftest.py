"""Fixtures that several tests share."""

import pytest

from t2t_mm import registry
from t2t_mm.bin import command


@pytest.fixture
def own_registries(monkeypatch):
    """The registries with the whole zoo; what a test adds is gone after it."""
    command.load_zoo()
    for entries in registry.ALL.values():
        monkeypatch.setattr(entries, "_entries", dict(entries._entries))
