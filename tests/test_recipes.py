"""Every command line of docs/recipes.md, for a step or two of a tiny network on made-up images of the source's kind."""

import re
import shlex
from pathlib import Path

import click
import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds
from click.testing import CliRunner
from PIL import Image

from anogan_tf.commands.cli import main

pytestmark = pytest.mark.usefixtures("same_place", "one_critic_step", "undrawn", "untraced")

TEXT = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
RECIPES = [[shlex.split(line) for line in block.replace("\\\n", "").splitlines()] for block in BLOCKS]
TINY = {  # click takes the last value of an option that is given again
    "train": [
        *("--epochs", "1", "--encoder-epochs", "1", "--width", "2", "--latent-dim", "4", "--batch-size", "16"),
        *("--steps", "1", "--chunk", "8", "--alpha", "0.5", "--data-dir", "sets"),
    ],
    "test": ["--pictures", "0"],
    "score": ["--pictures", "0"],
}
SMALLER = ["--size", "16"]  # in place of a size that is given
PATCHES = ["--size", "32"]  # and of a patch, of which smaller pictures would have more
LARGE = {"hq-128", "hq-256", "oct-paper"}  # networks of the size that is given, and of no smaller one
SLOW = {*LARGE, "bag", "bedroom", "celeba", "hazelnut-pretrained"}  # as others, on other data or by other features
EXAMPLES = 40
CLASSES = {
    "mnist": list("0123456789"),
    "fashion_mnist": [
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    ],
    "cifar10": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
}
SPLITS = {
    **dict.fromkeys(CLASSES, ("train", "test")),
    "celeb_a": ("train", "validation", "test"),
    **dict.fromkeys(("celeb_a_hq/64", "celeb_a_hq/128", "celeb_a_hq/256"), ("train",)),
    "lsun/bedroom": ("train", "validation"),
}


def name_of(recipe):
    """That of the run it makes."""
    return Path(recipe[0][recipe[0].index("--out") + 1]).name


def save(folder, name, shape, scratch=False):
    """Noise of its own, brighter in a part of it that is a scratch, and then with a mask."""
    pixels = np.random.default_rng(list(name.encode())).integers(60, 120, shape, dtype=np.uint8)
    mask = np.zeros(shape[:2], np.uint8)
    if scratch:
        mask[20:24, 10:30] = 255
        pixels[mask > 0] = 250
        save_picture(folder / "ground_truth" / Path(name).parent.name / f"{Path(name).stem}_mask.png", mask)
    save_picture(folder / name, pixels)


def save_picture(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A folder with what the recipes name: `sets`, as TensorFlow Datasets describes them, and folders of pictures."""
    root = tmp_path_factory.mktemp("sources")
    for name, splits in SPLITS.items():
        builder = tfds.builder(name, data_dir=root / "sets")
        if name in CLASSES:
            builder.info.features["label"].names = CLASSES[name]
        infos = [tfds.core.SplitInfo(name=split, shard_lengths=[EXAMPLES], num_bytes=0) for split in splits]
        builder.info.set_splits(tfds.core.SplitDict(infos))
        builder.data_path.mkdir(parents=True)
        builder.info.write_to_directory(builder.data_path)
    for i in range(8):
        for category in ("hazelnut", "carpet"):
            save(root / "mvtec" / category, f"train/good/{i:03d}.png", (300, 300, 3))
        save(root / "oct", f"train/good/p{i % 4:02d}-{i:03d}.png", (80 + i // 7, 100))
    for i in range(2):
        for category in ("hazelnut", "carpet"):
            save(root / "mvtec" / category, f"test/good/{i:03d}.png", (300, 300, 3))
            save(root / "mvtec" / category, f"test/cut/{i:03d}.png", (300, 300, 3), scratch=True)
        save(root / "oct", f"test/good/p1{i}-000.png", (90, 100))
        save(root / "oct", f"test/fluid/p1{i}-001.png", (100, 90), scratch=True)
        for folder, shape in (("faces", (300, 300, 3)), ("rooms", (200, 300, 3)), ("scans", (70, 130 + i))):
            save(root / folder / "new", f"{i}.png", shape)
    return root


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    """A pretrained network is one with random weights."""

    def untrained(**options):
        levels = keras.Input((None, None, 3))
        weights = keras.initializers.GlorotUniform(seed=0)
        return keras.Model(levels, keras.layers.Conv2D(4, 8, 8, "same", kernel_initializer=weights)(levels))

    untrained.__module__ = keras.applications.EfficientNetV2B0.__module__
    monkeypatch.setattr(keras.applications, "EfficientNetV2B0", untrained)


def marked(recipe):
    return pytest.param(recipe, id=name_of(recipe), marks=[pytest.mark.slow] * (name_of(recipe) in SLOW))


@pytest.mark.parametrize("recipe", [marked(recipe) for recipe in RECIPES])
def test_recipe_runs(recipe, sources, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in sources.iterdir():
        Path(folder.name).symlink_to(folder)
    with tfds.testing.mock_data(num_examples=EXAMPLES, data_dir=sources / "sets"):
        for program, command, *arguments in recipe:
            assert program == "anogan-tf"
            smaller = PATCHES if "--patches" in arguments else SMALLER
            if "--size" not in arguments or name_of(recipe) in LARGE:
                smaller = []
            line = [command, *arguments, *TINY[command], *smaller]
            result = CliRunner().invoke(main, line, catch_exceptions=False)
            assert result.exit_code == 0, result.output
            out = Path(arguments[arguments.index("--out") + 1])
            assert (out / {"train": "run.json", "test": "metrics.json", "score": "scores.csv"}[command]).exists()


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_a_command_takes_what_its_recipe_gives(recipe):
    for _, command, *arguments in recipe:
        known = main.commands[command]
        known.make_parser(click.Context(known)).parse_args(arguments)


def test_no_command_line_is_left_out():
    assert sum(map(len, RECIPES)) == len(re.findall(r"^anogan-tf ", TEXT, re.MULTILINE))


def test_runs_have_names_of_their_own():
    names = [line[line.index("--out") + 1] for recipe in RECIPES for line in recipe]
    assert len(set(names)) == len(names)
