"""Imports run one way; docs/architecture.md tells it in words."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "anogan_tf"
LAYERS = """
    precision · threads · learned · resampling
    data.images · data.records · augmentation · atomic · losses · search · subspace · gaussian · principal · stages
    surprise · ranks · decoding · formats · local_features · thresholds · folds · blocks · replicas · proxies
    architectures
    networks · metrics · pretrained · differences · registration
    outlines · data.listing · data.pictures · data.encoded · microbatches · data.samples · overview · drawing · look
    written · published · weights · distances
    data.reading · transformations · table · plots · panels
    data.plan · data.pipeline · data.inspection · data.cache · data.masks · data.lists
    data.folder_layouts · kinds · page · choice
    data.published_layouts · reference · report
    data.layouts
    data.sources
    data · callbacks
    training · comparison · scoring · data.sheet
    gan · diagnosis
    judging
    wrapper · anogan · fanogan
    neighbours · patches
    joint
    runs
    bulk · detector · exporting
    server · mlflow
    commands · commands.recipes · commands.baselines · commands.seen · commands.flower
    commands.options · commands.settings
    commands.calibrate · commands.info · commands.serve · commands.export
    commands.train · commands.test · commands.score · commands.bulk · commands.data · commands.digits
    commands.protocols · commands.demo · commands.watch
    commands.cli
    __main__
"""
LAYER = {
    name: number
    for number, line in enumerate(LAYERS.strip().splitlines())
    for name in line.strip().replace(" · ", " ").split()
}
NO_TENSORFLOW = ("thresholds", "metrics", "plots", "panels", "page", "table", "report", "atomic", "published", "blocks")


FILES = {
    ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(PACKAGE.rglob("*.py"))
    if file != PACKAGE / "__init__.py"
}


def imported(file):
    """The modules of the package that a module imports, and the packages beside it."""
    own, others = set(), set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            others |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            first, _, rest = node.module.partition(".")
            if first == "anogan_tf":
                names = (f"{rest}.{alias.name}".strip(".") for alias in node.names)
                own |= {name if name in FILES else rest for name in names} - {""}
            else:
                others.add(first)
    return own, others


def test_each_module_has_one_layer():
    assert FILES.keys() == LAYER.keys()
    assert len(LAYERS.split()) - LAYERS.count("·") == len(LAYER)


@pytest.mark.parametrize("name", FILES)
def test_a_module_imports_only_from_layers_before_its_own(name):
    later = {other for other in imported(FILES[name])[0] if LAYER[other] >= LAYER[name]}
    assert not later


@pytest.mark.parametrize("name", NO_TENSORFLOW)
def test_what_shows_and_decides_needs_no_tensorflow(name):
    seen, left = set(), [name]
    while left:
        module = left.pop()
        own, others = imported(FILES[module])
        assert not others & {"tensorflow", "keras"}, module
        seen.add(module)
        left.extend(own - seen)
