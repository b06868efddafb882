"""Image·steps per second of the latent search, against its own convolutions, PyTorch, and one image at a time.

    TF_ENABLE_ONEDNN_OPTS=1 python -m benchmarks.search_throughput

Needs the extra `benchmark` (PyTorch, tf_keras); without either, that comparison is left out and said so. Every way does
some steps and computes the loss at the z reached, as the search does at the end of a block. *Convolutions* are those of
both networks alone, forward and by input gradient, on as many rows as the search has: the chunk and its guard.
"""

import contextlib
import functools
import itertools
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # both libraries on the CPU

import keras
import numpy as np
import tensorflow as tf

import anogan_tf as agt
from anogan_tf import losses, networks, scoring
from benchmarks import measuring

NETWORKS = {
    "28×28×1": {"image_shape": (28, 28, 1), "latent_dim": 64, "width": 32},
    "64×64×3": {"image_shape": (64, 64, 3), "architecture": "hazelnut"},
}
STEPS = {"28×28×1": 4, "64×64×3": 1}  # in one turn
QUICK = {"8×8×1": {"image_shape": (8, 8, 1), "latent_dim": 4, "width": 4}}
LIMIT = 30  # seconds; a way whose second call takes longer is not repeated


def measure(gan, chunks, dtypes, steps, limit=LIMIT):
    """A list of dicts, a chunk and a dtype each; in float32 also with the ways that take one image at a time."""
    rows = []
    for chunk, dtype in itertools.product(chunks, dtypes):
        together = chunk + scoring.guard(chunk)
        images = np.random.default_rng(0).uniform(-1, 1, (together, *gan.image_shape)).astype(np.float32)
        ways = {
            "search": search(gan, images, dtype, steps),
            "convolutions": convolutions(gan, len(images), dtype, steps),
            **optional("pytorch", torch_search, gan, images[:chunk], dtype, steps),
        }
        units = dict.fromkeys(ways, chunk * steps)
        if dtype == "float32":
            ways["one image, Python loop"] = python_loop(gan, images[:1], steps)
            ways |= optional("seed", seed_search, gan, images[:1], 2 * steps)
            units |= {"one image, Python loop": steps, "seed": 2 * steps}
        timings = measuring.Timings(ways, units, limit=limit)
        row = {"chunk": chunk, "dtype": dtype, "seconds_of_steps_too_slow_to_repeat": timings.too_slow}
        row["seconds_per_image_step"] = {name: timings.figures(name) for name in timings.wall}
        if "search" in timings.wall:
            for clock in ("wall", "cpu"):
                row[f"times_as_long_as_search_{clock}"] = {
                    name: timings.ratio(name, "search", clock) for name in timings.wall
                }
        print(
            {name: f"{1 / timings.seconds(name):.4g} image·steps/s" for name in timings.wall}, chunk, dtype, flush=True
        )
        rows.append(row)
    return rows


def limit_threads(threads):
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(threads)


def optional(name, make, *arguments):
    """`{name: make(*arguments)}`, or nothing where its library is missing."""
    try:
        return {name: make(*arguments)}
    except ImportError as error:
        print(f"Left out, {name}: {error}")
        return {}


def search(gan, images, dtype, steps):
    """The package's own search."""
    search, context = agt.AnoGAN(gan, dtype=None if dtype == "float32" else dtype)._begun(images)
    return lambda: search.advance(context, tf.constant(steps)).numpy()


def convolutions(gan, rows, dtype, steps):
    """The convolutions of G and f, and their gradients by input, on random tensors."""
    forward, backward, tensors = [], [], []
    for layer in [*gan.generator.layers, *networks.feature_extractor(gan.discriminator).layers]:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Conv2DTranspose)):
            stride, transposed = layer.strides[0], isinstance(layer, keras.layers.Conv2DTranspose)
            before, after = ((rows, *tensor.shape[1:]) for tensor in (layer.input, layer.output))
            small, large = (before, after) if transposed else (after, before)
            arrays = random(small), random(large), layer.get_weights()[0]
            tensors.append(tuple(tf.cast(tf.constant(array), dtype) for array in arrays))
            pair = functools.partial(convolution, stride), functools.partial(transposed_convolution, stride)
            forward.append(pair[transposed])
            backward.append(pair[not transposed])

    def compiled(*directions):
        def run(tensors):
            pairs = [pair for some in directions for pair in zip(some, tensors, strict=True)]
            return [tf.reduce_sum(apply(*own)[0, 0, 0]) for apply, own in pairs]

        return functools.partial(tf.function(run, autograph=False), tensors)

    step, last = compiled(forward, backward), compiled(forward)

    def way():
        for _ in range(steps):
            step()
        last()

    return way


def convolution(stride, small, large, kernel):
    return tf.nn.conv2d(large, kernel, stride, "SAME")


def transposed_convolution(stride, small, large, kernel):
    return tf.nn.conv2d_transpose(small, kernel, large.shape, stride, "SAME")


def random(shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def python_loop(gan, images, steps):
    """One image, one `tf.function` call a step."""
    features = networks.feature_extractor(gan.discriminator)
    known, z, adam = (
        features(images, training=False),
        tf.Variable(tf.zeros((1, gan.latent_dim))),
        keras.optimizers.Adam(),
    )
    adam.build([z])

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            reconstruction = gan.generator(z, training=False)
            found = features(reconstruction, training=False)
            loss = 0.9 * losses.residual(images, reconstruction) + 0.1 * losses.feature_distance(known, found)
        adam.apply([tape.gradient(loss, z)], [z])
        return loss

    return lambda: [step().numpy() for _ in range(steps)]


def seed_search(gan, image, steps):
    from benchmarks.seed_search import SeedSearch

    extractor = networks.feature_extractor(gan.discriminator)
    way = SeedSearch(gan.generator, keras.Model(extractor.inputs[0], next(iter(extractor.output.values()))))
    return lambda: way(image, steps)


def torch_search(gan, images, dtype, steps):
    """The same search in PyTorch, on the same networks."""
    import torch

    from benchmarks.torch_networks import TorchNetwork

    generator = TorchNetwork(gan.generator)
    features = TorchNetwork(networks.feature_extractor(gan.discriminator))
    queries = torch.from_numpy(images).permute(0, 3, 1, 2)  # channels last in memory
    z = torch.zeros((len(images), gan.latent_dim), requires_grad=True)
    momentum, velocity = torch.zeros_like(z), torch.zeros_like(z)

    def loss_of():
        reconstruction = generator(z)
        found = features(reconstruction)
        axes = (1, 2, 3)
        return 0.9 * (queries - reconstruction).abs().mean(axes) + 0.1 * (known - found).abs().mean(axes)

    def adam(gradient, step):  # torch.optim loads a compiler that crashes beside TensorFlow's
        momentum.lerp_(gradient, 0.1)
        velocity.lerp_(gradient.square(), 0.001)
        rate = 1e-3 * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
        z.sub_(rate * momentum / (velocity.sqrt() + 1e-7))

    with torch.no_grad():
        known = features(queries)

    def way():
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            for step in range(steps):
                (gradient,) = torch.autograd.grad(loss_of().sum(), z)
                with torch.no_grad():
                    adam(gradient, step + 1)
            with torch.no_grad():
                loss_of()

    return way


def table(results):
    """A row for each network, chunk and dtype: image·steps per second, and how many times as long the others take."""
    names = ("convolutions", "pytorch", "one image, Python loop", "seed")
    titles = ["networks", "chunk", "dtype", "image·steps/s", "overhead", *(f"{name} / search" for name in names[1:])]
    rows = []
    for network, measured in results.items():
        for row in measured:
            ratios, seconds = row.get("times_as_long_as_search_wall", {}), row["seconds_per_image_step"]
            rate = 1 / seconds["search"]["seconds"] if "search" in seconds else None
            overhead = f"{1 / ratios['convolutions'] - 1:.0%}" if "convolutions" in ratios else None
            others = [ratios.get(name) for name in names[1:]]
            rows.append([network, str(row["chunk"]), row["dtype"], rate, overhead, *others])
    return measuring.table(titles, rows)


def main():
    parser = measuring.arguments(__doc__, "search_throughput")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--chunks", nargs="+", type=int, default=[1, 8, 32, 64, 128])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, help="of both libraries; default theirs. More than free cores misleads.")
    options = parser.parse_args()
    started_on = measuring.machine()
    if options.threads:
        limit_threads(options.threads)
    if options.quick:
        results = {name: measure(agt.DCGAN(**kind), [1, 2], ["float32"], 2) for name, kind in QUICK.items()}
    else:
        results = {
            name: measure(agt.DCGAN(**NETWORKS[name]), options.chunks, options.dtypes, STEPS[name])
            for name in options.networks
        }
    print(table(results))
    measuring.write(options.out, "search_throughput", started_on, {"threads": options.threads, "networks": results})


if __name__ == "__main__":
    main()
