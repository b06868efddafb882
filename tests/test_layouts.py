"""Each layout of a folder, in a few pictures, with what is made of it; and folders that are refused."""

import collections
import re

import numpy as np
import pytest
from PIL import Image

from anogan_tf import data
from anogan_tf.data import layouts, reading
from anogan_tf.data.samples import Preprocessing

SHAPE = (8, 8, 3)
MARKED = np.s_[2:5, 1:7]  # what every mask marks


class Folder:
    """A folder that is filled with pictures, each of its own content, and with masks."""

    def __init__(self, path):
        self.path = path
        self.rng = np.random.default_rng(0)

    def pictures(self, where, count, suffix=".png", first=0):
        for i in range(first, first + count):
            self.save(f"{where}/{i:03}{suffix}", self.rng.integers(0, 256, (12, 10, 3), np.uint8))
        return self

    def masks(self, where, count, name="{:03}.png", first=0, marked=MARKED):
        for i in range(first, first + count):
            mask = np.zeros((12, 10), np.uint8)
            mask[marked] = 255
            self.save(f"{where}/{name.format(i)}", mask)
        return self

    def save(self, name, pixels):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    def write(self, name, text):
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text)
        return self


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "source")


def load(folder, **options):
    return data.load(folder.path, **{"image_shape": SHAPE, "batch_size": 4} | options)


def counts(splits):
    """Of each part the number of normal and of anomalous images, and of masks of these."""
    samples = splits.samples
    masks = np.zeros(len(samples), bool) if samples.masks is None else np.array([m is not None for m in samples.masks])
    return {
        part: tuple(
            int(np.sum((samples.parts == part) & which)) for which in (samples.labels == 0, samples.labels == 1, masks)
        )
        for part in ("train", "validation", "test")
    }


def mvtec(folder):
    folder.pictures("train/good", 10).pictures("test/good", 3).pictures("test/cut", 4)
    return folder.masks("ground_truth/cut", 4, "{:03}_mask.png")


def shouting(folder):
    folder.pictures("Train/GOOD", 10).pictures("TEST/Good", 3).pictures("TEST/Cut", 4)
    return folder.masks("Ground_Truth/Cut", 4, "{:03}_mask.png")


def ok_and_ng(folder):
    return folder.pictures("train/good", 10).pictures("test/ok", 3).pictures("test/ng", 4)


def normal_and_abnormal(folder):
    return folder.pictures("training/normal", 10).pictures("testing/normal", 3).pictures("testing/abnormal", 4)


def train_images(folder):
    return (
        folder.pictures("train_images/ok_parts", 10).pictures("test_images/ok_parts", 3).pictures("test_images/cut", 4)
    )


def images_within(folder):
    return folder.pictures("train/images", 10).pictures("test/images/good", 3).pictures("test/images/bad", 4)


def one_within(folder):
    folder.path = folder.path / "bottle"
    mvtec(folder)
    folder.path = folder.path.parent
    return folder


def btad(folder):
    folder.pictures("train/ok", 10).pictures("test/ok", 3, ".bmp").pictures("test/ko", 4, ".bmp")
    return folder.masks("ground_truth/ko", 4)


def loco(folder):
    folder.pictures("train/good", 10).pictures("validation/good", 2).pictures("test/good", 3)
    folder.pictures("test/logical_anomalies", 2).pictures("test/structural_anomalies", 2)
    for kind in ("logical_anomalies", "structural_anomalies"):
        for i in range(2):
            folder.masks(f"ground_truth/{kind}/{i:03}", 1, marked=np.s_[2:5, 1:4])
            folder.masks(f"ground_truth/{kind}/{i:03}", 1, first=1, marked=np.s_[2:5, 4:7])
    return folder


def mvtec_3d(folder):
    for place, count in (("train/good", 10), ("validation/good", 2), ("test/good", 3), ("test/hole", 4)):
        folder.pictures(f"{place}/rgb", count)
        for i in range(count):
            folder.save(f"{place}/xyz/{i:03}.tiff", np.zeros((12, 10), np.float32))
        folder.masks(f"{place}/gt", count, marked=MARKED if "hole" in place else np.s_[:0])
    return folder


def mvtec_ad_2(folder):
    folder.pictures("train/good", 10).pictures("validation/good", 2).pictures("test_private", 5)
    folder.pictures("test_public/good", 3).pictures("test_public/bad", 4)
    return folder.masks("test_public/ground_truth/bad", 4, "{:03}_mask.png")


def dagm(folder):
    folder.pictures("Train", 10, ".PNG").pictures("Test", 7, ".PNG")
    return folder.masks("Train/Label", 1, "{:03}_label.PNG", first=9).masks("Test/Label", 4, "{:03}_label.PNG")


def kolektor_2(folder):
    folder.pictures("train", 10).masks("train", 10, "{:03}_GT.png", marked=np.s_[:0])
    folder.pictures("test", 7).masks("test", 4, "{:03}_GT.png")
    return folder.masks("test", 3, "{:03}_GT.png", first=4, marked=np.s_[:0])


def kolektor(folder):
    for item in range(7):
        folder.pictures(f"kos{item:02}", 2, ".jpg")
        folder.masks(f"kos{item:02}", 2, "{:03}_label.bmp", marked=MARKED if item < 2 else np.s_[:0])
    return folder


def visa(folder):
    folder.pictures("Data/Images/Normal", 10, ".JPG").pictures("Data/Images/Anomaly", 4, ".JPG")
    return folder.masks("Data/Masks/Anomaly", 4).write("image_anno.csv", "image,label,mask\n")


def anomalib(folder):
    return folder.pictures("good", 10).pictures("crack", 4).masks("mask/crack", 4)


def masks_beside_classes(folder):
    return folder.pictures("good", 10).pictures("crack", 4).masks("crack_masks", 4)


def lots(folder):
    for lot in ("2024-01-05", "2024-02-11"):
        folder.pictures(f"{lot}/good", 5).pictures(f"{lot}/bad", 2)
        folder.masks(f"{lot}/masks/bad", 2)
    return folder


def flat_masks(folder):
    return folder.pictures("images", 14).masks("masks", 4)


def pictures(folder):
    return folder.pictures("somewhere", 10).write("notes.txt", "words")


def celeba(folder):
    folder.pictures("img_align_celeba", 14, ".jpg")
    rows = "".join(f"{i:03}.jpg {1 if i < 4 else -1} 1\n" for i in range(14))
    return folder.write("list_attr_celeba.txt", f"14\nEyeglasses Young\n{rows}")


def celeba_csv(folder):
    folder.pictures("img_align_celeba/img_align_celeba", 18, ".jpg")
    rows = "".join(f"{i:03}.jpg,{1 if i < 4 else -1},1\n" for i in range(18))
    folder.write("list_attr_celeba.csv", f"image_id,Eyeglasses,Young\n{rows}")
    parts = "".join(f"{i:03}.jpg,{2 if i < 7 else 1 if i < 9 else 0}\n" for i in range(18))
    return folder.write("list_eval_partition.csv", f"image_id,partition\n{parts}")


def lsun(folder):
    lmdb = pytest.importorskip("lmdb")
    folder.pictures("pictures", 12, ".webp")
    for name, files in (("bedroom_train_lmdb", range(10)), ("bedroom_val_lmdb", range(10, 12))):
        place = folder.path / "lsun" / name
        place.mkdir(parents=True)
        with lmdb.open(str(place), map_size=2**20) as environment, environment.begin(write=True) as transaction:
            for i in files:
                transaction.put(f"{i:040x}".encode(), (folder.path / f"pictures/{i:03}.webp").read_bytes())
    folder.path = folder.path / "lsun"
    return folder


def listed(folder):
    folder.pictures("files", 14).masks("drawn", 4)
    rows = [f"files/{i:03}.png,{'scratch,drawn/' + f'{i:03}.png' if i < 4 else 'good,'},p{i}" for i in range(14)]
    folder.write("list.csv", "\n".join(["path,label,mask,group", *rows]))
    folder.path = folder.path / "list.csv"
    return folder


OWN_TEST = {"train": (8, 0, 0), "validation": (2, 0, 0)}
HELD_OUT = {"train": (6, 0, 0), "validation": (2, 0, 0)}
CASES = [  # function, options, the layout's name, and counts as `counts` gives them
    (mvtec, {}, "training and test folders", {**OWN_TEST, "test": (3, 4, 4)}),
    (shouting, {}, "training and test folders", {**OWN_TEST, "test": (3, 4, 4)}),
    (ok_and_ng, {}, "training and test folders", {**OWN_TEST, "test": (3, 4, 0)}),
    (normal_and_abnormal, {}, "training and test folders", {**OWN_TEST, "test": (3, 4, 0)}),
    (train_images, {}, "training and test folders", {**OWN_TEST, "test": (3, 4, 0)}),
    (images_within, {}, "training and test folders", {**OWN_TEST, "test": (3, 4, 0)}),
    (one_within, {}, "training and test folders", {**OWN_TEST, "test": (3, 4, 4)}),
    (btad, {}, "training and test folders", {**OWN_TEST, "test": (3, 4, 4)}),
    (loco, {}, "training and test folders", {"train": (10, 0, 0), "validation": (2, 0, 0), "test": (3, 4, 4)}),
    (mvtec_3d, {}, "training and test folders", {"train": (10, 0, 10), "validation": (2, 0, 2), "test": (3, 4, 7)}),
    (mvtec_ad_2, {}, "training and test folders", {"train": (10, 0, 0), "validation": (2, 0, 0), "test": (3, 4, 4)}),
    (dagm, {}, "training and test folders", {"train": (7, 0, 0), "validation": (2, 0, 0), "test": (3, 4, 4)}),
    (kolektor_2, {}, "training and test folders", {"train": (8, 0, 8), "validation": (2, 0, 2), "test": (3, 4, 7)}),
    (kolektor, {}, "pictures with masks", {"train": (6, 0, 6), "validation": (2, 0, 2), "test": (2, 4, 6)}),
    (visa, {}, "VisA", {**HELD_OUT, "test": (2, 4, 4)}),
    (anomalib, {"normal": "good"}, "class folders", {**HELD_OUT, "test": (2, 4, 4)}),
    (masks_beside_classes, {"normal": "good"}, "class folders", {**HELD_OUT, "test": (2, 4, 4)}),
    (lots, {"normal": "good"}, "class folders", {**HELD_OUT, "test": (2, 4, 4)}),
    (flat_masks, {}, "pictures with masks", {**HELD_OUT, "test": (2, 4, 4)}),
    (pictures, {}, "pictures", {**OWN_TEST, "test": (0, 0, 0)}),
    (celeba, {"normal": "Eyeglasses=0"}, "CelebA", {**HELD_OUT, "test": (2, 4, 0)}),
    (
        celeba_csv,
        {"normal": "Eyeglasses=0"},
        "CelebA",
        {"train": (9, 0, 0), "validation": (2, 0, 0), "test": (3, 4, 0)},
    ),
    (lsun, {}, "LSUN", {"train": (10, 0, 0), "validation": (2, 0, 0), "test": (0, 0, 0)}),
    (listed, {}, "list of files", {**HELD_OUT, "test": (2, 4, 4)}),
]


@pytest.mark.parametrize(("build", "options", "name", "wanted"), CASES, ids=[case[0].__name__ for case in CASES])
@pytest.mark.parametrize("cache", ["memory", False])
def test_each_layout_is_read_as_it_is_meant(folder, build, options, name, wanted, cache):
    splits = load(build(folder), cache=cache, **options)
    assert splits.plan.layout == name
    assert counts(splits) == wanted
    assert not splits.samples.labels[splits.samples.parts != "test"].any()
    assert sum(row[3] for row in splits.plan.rows) == len(splits.samples)
    batches = list(splits.test or [])
    for batch in batches if wanted["test"][2] else []:
        for label, mask, known in zip(batch["label"], batch["mask"], batch["has_mask"], strict=True):
            marks = np.zeros((12, 10), bool)
            marks[MARKED] = label == 1
            assert known
            np.testing.assert_array_equal(mask, marks)
    if not wanted["test"][2]:
        assert not any("mask" in batch for batch in batches)


def test_every_layout_of_the_table_is_covered_or_refused():
    assert {layout.name for layout in layouts.LAYOUTS} == {case[2] for case in CASES} | {"several categories"}


@pytest.mark.parametrize(("build", "options", "wanted"), [(c[0], c[1], c[3]) for c in CASES if c[3]["test"][1]])
def test_each_layout_can_be_tested_on(folder, build, options, wanted):
    samples = data.labelled(build(folder).path, Preprocessing(SHAPE), normal=options.get("normal"))
    assert samples.labels.sum() == 4
    assert (samples.labels == 0).sum() in (wanted["test"][0], 10)


@pytest.mark.parametrize("good", ["OK", "Good", "normal", "defect-free", "i.O."])
def test_class_folders_without_a_normal_name_are_refused_with_the_command_that_gives_one(folder, good):
    folder.pictures(good, 10).pictures("NG", 4)
    with pytest.raises(ValueError, match=rf"'{good}' \(10 images\).*normal='{good}'.*") as error:
        load(folder)
    assert "'NG' (4 images)" in str(error.value)
    assert str(error.value).endswith(f"--normal {good}")
    assert counts(load(folder, normal=good))["test"] == (2, 4, 0)
    assert counts(load(folder, normal=good.upper()))["test"] == (2, 4, 0)


def test_folders_of_normal_images_only_are_taken_by_a_pattern(folder):
    folder.pictures("day 1", 6).pictures("day 2", 6)
    with pytest.raises(
        ValueError, match=r"'day 1' \(6 images\), 'day 2' \(6 images\).*normal='\*'.* if all of them are"
    ):
        load(folder)
    assert counts(load(folder, normal="*")) == {"train": (10, 0, 0), "validation": (2, 0, 0), "test": (0, 0, 0)}
    assert counts(load(folder, normal="*1"))["test"][1] == 6


@pytest.mark.parametrize("beside", ["bad", "old"])
def test_pictures_beside_a_folder_of_pictures_are_refused(folder, beside):
    folder.pictures(".", 10).pictures(beside, 4)
    with pytest.raises(ValueError, match=rf"'{beside}' \(4 images\), and 10 images beside them"):
        load(folder)


def test_only_anomalous_pictures_are_refused(folder):
    with pytest.raises(ValueError, match=r"only 'NG' images: an AnoGAN is trained on normal ones"):
        load(folder.pictures("NG", 10))


def test_good_folders_at_different_depths_are_refused(folder):
    folder.pictures("good", 10).pictures("lot2/good", 4).pictures("lot2/bad", 4)
    with pytest.raises(ValueError, match="normal images at different depths, one of them lot2/good/"):
        load(folder, normal="good")


@pytest.mark.parametrize("build", [mvtec, visa])
def test_a_root_of_categories_is_refused_with_their_names(folder, build):
    root = folder.path
    for name in ("bottle", "pill"):
        folder.path = root / name
        build(folder)
    folder.path = root
    with pytest.raises(ValueError, match=rf"2 categories.*'bottle', 'pill'.*anogan-tf train {root}/bottle$"):
        load(folder)


def test_a_test_part_alone_is_refused_for_training_and_can_be_tested_on(folder):
    folder.pictures("test/good", 3).pictures("test/bad", 4)
    with pytest.raises(ValueError, match="test/ and no train/"):
        load(folder)
    assert data.labelled(folder.path, Preprocessing(SHAPE)).labels.tolist() == [1] * 4 + [0] * 3


def test_ok_and_ng_are_tested_on_without_a_name(folder):
    folder.pictures("NG", 4).pictures("OK", 3)
    for normal in (None, ("good",)):
        samples = data.labelled(folder.path, Preprocessing(SHAPE), normal=normal)
        assert samples.classes[samples.labels == 0].tolist() == ["OK"] * 3
        assert len(samples) == 7


def test_a_test_part_without_normal_images_is_told(folder):
    folder.pictures("train/good", 20).pictures("test/cut", 4)
    splits = load(folder)
    assert counts(splits)["test"] == (4, 4, 0)
    assert "The test part has no normal images" in splits.describe()


def test_a_good_class_that_is_not_named_is_told(folder):
    folder.pictures("train/good", 10).pictures("test/ok", 3).pictures("test/good", 3).pictures("test/ng", 4)
    assert counts(load(folder))["test"] == (6, 4, 0)
    explicit = load(folder, normal="good")
    assert counts(explicit)["test"] == (3, 7, 0)
    assert "The class ok counts as anomalous" in explicit.describe()


def test_what_is_not_used_is_one_line(folder):
    mvtec_ad_2(folder).write("readme.txt", "words").write("train/a.heic", "words")
    folder.masks("test_public/ground_truth/bad", 2, "{:03}_mask.png", first=90)
    folder.pictures("__MACOSX/train/good", 3).pictures("@eaDir", 2).pictures("train/.thumbs", 2)
    told = load(folder).describe().splitlines()
    (line,) = [line for line in told if line.startswith("Not used: ")]
    assert "test_private/ with 5 pictures" in line
    assert "2 of 6 masks, which fit no picture" in line
    assert "files of other suffixes (1 .heic, 1 .txt)" in line
    assert "train       good   normal" in "\n".join(told)


def test_runs_and_results_are_no_images(folder):
    folder.pictures(".", 10)
    folder.pictures("runs/x/samples", 2).write("runs/x/run.json", "{}")
    folder.pictures("tested", 3).write("tested/scores.csv", "").write("tested/metrics.json", "{}")
    folder.save("drawn/test_image_001.png", np.zeros((8, 8, 3), np.uint8))
    folder.save("samples/epoch_0001.png", np.zeros((8, 8, 3), np.uint8))
    splits = load(folder)
    assert len(splits.samples) == 10
    for name in ("runs/x, a run", "tested, results", "drawn, pictures that", "samples, pictures that"):
        assert name in splits.describe()
    assert len(data.list_files([folder.path])) == 10


def test_links_to_folders_are_followed_but_not_in_a_loop(folder):
    elsewhere = Folder(folder.path.parent / "elsewhere")
    mvtec(elsewhere)
    (folder.path / "train").mkdir(parents=True)
    (folder.path / "train/good").symlink_to(elsewhere.path / "train/good")
    for name in ("test", "ground_truth"):
        (folder.path / name).symlink_to(elsewhere.path / name)
    (elsewhere.path / "test/cut/again").symlink_to(elsewhere.path / "test")
    (folder.path / "lost").symlink_to(folder.path / "nowhere")
    splits = load(folder)
    assert counts(splits) == {**OWN_TEST, "test": (3, 4, 4)}
    assert "test/cut/again, a link to a folder that it lies in" in splits.describe()
    assert "lost, a link to nothing" in splits.describe()
    with pytest.warns(UserWarning, match=r"Links to nothing are left out of .*: 1, such as lost\."):
        files = data.list_files([folder.path])
    assert len(files) == len(set(files)) > 0


def test_a_folder_of_nothing_else_says_what_it_holds(folder):
    folder.masks("masks", 2).write("readme.txt", "words")
    with pytest.raises(ValueError, match=r"No images ending in .*, only 2 masks; 1 other files, such as readme\.txt"):
        load(folder)


@pytest.mark.parametrize("name", ["labels", "mask"])
def test_a_class_may_be_called_as_masks_are_where_nothing_fits(folder, name):
    folder.pictures("good", 10).pictures(name, 4, first=50)
    if name == "labels":
        assert counts(load(folder, normal="good"))["test"] == (2, 4, 0)
    else:
        assert "4 of 4 masks, which fit no picture" in load(folder, normal="good").describe()


def test_a_pattern_selects_pictures_and_not_masks(folder):
    mvtec_3d(folder)
    splits = load(folder, pattern="rgb/*0?.png")
    assert counts(splits)["test"] == (3, 4, 7)
    files = data.list_files([folder.path / "test"], "rgb/*1.png")
    assert [name[-16:] for name in files] == ["good/rgb/001.png", "hole/rgb/001.png"]
    assert len(data.list_files([folder.path / "test"])) == 7
    assert len(data.labelled(folder.path, Preprocessing(SHAPE), pattern="rgb/*1.png")) == 2


def test_attributes_that_are_not_there_are_refused(folder):
    with pytest.raises(ValueError, match=r"no class 'Hat'\. There are: 'Eyeglasses', 'Young'"):
        load(celeba(folder), normal="Hat=0")


def test_several_lsun_categories_need_a_normal_one(folder):
    lsun(folder)
    (folder.path / "bedroom_val_lmdb").rename(folder.path / "church_outdoor_val_lmdb")
    with pytest.raises(ValueError, match=r"'bedroom' \(1 images\), 'church_outdoor'"):
        load(folder)
    assert counts(load(folder, normal="bedroom"))["test"] == (2, 2, 0)


def test_lsun_without_its_package_says_what_to_install(folder, monkeypatch):
    lsun(folder)
    monkeypatch.setitem(__import__("sys").modules, "lmdb", None)
    with pytest.raises(ValueError, match=r"pip install anogan-tf\[lsun\]"):
        load(folder)


@pytest.mark.parametrize(
    ("text", "received"),
    [
        ("a.png\nb.png\n", r"line of column names, path,label.*'a\.png'"),
        ("path,label\nfiles/000.png,\n", "no.*label|There is none for files/000"),
        ("path,label\nmissing.png,good\n", r"1 files that are not there: 'missing\.png'"),
        ("path,label,part\nfiles/000.png,good,later\n", "Received: 'later'"),
        ("path,label\nfiles/000.png,scratch\n", "normal class"),
    ],
)
def test_lists_that_cannot_be_understood_are_refused(folder, text, received):
    listed(folder).path.write_text(text)
    with pytest.raises(ValueError, match=received):
        load(folder)


def test_a_list_may_come_from_a_spreadsheet_and_name_parts(folder):
    listed(folder)
    rows = [f"files/{i:03}.png;{int(i < 4)};{'test' if i < 7 else 'train'}" for i in range(14)]
    folder.path.write_text("\n".join(["Image;Label;Split", *rows]), encoding="utf-8-sig")
    assert counts(load(folder)) == {"train": (6, 0, 0), "validation": (1, 0, 0), "test": (3, 4, 0)}


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file: .*nowhere\.csv"):
        data.load(tmp_path / "nowhere.csv")


def test_good_and_bad_are_known_by_name_in_any_spelling():
    assert all(
        map(
            reading.is_good,
            ("good", "OK", "Normal", "defect_free", "i.O.", "PASS", "OK parts", "normal_images", "Good-2"),
        )
    )
    assert all(map(reading.is_bad, ("NG", "Not OK", "anomaly", "n.i.O.", "Defective")))
    assert not any(map(reading.is_good, ("not_good", "goodyear", "oak", "1", "")))


def test_masks_of_like_names_in_other_classes_are_not_mixed_up(folder):
    folder.pictures("train/good", 10).pictures("test/cut", 2).pictures("test/hole", 2)
    folder.masks("ground_truth/cut", 1).masks("ground_truth/hole", 1, first=1)
    samples = load(folder).samples
    named = {name: mask is not None for name, mask in zip(samples.ids, samples.masks, strict=True) if "test" in name}
    assert [name for name, has in named.items() if has] == ["test/cut/000.png", "test/hole/001.png"]


def test_a_plan_counts_what_there_is(folder):
    plan = load(mvtec(folder)).plan
    assert collections.Counter(row[0] for row in plan.rows) == {"train": 1, "validation": 1, "test": 2}
    assert plan.rows[-1] == ("test", "cut", "anomalous", 4, 4)
    assert re.search(r"test +cut +anomalous +4 +4\n?", str(plan))


def test_masks_apart_from_classes_fit_by_their_name_if_only_one_picture_has_it(folder):
    folder.pictures("good", 10).pictures("cut", 2, first=10).pictures("hole", 1, first=11)
    samples = load(folder.masks("masks", 3, first=9), normal="good").samples
    masked = [name for name, mask in zip(samples.ids, samples.masks, strict=True) if mask is not None]
    assert masked == ["cut/010.png", "good/009.png"]


@pytest.mark.parametrize("where", [".", "crack"])
def test_black_and_white_twins_of_another_suffix_are_masks(folder, where):
    folder.pictures("good" if where == "crack" else ".", 10, ".jpg").pictures(where, 4, ".jpg", first=20)
    folder.masks(where, 4, "{:03}.png", first=20)
    samples = load(folder, **({} if where == "." else {"normal": "good"})).samples
    masked = [name for name, mask in zip(samples.ids, samples.masks, strict=True) if mask is not None]
    assert [name.rpartition("/")[2] for name in masked] == ["020.jpg", "021.jpg", "022.jpg", "023.jpg"]
    assert len(samples) == 14


def test_twins_that_are_pictures_stay_pictures(folder):
    folder.pictures(".", 4, ".jpg").pictures(".", 3, ".png").masks(".", 1, "{:03}.png", first=3)
    assert len(load(folder).samples) == 8


def test_a_mask_whose_picture_is_gone_is_no_picture(folder):
    splits = load(folder.pictures(".", 10).masks(".", 1, "{:03}_mask.png", first=50))
    assert len(splits.samples) == 10
    assert "1 of 1 masks, which fit no picture" in splits.describe()


def test_pictures_of_which_all_are_called_masks_are_pictures(folder):
    folder.masks(".", 10, "{:03}_mask.png")
    assert len(load(folder).samples) == 10
