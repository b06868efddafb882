import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from anogan_tf.data import images

ORIENTATION = 0x0112


def scene(height=24, width=32):
    """A smooth RGB picture with a different colour in each corner, so that any turn or flip shows."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.rint(np.stack([255 * x, 255 * y, 255 * (1 - x) * (1 - y)], axis=-1)).astype(np.uint8)


def saved(path, picture, **options):
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(path, **options)
    return path


def in_range(array):
    return np.asarray(array, np.float32) / 127.5 - 1.0


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".PNG"])
def test_lossless_formats_give_the_same_array(tmp_path, suffix):
    array, size = images.read(saved(tmp_path / f"a{suffix}", scene()), (24, 32, 3))
    np.testing.assert_array_equal(array, in_range(scene()))
    assert array.dtype == np.float32
    assert size == (24, 32)


GRAY = scene()[..., 0]


@pytest.mark.parametrize(
    ("name", "picture", "gray"),
    [
        ("l.png", Image.fromarray(GRAY), True),
        ("l.jpg", Image.fromarray(GRAY), True),
        ("deep.png", Image.fromarray(GRAY.astype(np.uint16) * 256), True),
        ("equal.png", Image.fromarray(np.repeat(GRAY[..., None], 3, axis=-1)), True),
        ("equal.jpg", Image.fromarray(np.repeat(GRAY[..., None], 3, axis=-1)), True),
        ("colour.png", Image.fromarray(scene()), False),
        ("colour.jpg", Image.fromarray(scene()), False),
        (
            "one-pixel.png",
            Image.fromarray(np.dstack([GRAY, GRAY, np.where(GRAY[3, 4] == GRAY, GRAY + 1, GRAY)])),
            False,
        ),
    ],
)
def test_a_picture_is_gray_where_its_channels_are_one_or_equal(tmp_path, name, picture, gray):
    assert images.is_gray(saved(tmp_path / name, picture)) == gray


def test_what_cannot_be_read_has_no_colour(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"broken")
    assert images.is_gray(tmp_path / "broken.png")


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_formats_give_about_the_same_array(tmp_path, suffix):
    array, _ = images.read(saved(tmp_path / f"a{suffix}", scene(), quality=98), (24, 32, 3))
    assert np.abs(array - in_range(scene())).mean() < 0.02


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_white_is_one_and_black_is_minus_one(tmp_path, suffix, channels):
    halves = np.zeros((16, 16), np.uint8)
    halves[:, 8:] = 255
    array, _ = images.read(saved(tmp_path / f"a{suffix}", halves), (16, 16, channels))
    assert array.shape == (16, 16, channels)
    np.testing.assert_allclose(array[:, :8], -1.0, atol=0.01)
    np.testing.assert_allclose(array[:, 8:], 1.0, atol=0.01)


def test_gray_picture_repeats_in_three_channels(tmp_path):
    gray = scene()[..., 0]
    array, _ = images.read(saved(tmp_path / "a.png", gray), (24, 32, 3))
    np.testing.assert_array_equal(array, np.repeat(in_range(gray)[..., None], 3, axis=2))


def test_colour_becomes_luminance_in_one_channel(tmp_path):
    array, _ = images.read(saved(tmp_path / "a.png", scene()), (24, 32, 1))
    luminance = scene() @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose((array[..., 0] + 1) * 127.5, luminance, atol=1.0)


def test_transparency_is_laid_on_black(tmp_path):
    rgba = np.dstack([scene(), np.full((24, 32), 255, np.uint8)])
    rgba[:12, :, 3], rgba[12:18, :, 3] = 0, 128
    array, _ = images.read(saved(tmp_path / "a.png", rgba), (24, 32, 3))
    np.testing.assert_array_equal(array[:12], -1.0)
    np.testing.assert_allclose(array[12:18], in_range(scene()[12:18] * (128 / 255)), atol=1.01 / 127.5)
    np.testing.assert_array_equal(array[18:], in_range(scene()[18:]))


def test_gray_with_transparency_is_laid_on_black(tmp_path):
    la = np.dstack([np.full((8, 8), 200, np.uint8), np.full((8, 8), 255, np.uint8)])
    la[:4, :, 1] = 0
    array, _ = images.read(saved(tmp_path / "a.png", Image.fromarray(la)), (8, 8, 1))
    np.testing.assert_array_equal(array[:4], -1.0)
    np.testing.assert_allclose(array[4:], 200 / 127.5 - 1, atol=1e-6)


def palette_picture():
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.paste(1, (4, 0, 8, 8))
    return picture


def test_palette_gives_its_colours(tmp_path):
    array, _ = images.read(saved(tmp_path / "a.png", palette_picture()), (8, 8, 3))
    np.testing.assert_array_equal(array[0, 0], [1, -1, -1])
    np.testing.assert_array_equal(array[0, 7], [-1, 1, -1])


def test_transparent_colour_of_a_palette_is_black(tmp_path):
    array, _ = images.read(saved(tmp_path / "a.png", palette_picture(), transparency=0), (8, 8, 3))
    np.testing.assert_array_equal(array[0, 0], -1)
    np.testing.assert_array_equal(array[0, 7], [-1, 1, -1])


def test_one_bit_picture_is_black_and_white(tmp_path):
    bits = np.arange(64).reshape(8, 8) % 2 == 1
    array, _ = images.read(saved(tmp_path / "a.png", Image.fromarray(bits)), (8, 8, 1))
    np.testing.assert_array_equal(array[..., 0], np.where(bits, 1.0, -1.0))


def test_cmyk_is_read_as_colour(tmp_path):
    path = saved(tmp_path / "a.tif", Image.new("CMYK", (8, 8), (0, 255, 255, 0)))
    array, _ = images.read(path, (8, 8, 3))
    np.testing.assert_allclose(array[0, 0], [1, -1, -1], atol=0.02)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_kept(tmp_path, suffix):
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    path = saved(tmp_path / f"a{suffix}", levels)
    assert images.is_sixteen_bit(path)
    array, _ = images.read(path, (8, 8, 1))
    np.testing.assert_allclose(array[..., 0], levels / 32767.5 - 1.0, atol=1e-6)


@pytest.mark.parametrize("mode", ["I;16B", "I;16L"])
def test_byte_order_of_sixteen_bits_does_not_matter(tmp_path, mode):
    levels = np.array([[0, 1], [256, 65535]])
    raw = levels.astype(">u2" if mode == "I;16B" else "<u2").tobytes()
    saved(tmp_path / "a.tif", Image.frombytes("I;16B" if mode == "I;16B" else "I;16", (2, 2), raw))
    array, _ = images.read(tmp_path / "a.tif", (2, 2, 1))
    np.testing.assert_allclose(array[..., 0], levels / 32767.5 - 1.0, atol=1e-6)


def test_twelve_bits_reach_white_at_4095(tmp_path):
    levels = np.array([[0, 2047], [4095, 5000]], np.uint16)
    array, _ = images.read(saved(tmp_path / "a.png", levels), (2, 2, 1), bits=12)
    np.testing.assert_allclose(array[..., 0], [[-1, 2047 / 2047.5 - 1], [1, 1]], atol=1e-6)


def test_sixteen_bits_take_three_channels_and_a_crop(tmp_path):
    levels = np.full((8, 8), 65535, np.uint16)
    levels[0] = 0
    array, size = images.read(saved(tmp_path / "a.png", levels), (4, 4, 3), crop=4)
    np.testing.assert_array_equal(array, np.ones((4, 4, 3)))
    assert size == (4, 4)


@pytest.mark.parametrize("value", [65536, -1, 5])
def test_signed_integers_of_32_bits_are_refused_with_the_way_out(tmp_path, value):
    path = saved(tmp_path / "deep.tif", np.full((4, 4), value, np.int32))
    with pytest.raises(ValueError, match=rf"deep\.tif: signed 32 bits.*{value}.*unsigned 16 bits"):
        images.read(path, (4, 4, 1))


@pytest.mark.parametrize(
    ("bits", "sample_format", "kind"),
    [(8, 2, "signed 8"), (16, 2, "signed 16"), (32, 2, "signed 32"), (32, 1, "unsigned 32")],
)
def test_other_integers_are_refused_by_their_kind_and_true_values(tmp_path, bits, sample_format, kind):
    values = np.array([[0, 1], [2, 2 ** (bits - 1) + 2**bits // 4 if sample_format == 1 else -5]])
    dtype = f"{'iu'[sample_format == 1]}{bits // 8}"
    tags = {
        256: 2,
        257: 2,
        258: bits,
        259: 1,
        262: 1,
        273: 8,
        277: 1,
        278: 2,
        279: values.size * bits // 8,
        339: sample_format,
    }
    raw = values.astype(dtype).tobytes()
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    path = tmp_path / "deep.tif"
    path.write_bytes(
        b"II*\0" + struct.pack("<I", 8 + len(raw)) + raw + struct.pack("<H", len(tags)) + entries + bytes(4)
    )
    with pytest.raises(ValueError, match=rf"{kind} bits, values from {values.min()} to {values.max()},"):
        images.read(path, (2, 2, 1))


def deep(levels):
    """A PNG of 16 bits, which Pillow does not write in colour."""
    height, width, channels = levels.shape
    colour_type = {2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)), (b"IDAT", zlib.compress(rows))
    parts = (
        struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in (*chunks, (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def deep_tiff(levels, order):
    """An uncompressed colour TIFF of 16 bits."""
    height, width, channels = levels.shape
    raw = levels.astype(f"{order}u2").tobytes()
    start = 8 + len(raw)
    tags = {256: width, 257: height, 258: start, 259: 1, 262: 2, 273: 8, 277: channels, 278: height, 279: len(raw)}
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 3, channels, value)
        if tag == 258
        else struct.pack(f"{order}HHII", tag, 4, 1, value)
        for tag, value in tags.items()
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start + 2 * channels)
    sizes = struct.pack(f"{order}{channels}H", *[16] * channels)
    return head + raw + sizes + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    "encode", [deep, lambda x: deep_tiff(x, "<"), lambda x: deep_tiff(x, ">")], ids=["png", "II", "MM"]
)
@pytest.mark.parametrize("bits", [12, 16])
def test_colour_of_sixteen_bits_is_kept(tmp_path, encode, bits):
    levels = np.random.default_rng(0).integers(0, 2**bits, (6, 7, 3))
    path = tmp_path / "a.png"
    path.write_bytes(encode(levels))
    assert images.is_sixteen_bit(path)
    assert images.largest_level(path) == levels.max()
    array, size = images.read(path, (6, 7, 3), bits=bits)
    np.testing.assert_allclose(array, levels / ((2**bits - 1) / 2) - 1, atol=1e-6)
    assert size == (6, 7)
    gray, _ = images.read(path, (6, 7, 1), bits=bits)
    np.testing.assert_allclose(gray[..., 0], array @ [0.299, 0.587, 0.114], atol=1e-5)
    cropped, _ = images.read(path, (4, 4, 3), crop=4, bits=bits)
    np.testing.assert_array_equal(cropped, array[1:5, 1:5])


@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_of_sixteen_bits_is_laid_on_black(tmp_path, channels):
    levels = np.random.default_rng(0).integers(0, 2**16, (6, 7, channels))
    (tmp_path / "a.png").write_bytes(deep(levels))
    array, _ = images.read(tmp_path / "a.png", (6, 7, 3))
    wanted = levels[..., :-1] * (levels[..., -1:] / 65535)
    np.testing.assert_allclose(array, np.broadcast_to(wanted / 32767.5 - 1, array.shape), atol=1e-6)


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\0\0\0\x24ftypheic", "HEIC"),
        (b"\0\0\0\x24ftypmif1", "HEIC"),
        (b"\0\0\0\x24ftypisom", "a video"),
        (b"%PDF-1.7", "PDF"),
        (b"<svg xmlns=", "SVG"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\x93NUMPY", "a NumPy array"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"", "an empty file"),
    ],
)
def test_what_is_no_image_is_called_by_its_name(tmp_path, start, kind):
    path = tmp_path / "photo.jpg"
    path.write_bytes(start + bytes(64) if start else b"")
    with pytest.raises(
        ValueError, match=rf"photo\.jpg: not a readable image \(it is {kind}" if kind != "Git LFS" else kind
    ):
        images.read(path, (8, 8, 3))


def test_floating_point_tiff_is_refused_by_name(tmp_path):
    path = saved(tmp_path / "float.tif", np.full((4, 4), 0.5, np.float32))
    with pytest.raises(ValueError, match=r"float\.tif.*floating-point"):
        images.read(path, (4, 4, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = scene()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),  # to be turned clockwise for viewing
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    for name in ("a.png", "a.tif"):
        path = saved(tmp_path / name, np.ascontiguousarray(stored), exif=exif)
        array, size = images.read(path, (24, 32, 3))
        assert size == (24, 32)
        np.testing.assert_array_equal(array, in_range(upright))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_orientation_of_gray_tiff_is_applied(tmp_path, dtype):
    upright = (np.arange(24 * 32, dtype=dtype) % 251).reshape(24, 32) * dtype(np.iinfo(dtype).max // 255)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = saved(tmp_path / "a.tif", np.ascontiguousarray(np.rot90(upright)), exif=exif)
    array, _ = images.read(path, (24, 32, 1))
    np.testing.assert_allclose((array[..., 0] + 1) * (np.iinfo(dtype).max / 2), upright, rtol=1e-5, atol=0.01)


@pytest.mark.parametrize(
    ("crop", "box"),
    [(10, (7, 17, 11, 21)), ((8, 20), (8, 16, 6, 26)), ("square", (0, 24, 4, 28)), ((24, 32), (0, 24, 0, 32))],
)
def test_centre_is_cropped(tmp_path, crop, box):
    top, bottom, left, right = box
    wanted = scene()[top:bottom, left:right]
    array, size = images.read(saved(tmp_path / "a.png", scene()), wanted.shape, crop=crop)
    np.testing.assert_array_equal(array, in_range(wanted))
    assert size == wanted.shape[:2]


@pytest.mark.parametrize("crop", [25, (24, 33)])
def test_crop_larger_than_the_image_is_refused_by_name(tmp_path, crop):
    path = saved(tmp_path / "small.png", scene())
    with pytest.raises(ValueError, match=r"small\.png.*24×32.*crop"):
        images.read(path, (8, 8, 3), crop=crop)


def test_image_shape_is_height_then_width(tmp_path):
    wide = np.zeros((20, 40), np.uint8)
    wide[:, 20:] = 255
    array, size = images.read(saved(tmp_path / "a.png", wide), (10, 30, 1))
    assert array.shape == (10, 30, 1)
    assert size == (20, 40)
    np.testing.assert_array_equal(array[:, :14], -1.0)
    np.testing.assert_array_equal(array[:, 16:], 1.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_shrinking_averages_areas_rather_than_picking_pixels(tmp_path, dtype):
    checks = (np.indices((64, 64)).sum(axis=0) % 2 * np.iinfo(dtype).max).astype(dtype)
    array, _ = images.read(saved(tmp_path / "a.png", checks), (8, 8, 1))
    np.testing.assert_allclose(array, 0.0, atol=0.06)


def test_mask_is_true_exactly_where_painted(tmp_path):
    painted = np.zeros((24, 32), bool)
    painted[3:9, 20:30] = True
    for name, values in {
        "byte": painted * np.uint8(255),
        "faint": painted * np.uint8(1),
        "bit": painted,
        "wide": painted * np.uint16(200),
        "colour": painted[..., None] * np.array([0, 0, 255], np.uint8),
    }.items():
        np.testing.assert_array_equal(images.read_mask(saved(tmp_path / f"{name}.png", values)), painted, name)
    np.testing.assert_array_equal(images.read_mask(tmp_path / "byte.png", crop=(20, 24)), painted[2:22, 4:28])


PAINTED = np.pad(np.ones((6, 10), bool), ((3, 15), (20, 2)))


@pytest.mark.parametrize("inked", [255, 0])
def test_transparent_ground_of_a_mask_is_not_marked(tmp_path, inked):
    layers = np.zeros((24, 32, 4), np.uint8)
    layers[..., :3] = np.where(PAINTED, inked, 255 - inked)[..., None]
    layers[..., 3] = PAINTED * 255
    layers[..., :3] *= PAINTED[..., None]
    np.testing.assert_array_equal(images.read_mask(saved(tmp_path / "a.png", layers)), PAINTED)


def test_white_under_a_transparent_ground_of_a_mask_is_not_marked(tmp_path):
    layers = np.full((24, 32, 4), 255, np.uint8)
    layers[..., 3] = PAINTED * 255
    np.testing.assert_array_equal(images.read_mask(saved(tmp_path / "a.png", layers)), PAINTED)


@pytest.mark.parametrize("quality", [60, 90])
@pytest.mark.parametrize("again", [True, False])
def test_noise_of_lossy_compression_is_not_marked(tmp_path, quality, again):
    path = saved(tmp_path / "a.jpg", PAINTED * np.uint8(255), quality=quality)
    assert (np.asarray(Image.open(path))[~PAINTED] > 0).any()
    path = saved(tmp_path / "again.png", np.asarray(Image.open(path))) if again else path
    np.testing.assert_array_equal(images.read_mask(path), PAINTED)


def test_soft_edges_of_a_mask_are_marked(tmp_path):
    soft = np.zeros((24, 32), np.uint8)
    soft[3:9, 20:30], soft[2, 20:30] = 255, 10
    np.testing.assert_array_equal(images.read_mask(saved(tmp_path / "a.png", soft)), soft > 0)


def test_faint_colour_in_a_mask_is_marked(tmp_path):
    colour = PAINTED[..., None] * np.array([0, 0, 1], np.uint8)
    np.testing.assert_array_equal(images.read_mask(saved(tmp_path / "a.png", colour)), PAINTED)


def test_masks_of_one_image_are_united_and_resized_before_they_are_cropped(tmp_path):
    one, other = (np.zeros((24, 32), bool) for _ in range(2))
    one[:12, :16], other[12:, 16:] = True, True
    paths = [saved(tmp_path / f"{name}.png", mask) for name, mask in (("one", one), ("other", other))]
    mask = images.read_mask(*paths, size=(48, 64), crop=(48, 32))
    np.testing.assert_array_equal(mask, np.kron(one | other, np.ones((2, 2), bool))[:, 16:48])


def truncated(path):
    saved(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:2000])


def checksum_broken(path):
    saved(path, scene())
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"IHDR") + 18] ^= 255
    path.write_bytes(raw)


def pixels_broken(path):
    saved(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"IDAT") + 3000] ^= 255
    path.write_bytes(raw)


@pytest.mark.parametrize(
    "spoil",
    [
        truncated,
        checksum_broken,
        pixels_broken,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("These are words."),
        lambda path: path.mkdir(),
        lambda path: None,
    ],
    ids=["truncated", "broken", "pixels broken", "zero bytes", "text", "folder", "missing"],
)
def test_unreadable_file_is_named(tmp_path, spoil):
    path = tmp_path / "bad one.png"
    spoil(path)
    with pytest.raises(ValueError, match=r"bad one\.png.*not a readable image"):
        images.read(path, (8, 8, 3))


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".bmp", ".webp"])
def test_truncation_is_found_in_every_format(tmp_path, suffix):
    path = tmp_path / f"cut{suffix}"
    saved(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"cut\."):
        images.read(path, (8, 8, 3))


def test_decompression_bomb_is_refused_by_name(tmp_path, monkeypatch):
    path = saved(tmp_path / "bomb.png", Image.new("1", (500, 500)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"bomb\.png.*not a readable image"):
        images.read(path, (8, 8, 1))
    assert not images.is_sixteen_bit(path)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_small_look_shows_the_same_picture(tmp_path, suffix):
    rows, columns = np.mgrid[:900, :1200]
    levels = np.stack([rows * 255 / 900, columns * 255 / 1200, rows * 0 + 40], axis=-1).astype(np.uint8)
    Image.fromarray(levels).save(tmp_path / f"picture.{suffix}")
    for crop, shape in ((None, (75, 100, 3)), ("square", (100, 100, 3)), ((300, 600), (50, 100, 3))):
        small = images.small(tmp_path / f"picture.{suffix}", 100, crop=crop)
        assert small.shape == shape
        whole, _ = images.read(tmp_path / f"picture.{suffix}", shape, crop=crop)
        np.testing.assert_allclose(small, whole, atol=0.03)
    assert images.small(tmp_path / f"picture.{suffix}", 5000).shape == (900, 1200, 3)
