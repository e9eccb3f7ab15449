"""A tiny untrained run of four modalities, and a server around it."""

import os
import sys
import warnings

import pytest

# Gradio and what it stands on warn about each other at import.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("gradio", reason="the extra t2t_mm[serve] is not installed")
    from fastapi.testclient import TestClient

    from t2t_mm.serving import server

from t2t_mm import inference, registry
from t2t_mm.bin import command, plugins
from t2t_mm.configuration import named_hparams, override
from t2t_mm.serving.desk import Desk
from t2t_mm.serving.gallery import filled_shelf
from t2t_mm.serving.limits import Limits
from t2t_mm.serving.service import Service
from tests.made.runs import write_run

NAMES = ("small_reverse", "small_tones", "small_colours", "small_captions")
SMALL_PROBLEMS = os.path.join(os.path.dirname(__file__), "..", "small_problems")
LIMITS = Limits(
    max_upload_megabytes=0.25,
    max_text_characters=101,
    max_picture_megapixels=0.5,
    max_sound_seconds=3,
    max_inputs=3,
    max_answers=3,
    max_queue=5,
    deadline_seconds=600,  # the first answers compile, also on a busy machine
)


@pytest.fixture(scope="session")
def small_run(small_data, tmp_path_factory):
    """(folder of a run of random weights at step 7, the run loaded).

    Its problems are in no registry afterwards: other tests register them anew.
    """
    command.load_zoo()
    before = {kind: set(entries.names()) for kind, entries in registry.ALL.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "small_problems", raising=False)
        patch.setattr(sys, "path", list(sys.path))
        plugins.import_user_dir(SMALL_PROBLEMS)
        folder = str(tmp_path_factory.mktemp("run"))
        small = named_hparams("multimodel_tiny")
        hparams = override(small, hidden_size=16, expert_size=8, num_experts=3)
        kind = "multimodel", "multimodel_tiny", hparams
        write_run(folder, *kind, NAMES, small_data, seed=11, steps=(7,))
        run = inference.load_run(folder)
        for kind, entries in registry.ALL.items():
            for name in set(entries._entries) - before[kind]:
                del entries._entries[name]
        sys.modules.pop("small_problems", None)
    return folder, run


@pytest.fixture(scope="session")
def run_dir(small_run):
    """The folder of the run."""
    return small_run[0]


@pytest.fixture(scope="session")
def service(small_run):
    """What answers with it, within narrow limits."""
    return Service(small_run[1], LIMITS)


@pytest.fixture(scope="session")
def desk():
    """Where it answers."""
    desk = Desk(LIMITS)
    yield desk
    desk.close()


@pytest.fixture(scope="session")
def shelf(service):
    """Its gallery, answered."""
    shelf = filled_shelf(service, examples_per_problem=3, answered=1)
    shelf.answer_all(service, lambda work: work())
    return shelf


@pytest.fixture(scope="session")
def client(service, desk, shelf, tmp_path_factory):
    """A client of page and API as mm-serve starts them, without a port."""
    folder = str(tmp_path_factory.mktemp("serving"))
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("GRADIO_TEMP_DIR", os.path.join(folder, "uploads"))
        warnings.simplefilter("ignore")
        application = server.make_application(service, desk, shelf, folder)
        # An error of the application is what a visitor would see, not the test.
        with TestClient(application, raise_server_exceptions=False) as found:
            yield found
