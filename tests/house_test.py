"""The rules of the house: layout, direction of imports, sizes, names, docstrings."""

import ast
import graphlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "t2t_mm"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# The parts of the package, each of which imports only itself and the ones below it.
# Within the engine, the order is finer: see NETWORK and DATA.
ZOO = ("problems", "hparams")
DATA = (
    "sources tables dataset_sources media treebank problem_kinds declarations "
    "declared_sources declared_problems "
    "records vocabulary vocabulary_learning datagen downloads manifests shards workers "
    "split_reader batch_plan input_pipeline inspection raw_examples raw_splits "
    "work_folder verification beam_datagen locks record_bytes"
).split()
NETWORK = ("layers", "modalities", "models")

TENSORFLOW_FREE = (
    "sources tables dataset_sources media treebank problem_kinds declarations "
    "declared_sources declared_problems "
    "registry problem mixture configuration fields files vocabulary records datagen "
    "downloads manifests vocabulary_learning shards workers split_reader batch_plan "
    "inspection raw_examples raw_splits work_folder locks "
    "metrics trees optimizers problems hparams modalities models "
    "bin.mm_datagen bin.mm_trainer bin.mm_decoder bin.mm_eval bin.mm_report "
    "bin.mm_registry bin.mm_serve bin.front answers pairing raw_targets "
    "run_vocabularies run_settings decode_settings resumable_lines "
    "exported bin.mm_export bin.mm_average bin.mm_bleu bin.run_flags bin.prompt bleu"
).split()


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


def part_of(module):
    return module.split(".")[1] if "." in module else ""


def is_typing_guard(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports_of(path, *, at_top_only=False):
    """Gives the full names that a file imports, without those for type checkers."""
    found, pending = set(), [ast.parse(path.read_text("utf-8"))]
    while pending:
        node = pending.pop()
        if is_typing_guard(node):
            continue
        if isinstance(node, ast.FunctionDef) and at_top_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        pending += ast.iter_child_nodes(node)
    return found


def own_imports(module, **options):
    return {
        name
        for name in imports_of(MODULES[module], **options)
        if name in MODULES and name not in ("t2t_mm", module)
    }


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    here = part_of(module)
    forbidden = {
        "bin": set(),
        "problems": {"bin", "hparams"},
        "hparams": {"bin", "problems"},
    }.get(here, {"bin", *ZOO})
    if here in NETWORK:
        forbidden |= set(DATA) | {"trainer", "inference"}
    if here in DATA:
        forbidden |= set(NETWORK) | {"trainer", "inference"}
    if here == "layers":
        forbidden |= {"modalities", "models", "problem"}
    if here == "modalities":
        forbidden |= {"models"}
    if module == "t2t_mm":  # the front of the package is above all, as commands are
        forbidden = set()
    wrong = {name for name in own_imports(module) if part_of(name) in forbidden}
    assert not wrong, f"{module} imports {sorted(wrong)}"


def test_no_module_imports_itself_by_a_detour():
    graph = {module: own_imports(module, at_top_only=True) for module in MODULES}
    # The package's front imports what users need; everything may import the package.
    graph["t2t_mm"] = set()
    for package in ("problems", "hparams", "bin", "layers", "modalities", "models"):
        # A part may import its siblings; its index imports them all.
        name = f"t2t_mm.{package}"
        for module in graph:
            if module.startswith(f"{name}."):
                graph[module].discard(name)
    tuple(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    "path", SOURCES + TESTS, ids=lambda p: str(p.relative_to(ROOT))
)
def test_nobody_imports_the_links_at_the_top(path):
    tops = {name.split(".")[0] for name in imports_of(path) if name}
    assert not tops & {"problems", "hparams", "bin"}


@pytest.mark.skipif(os.name == "nt", reason="a checkout may hold links as text there")
@pytest.mark.parametrize("name", ["problems", "hparams", "bin"])
def test_the_links_at_the_top_lead_into_the_package(name):
    assert os.readlink(ROOT / name) == f"t2t_mm/{name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_under_400_lines(path):
    assert len(path.read_text("utf-8").splitlines()) < 400


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_are_named_for_what_they_hold(path):
    assert path.stem not in ("utils", "util", "common", "misc", "helpers", "tools")
    assert not path.stem.endswith(("_utils", "_helpers", "_v2"))


@pytest.mark.parametrize("package", ZOO)
def test_every_module_of_the_zoo_that_registers_is_in_its_index(package):
    folder = PACKAGE / package
    reached, pending = set(), [f"t2t_mm.{package}"]
    while pending:
        module = pending.pop()
        if module not in reached:
            reached.add(module)
            pending += own_imports(module, at_top_only=True)
    for path in folder.glob("*.py"):
        if re.search(
            r"^@(registry\.)?register_", path.read_text("utf-8"), re.MULTILINE
        ):
            assert module_name(path) in reached


def test_listing_names_and_answering_help_needs_no_tensorflow():
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module('t2t_mm.' + name)\n"
        "    if {'tensorflow', 'keras'} & set(sys.modules):\n"
        "        sys.exit(f't2t_mm.{name} imports TensorFlow')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *TENSORFLOW_FREE],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr


def public_definitions(path):
    tree = ast.parse(path.read_text("utf-8"))
    yield "module", tree
    pending = [(node, "") for node in tree.body]
    while pending:
        node, prefix = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if node.name.startswith("_"):
                continue
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                pending += [(child, f"{node.name}.") for child in node.body]


# What a base class documents for all of its children.
INHERITED = {"call", "build", "generate", "get_config", "compute_output_shape", "step"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_everything_public_says_what_it_is(path):
    for name, node in public_definitions(path):
        if name.rpartition(".")[2] in INHERITED and "." in name:
            continue
        assert ast.get_docstring(node), f"{path.relative_to(ROOT)}: {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_left_undone_or_asserted(path):
    text = path.read_text("utf-8")
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(node, ast.Assert)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec"), f"line {node.lineno}"
    assert not re.search(r"^\s*(import|from) pickle\b", text, re.MULTILINE)
    assert "shell=True" not in text


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_one_module_uses_gradients_that_keep_their_graphs(path):
    if path != PACKAGE / "gradients.py":
        assert "tf.custom_gradient" not in path.read_text("utf-8")


@pytest.mark.parametrize("path", TESTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_tests_mirror_the_tree(path):
    if path.name in ("__init__.py", "conftest.py", "house_test.py", "doctest_test.py"):
        return
    # What tests run as a process of its own, and what several of them make.
    if path.parent.name in ("programs", "made"):
        return
    assert path.name.endswith("_test.py"), path


def readme_module_map():
    """Gives {module file or folder: line} of the map of the package in the README."""
    text = (ROOT / "README.md").read_text("utf-8")
    block = re.search(r"^t2t_mm/ .*?(?=^```)", text, re.MULTILINE | re.DOTALL)
    return re.findall(r"^  ([\w/]+(?:\.py|/))", block[0], re.MULTILINE)


def test_the_readmes_map_of_the_package_is_true():
    named = set(readme_module_map())
    there = {path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"}
    there |= {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert named == there


def test_the_readme_names_what_it_links():
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        text = document.read_text("utf-8")
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_requirement_is_used_and_every_import_is_required():
    setup = (ROOT / "setup.py").read_text("utf-8")
    required = set(re.findall(r'^    "([\w-]+)[<>=]', setup, re.MULTILINE))
    required |= set(re.findall(r'DEMO = \["([\w-]+)[<>=]', setup))
    package_of = {
        "absl": "absl-py",
        "apache_beam": "apache-beam",
        "google": "protobuf",
        "google_crc32c": "google-crc32c",
        "gin": "gin-config",
        "PIL": "pillow",
        "tensorflow_text": "tensorflow-text",
        "tensorflow_datasets": "tensorflow-datasets",
        "rouge_score": "rouge-score",
    }
    imported = {
        name.split(".")[0] for path in SOURCES for name in imports_of(path) if name
    }
    foreign = imported - set(sys.stdlib_module_names) - {"t2t_mm"}
    foreign = {package_of.get(name, name) for name in foreign}
    assert not foreign - required, "imported and not required"
    # TensorFlow writes summaries with tensorboard, tensorflow-datasets reads its files
    # with importlib-resources; the next two are the part of the stack that users' own
    # problems and graphs build on; developers run the rest.
    asked_for_by_others = {"tensorboard", "importlib-resources"}
    asked_for_by_others |= {"tensorflow-datasets", "tensorflow-text"}
    developers = {"hypothesis", "mypy", "pytest", "pytest-xdist", "ruff", "selenium"}
    unused = required - foreign - asked_for_by_others - developers
    assert not unused, "required and not imported"
