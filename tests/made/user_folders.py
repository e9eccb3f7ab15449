"""Folders of a user's own that tests register: problems, models, sets."""

import contextlib
import os
import sys

import pytest

from t2t_mm.bin import plugins

TESTS = os.path.dirname(os.path.dirname(__file__))
SMALL_PROBLEMS = os.path.join(TESTS, "small_problems")
QUICK_PROBLEMS = os.path.join(TESTS, "quick_problems")


@contextlib.contextmanager
def registered(folder):
    """Imports a folder anew, as --t2t_usr_dir does; afterwards it is not imported.

    What it registers stays: the fixtures of `conftest` take it out again.
    """
    name = os.path.basename(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, name, raising=False)
        patch.setattr(sys, "path", list(sys.path))
        plugins.import_user_dir(folder)
        yield sys.modules[name]
        sys.modules.pop(name, None)
