"""Packaging: what is installed, what it needs, which commands it brings."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$',
    (ROOT / "t2t_mm" / "__init__.py").read_text(encoding="utf-8"),
    re.MULTILINE,
).group(1)

REQUIREMENTS = [
    "absl-py>=2.1,<3",
    "gin-config>=0.5,<0.6",
    "google-crc32c>=1.5,<2",
    # tensorflow-datasets imports it and asks for it on old Pythons only.
    "importlib-resources>=6,<8",
    "jinja2>=3.1,<4",
    "jiwer>=4,<5",
    "keras>=3.15,<4",
    "matplotlib>=3.9,<4",
    "numpy>=2,<3",
    "pillow>=11,<13",
    "protobuf>=5,<8",
    # Folders that Hugging Face's datasets saved; tensorflow-datasets needs it, too.
    "pyarrow>=16,<27",
    "rouge-score>=0.1.2,<0.2",
    "sacrebleu>=2.5,<3",
    "scipy>=1.14,<2",
    "sentencepiece>=0.2,<0.3",
    "soundfile>=0.13,<0.15",
    # No longer a part of TensorFlow since 2.21, which writes summaries through it.
    "tensorboard>=2.20,<3",
    "tensorflow>=2.21,<2.22",
    "tensorflow-datasets>=4.9.9,<5",
    # Not imported by the package: graphs of users' own problems.
    "tensorflow-text>=2.21,<2.22",
    "tqdm>=4.66,<5",
]

# Parsing sentences to trees, one of the eight problems of the demo.
DEMO = ["spacy>=3.8,<3.9"]

# Answer.nltk_tree gives what the rest of the world calls a tree.
TREES = [
    "nltk>=3.9,<4",
]

# The page and the JSON API of mm-serve.
SERVE = [
    "fastapi>=0.132,<1",
    "gradio>=6.31,<7",
    "pydantic>=2.10,<3",
    "starlette>=0.46,<2",
    "uvicorn>=0.30,<1",
]

# mm-datagen --beam. It holds protobuf below 7, which all else can live with.
BEAM = [
    "apache-beam>=2.65,<3",
]

DEVELOPMENT = [
    "hypothesis>=6.100,<7",
    "mypy>=1.13,<3",
    "pytest>=8,<10",
    "pytest-xdist>=3.6,<4",
    "ruff>=0.9,<1",
    "selenium>=4.30,<5",
]

COMMANDS = [
    "datagen",
    "trainer",
    "decoder",
    "eval",
    "average",
    "bleu",
    "export",
    "report",
    "registry",
    "serve",
    "make_tf_configs",
]

setup(
    name="t2t-mm",
    version=VERSION,
    description="Many problems, many modalities, one network: Tensor2Tensor anew.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    # The links problems, hparams and bin beside this file point into t2t_mm.
    packages=find_packages(include=["t2t_mm", "t2t_mm.*"]),
    package_data={
        "t2t_mm": ["**/*.html", "**/*.j2", "**/*.css", "**/*.js", "**/*.gin"]
    },
    install_requires=REQUIREMENTS,
    extras_require={
        "beam": BEAM,
        "demo": DEMO,
        "serve": SERVE,
        "trees": TREES,
        "dev": DEVELOPMENT + TREES + SERVE,
        "test": DEVELOPMENT + TREES,
    },
    entry_points={
        "console_scripts": [
            f"mm-{name.replace('_', '-')} = t2t_mm.bin.mm_{name}:main"
            for name in COMMANDS
        ]
    },
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
