"""Files are decoded in a graph as by Pillow, or not at all."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, PngImagePlugin

from anogan_tf import decoding
from anogan_tf.data import Encoded, images

MAKER = struct.pack(">HHI4s", 271, 2, 2, b"a\0\0\0")  # an entry of EXIF beside the orientation
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'


@pytest.fixture(scope="module")
def decoded():
    return tf.function(decoding.decoded, input_signature=[tf.TensorSpec((), tf.string)], autograph=False)


def picture(mode="RGB"):
    """A smooth picture of 23×31 pixels."""
    rng = np.random.default_rng(0)
    planes = [
        Image.fromarray(rng.integers(0, 256, (6, 8), np.uint8)).resize((31, 23))
        for _ in Image.new(mode, (1, 1)).getbands()
    ]
    return planes[0] if len(planes) == 1 else Image.merge(mode, planes)


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation=None, *, kind=3, count=1):
    """EXIF data, in the order of Motorola, of a maker and perhaps an orientation."""
    turned = [struct.pack(">HHIHH", 274, kind, count, orientation, 0)] if orientation else []
    entries = [MAKER, *turned]
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, len(entries)) + b"".join(entries) + bytes(4)


def turned(orientation):
    """The same as Pillow writes it, in the order of Intel."""
    data = Image.Exif()
    data[274] = orientation
    return data


def noted(*note, kind="add_itxt", **options):
    info = PngImagePlugin.PngInfo()
    getattr(info, kind)(*note, **options)
    return saved(picture(), "PNG", pnginfo=info)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunk(file, kind, content):
    """A PNG file with a further chunk after its header."""
    return file[:33] + chunk(kind, content) + file[33:]


KNOWN_COLOUR = tuple(int(level) for level in np.asarray(picture())[3, 3])
AS_BY_PILLOW = {
    **{f"JPEG, {chroma}": saved(picture(), "JPEG", subsampling=chroma) for chroma in ("4:4:4", "4:2:0", "4:1:1")},
    "progressive JPEG": saved(picture(), "JPEG", quality=40, progressive=True),
    "gray JPEG": saved(picture("L"), "JPEG"),
    **{f"JPEG, orientation {n}": saved(picture(), "JPEG", exif=turned(n)) for n in range(1, 10)},
    **{f"PNG, orientation {n}": saved(picture(), "PNG", exif=turned(n)) for n in (2, 6)},
    "JPEG, orientation of Motorola's order": saved(picture(), "JPEG", exif=exif(7)),
    "JPEG, EXIF without an orientation": saved(picture(), "JPEG", exif=exif()),
    "JPEG, orientation in XMP": saved(picture(), "JPEG", exif=exif(), xmp=XMP),
    "JPEG, orientation in EXIF and in XMP": saved(picture(), "JPEG", exif=exif(3), xmp=XMP),
    "PNG, orientation in XMP": noted("XML:com.adobe.xmp", XMP.decode()),
    "PNG, a comment": noted("Comment", 'tiff:Orientation="6"', kind="add_text"),
    **{f"PNG, {mode}": saved(picture(mode), "PNG") for mode in ("L", "LA", "RGB", "RGBA")},
    "PNG, palette": saved(picture().quantize(200), "PNG"),
    "PNG, palette with opacities": saved(picture().quantize(200), "PNG", transparency=bytes(range(200))),
    "PNG, a transparent colour": saved(picture(), "PNG", transparency=KNOWN_COLOUR),
    "PNG, a transparent gray": saved(picture("L"), "PNG", transparency=KNOWN_COLOUR[0]),
    "PNG, gamma": with_chunk(saved(picture(), "PNG"), b"gAMA", struct.pack(">I", 100000)),
    "BMP": saved(picture(), "BMP"),
    "BMP from the top": struct.pack("<2sIIIIiiHHIIiiII", b"BM", 78, 0, 54, 40, 4, -2, 1, 24, 0, 0, 0, 0, 0, 0)
    + bytes(range(24)),
}
REFUSED = {
    "JPEG in inks": (saved(picture("CMYK"), "JPEG"), "inks"),
    "JPEG, orientation of 32 bits": (saved(picture(), "JPEG", exif=exif(6, kind=4)), "no number of 16 bits"),
    "JPEG, two orientations": (saved(picture(), "JPEG", exif=exif(6, count=2)), "no number of 16 bits"),
    "JPEG, broken EXIF": (saved(picture(), "JPEG", exif=b"Exif\0\0MM\0!\0\0\0\x08\0\0"), "EXIF data are none"),
    "JPEG, EXIF that ends": (saved(picture(), "JPEG", exif=exif(6)[:-20]), "ends too early"),
    "JPEG, broken header": (b"\xff\xd8\xff\xe0\0\0" + bytes(99), "header of this JPEG file is broken"),
    "JPEG, filled header": (b"\xff\xd8\xff" + saved(picture(), "JPEG")[2:], "header of this JPEG file is broken"),
    "JPEG, its beginning": (saved(picture(), "JPEG")[:15], "ends too early"),
    "PNG of 16 bits": (saved(Image.fromarray(np.eye(9, dtype=np.uint16)), "PNG"), "more or less than 8 bits"),
    "PNG of 2 bits": (saved(picture().quantize(4), "PNG", bits=2), "more or less than 8 bits"),
    "PNG of 1 bit": (saved(picture("L").convert("1"), "PNG"), "more or less than 8 bits"),
    "PNG, compressed XMP": (noted("XML:com.adobe.xmp", XMP.decode(), zip=True), "may tell its orientation"),
    "PNG, EXIF as ImageMagick has it": (
        noted("Raw profile type exif", "\nexif\n 2\n4d4d", kind="add_text"),
        "may tell its orientation",
    ),
    "PNG, broken chunks": (saved(picture(), "PNG")[:33] + b"\xff" * 40, "chunks of this PNG file are broken"),
    "PNG without its end": (saved(picture(), "PNG")[:-12], "ends too early"),
    "BMP of 8 bits": (saved(picture("L"), "BMP"), "neither JPEG nor PNG nor BMP of 24 bits"),
    "BMP of OS/2": (
        struct.pack("<2sIIIIHHHH", b"BM", 50, 0, 26, 12, 4, 2, 1, 24) + bytes([0, 0, 24] * 8 + [0] * 4),
        "neither",
    ),
    "GIF": (saved(picture(), "GIF"), "neither JPEG nor PNG nor BMP of 24 bits"),
    "nothing": (b"", "neither JPEG nor PNG nor BMP of 24 bits"),
}


@pytest.mark.parametrize("content", AS_BY_PILLOW.values(), ids=AS_BY_PILLOW)
def test_a_file_is_decoded_as_by_pillow(decoded, content):
    (expected,) = images.open_picture(Encoded(content))
    np.testing.assert_array_equal(decoded(tf.constant(content)), np.asarray(expected.convert("RGB")))


@pytest.mark.parametrize(("content", "why"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_would_be_decoded_otherwise_is_refused(decoded, content, why):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"Not read as in Python, as .*{why}.*: save it as"):
        decoded(tf.constant(content))


def test_all_opacities_are_laid_on_black_as_by_pillow(decoded):
    levels, opacities = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    content = saved(Image.fromarray(np.dstack([levels, levels, levels, opacities])), "PNG")
    (expected,) = images.open_picture(Encoded(content))
    np.testing.assert_array_equal(decoded(tf.constant(content)), np.asarray(expected))
