"""Names: given, found, refused, described without importing."""

import subprocess
import sys

import pytest

from t2t_mm import registry
from t2t_mm.registry import DuplicateNameError, Registry, UnknownNameError, snake_case


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ReverseDigits", "reverse_digits"),
        ("multimodel_tiny", "multimodel_tiny"),
        ("TranslateENDE", "translate_ende"),
        ("HTTPServer2Go", "http_server2_go"),
        ("MultiModel", "multi_model"),
        ("Shout", "shout"),
    ],
)
def test_class_and_function_names_become_snake_case(name, expected):
    assert snake_case(name) == expected


def test_bare_decorator_registers_under_the_snake_case_name():
    things = Registry("thing")

    @things.register
    class RedBall:
        "Bounces."

    assert things.get("red_ball") is RedBall
    assert RedBall.registered_name == "red_ball"


def test_a_given_name_wins():
    things = Registry("thing")

    @things.register(name="multimodel")
    class MultiModel:
        "One for all."

    assert things.names() == ["multimodel"]
    assert things.get("multimodel") is MultiModel


def test_a_name_registered_twice_names_both_places():
    things = Registry("thing")

    @things.register
    def ball():
        "First."

    with pytest.raises(
        DuplicateNameError, match="thing 'ball' is registered twice"
    ) as e:

        @things.register(name="ball")
        def another_ball():
            "Second."

    assert str(e.value).count("registry_test.py:") == 2
    assert things.get("ball") is ball


def test_a_declared_name_cannot_be_taken_by_another_module():
    things = Registry("thing")
    things.declare("ball", "some.other.module")
    with pytest.raises(DuplicateNameError, match="in some.other.module and in"):

        @things.register
        def ball():
            "Not the declared one."


def test_a_name_cannot_be_declared_twice():
    things = Registry("thing")
    things.declare("ball", "a.module")
    with pytest.raises(DuplicateNameError, match="declared twice"):
        things.declare("ball", "b.module")


def test_an_unknown_name_is_answered_with_the_nearest_three():
    things = Registry("thing")
    for name in ("translate_ende", "translate_enfr", "translate_deen", "caption"):
        things.register(lambda: None, name=name)
    with pytest.raises(UnknownNameError) as e:
        things.get("translate_endee")
    message = str(e.value)
    assert message.startswith("No thing is called 'translate_endee'. Nearest: ")
    assert "translate_ende, " in message
    assert "caption" not in message
    assert "mm-registry" in message


def test_a_name_like_none_is_answered_with_some_that_exist():
    things = Registry("thing")
    for index in range(10):
        things.register(lambda: None, name=f"ball{index}")
    with pytest.raises(UnknownNameError, match="Known: ball0, .* and more"):
        things.get("qqqq")
    with pytest.raises(UnknownNameError, match="None is registered"):
        Registry("thing").get("ball")


def test_declared_names_are_listed_and_described_without_an_import(
    tmp_path, monkeypatch
):
    (tmp_path / "lazy_shapes.py").write_text(
        "from registry_test_shapes import shapes\n"
        "@shapes.register\n"
        "class RoundThing:\n    '''Rolls.\n\n    Far.\n    '''\n"
        "@shapes.register(name='cube')\n"
        "class Box:\n    'Has corners.'\n"
    )
    (tmp_path / "registry_test_shapes.py").write_text(
        "from t2t_mm.registry import Registry\nshapes = Registry('shape')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    from registry_test_shapes import shapes

    shapes.declare("round_thing", "lazy_shapes")
    shapes.declare("cube", "lazy_shapes")
    assert shapes.names() == ["cube", "round_thing"]
    assert "cube" in shapes and "ball" not in shapes
    assert shapes.describe("round_thing") == "Rolls."
    assert shapes.describe("cube") == "Has corners."
    assert "lazy_shapes" not in sys.modules
    assert shapes.get("cube").__name__ == "Box"
    assert "lazy_shapes" in sys.modules


def test_every_kind_is_in_the_menu():
    kinds = {entries.kind for entries in registry.ALL.values()}
    assert kinds == {
        "problem",
        "mixture",
        "vocabulary",
        "modality",
        "model",
        "hparams set",
        "optimizer",
        "metric",
    }


def test_train_and_load_find_what_ships():
    """In a process of its own: others have filled the registries of this one."""
    program = (
        "import t2t_mm; from t2t_mm import registry\n"
        "assert not registry.models.names() and not registry.mixtures.names()\n"
        "t2t_mm.train\n"
        "assert 'multimodel' in registry.models and 'eight_small' in registry.mixtures"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
