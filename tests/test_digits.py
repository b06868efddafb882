import json
import statistics

import pytest
from PIL import Image

from anogan_tf.commands import digits


def test_the_digits_demonstration_writes_every_output_and_explains_it(tmp_path, capsys):
    result, compared = digits.run(tmp_path / "out", epochs=2)
    said = capsys.readouterr().out
    assert f"AUROC {result.auroc:.3f}" in said
    assert f"mean image {compared['mean_image']:.3f}, pca 16 {compared['pca_16']:.3f}" in said
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["baselines"] == compared
    assert metrics["auroc"] == result.auroc
    pictures = list((tmp_path / "out").glob("*.png"))
    assert {"histogram", "roc", "losses", "samples", "mapping_loss", "search_path"} <= {p.stem for p in pictures}
    assert len(list((tmp_path / "out").glob("test_image_*.png"))) == 40
    for picture in pictures:
        Image.open(picture).verify()


@pytest.mark.slow
def test_the_demonstration_finds_what_is_no_eight(tmp_path):
    runs = [digits.run(tmp_path / str(seed), seed=seed) for seed in range(3)]
    print([(result.auroc, compared) for result, compared in runs])
    assert statistics.median(result.auroc for result, _ in runs) >= 0.97
    assert statistics.median(r.auroc for r, _ in runs) > statistics.median(c["mean_image"] for _, c in runs)
