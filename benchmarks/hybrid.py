"""How far does a search get from a random z, and from an encoder's? On MNIST, with a run of `benchmarks.fanogan`.

    python -m benchmarks.hybrid --run runs/mnist-8

For each number of steps the mean of L(z) over normal and anomalous images and the AUROC of A(x), on 2,000 test images,
drawn so that each class has its share, and the time per image, on 64 of them, the median of five repetitions.
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

import anogan_tf as agt
from anogan_tf import look, report
from anogan_tf.commands.settings import load_splits
from benchmarks.fanogan import TIMED, stratified, timed

STEPS = (0, 5, 10, 20, 50, 100, 500)


def measure(run):
    """A list of dicts, one for each start and number of steps."""
    images, labels = stratified(load_splits(agt.runs.read_run(run)["settings"]))
    fanogan = agt.load_run(run)
    scorers = {
        (start, steps): agt.AnoGAN(fanogan.gan, encoder=encoder, steps=steps, score="paper")
        for start, encoder in (("random", None), ("encoder", fanogan.encoder))
        for steps in STEPS
    }
    rows = []
    for (start, steps), anogan in scorers.items():
        loss = anogan.score(images)["anomaly_score"]  # A(x) is L at the best z
        row = {
            "start": start,
            "steps": steps,
            "loss_normal": float(loss[labels == 0].mean()),
            "loss_anomalous": float(loss[labels == 1].mean()),
            "auroc": roc_auc_score(labels, loss),
        }
        print(row, flush=True)
        rows.append(row)
    seconds = timed(scorers, images[:TIMED])
    return [row | {"seconds_per_image": seconds[row["start"], row["steps"]]} for row in rows]


def table(rows):
    """The figures in Markdown."""
    lines = ["| start | steps | L, normal | L, anomalous | AUROC of A(x) | ms an image |", "|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row['start']} | {row['steps']} | {row['loss_normal']:.3f} | {row['loss_anomalous']:.3f} | "
            f"{row['auroc']:.3f} | {1000 * row['seconds_per_image']:.1f} |"
        )
    return "\n".join(lines)


@look.styled
def draw(rows):
    """Loss and AUROC over the time per image, a line for each start."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, auroc = figure.subplots(1, 2)
    for start, colour in (("random", look.PALE), ("encoder", look.ANOMALOUS)):
        some = [row for row in rows if row["start"] == start]
        seconds = [1000 * row["seconds_per_image"] for row in some]
        loss.plot(seconds, [row["loss_normal"] for row in some], "o-", color=colour, label=f"{start} start, normal")
        loss.plot(
            seconds, [row["loss_anomalous"] for row in some], "o:", color=colour, label=f"{start} start, anomalous"
        )
        auroc.plot(seconds, [row["auroc"] for row in some], "o-", color=colour, label=f"{start} start")
        for x, row in zip(seconds, some, strict=True):
            auroc.annotate(row["steps"], (x, row["auroc"]), xytext=(3, 4), textcoords="offset points", fontsize=10)
    loss.set(xscale="log", xlabel="milliseconds an image", ylabel="mapping loss L(z)")
    auroc.set(xscale="log", xlabel="milliseconds an image (numbers: steps)", ylabel="AUROC of A(x)")
    for axis in (loss, auroc):
        axis.legend(fontsize=10)
        axis.margins(x=0.1, y=0.1)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="runs/mnist-8")
    parser.add_argument("--figure", type=Path, default=Path("docs/images/hybrid.png"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/hybrid.json"))
    options = parser.parse_args()
    rows = measure(options.run)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    command = f"python -m benchmarks.hybrid --run {options.run}"
    report.write_json(options.out, {"command": command, "versions": report.versions(), "rows": rows})
    draw(rows).savefig(options.figure, dpi=90)
    print(table(rows))


if __name__ == "__main__":
    main()
