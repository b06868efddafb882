"""Encoded pictures, decoded in TensorFlow operations as Pillow decodes them: JPEG, PNG, and BMP of 24 bits."""

from __future__ import annotations

import tensorflow as tf

ORIENTATION, SHORT = 274, 3  # of EXIF: a tag, and a type of values
FRAMES = tuple(set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC})  # of JPEG: the markers before size and components
PIXELS = 0xDA  # of JPEG: the marker before these
BMP_HEADERS = (40, 108, 124)  # the lengths of those that keep the bits of a pixel in one place
XMP = rb"http://ns.adobe.com/xap/1.0/" + b"\0"  # how it begins in JPEG
XMP_NOTE = rb"XML:com.adobe.xmp" + b"\0\0"  # in PNG; a last byte of 0 says that it is not compressed
NOTES = r"(XML:com\.adobe\.xmp|Raw profile type exif|exif|xmp)\x00\C*"  # of PNG, which may tell an orientation
XMP_ORIENTATION = r'(?s)^\C*?tiff:Orientation(?:="|>)([0-9])\C*$'


def decoded(encoded: tf.Tensor) -> tf.Tensor:
    """The picture in a file's bytes as `data.images` reads it: upright, and on black where it is transparent.

    What is upright EXIF says, or XMP where EXIF says nothing. A file that Pillow would give other levels for ends the
    graph with an error that says why: of another format, with more or less than 8 bits a channel, in inks (CMYK), or
    with an orientation in a compressed note.

    Args:
        encoded: The bytes, a string.

    Returns:
        uint8 `(height, width, 3)`.
    """
    is_png = tf.strings.substr(encoded, 0, 8) == b"\x89PNG\r\n\x1a\n"
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: _of_jpeg(encoded),
        lambda: tf.cond(is_png, lambda: _of_png(encoded), lambda: _of_bmp(encoded)),
    )


def _of_jpeg(encoded):
    def segment(at, exif, xmp, _):
        start, marker = tf.unstack(_levels(encoded, at, 2), 2)
        length = _whole(encoded, at + 2, 2)
        is_segment = (start == 0xFF) & (marker != 0xFF) & (length >= 2)
        _demand(is_segment, "as the header of this JPEG file is broken")
        content = _part(encoded, at + 4, length - 2)
        is_frame = tf.reduce_any(marker == FRAMES)
        inks = tf.cond(is_frame, lambda: _levels(content, 5, 1)[0] == 4, lambda: False)
        _demand(~inks, "as a JPEG file in inks (CMYK)")
        noted = marker == 0xE1
        exif += tf.where(noted & _begins(content, b"Exif\0\0"), _after(content, 6), "")
        xmp = tf.where(noted & _begins(content, XMP), _after(content, len(XMP)), xmp)
        return at + 2 + length, exif, xmp, marker != PIXELS

    state = (tf.constant(2), tf.constant(""), tf.constant(""), tf.constant(True))
    _, exif, xmp, _ = tf.while_loop(lambda *state: state[-1], segment, state)
    with tf.control_dependencies([exif]):  # so that it is our error that is told
        picture = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    return _upright(picture, exif, xmp)


def _of_png(encoded):
    _demand(_levels(encoded, 24, 1)[0] == 8, "as a PNG file of more or less than 8 bits a channel")

    def chunk(at, exif, xmp, _):
        length, kind = _whole(encoded, at, 4), _part(encoded, at + 4, 4)
        _demand(length >= 0, "as the chunks of this PNG file are broken")
        content = _part(encoded, at + 8, length)
        is_xmp = (kind == b"iTXt") & _begins(content, XMP_NOTE)
        is_text = tf.reduce_any(kind == [b"tEXt", b"zTXt", b"iTXt"])
        may_turn = is_text & ~is_xmp & tf.strings.regex_full_match(content, NOTES)
        _demand(~may_turn, "as a note of this PNG file may tell its orientation")
        exif = tf.where(kind == b"eXIf", content, exif)
        xmp = tf.where(is_xmp, content, xmp)
        return at + 12 + length, exif, xmp, kind != b"IEND"

    state = (tf.constant(8), tf.constant(""), tf.constant(""), tf.constant(True))
    _, exif, xmp, _ = tf.while_loop(lambda *state: state[-1], chunk, state)
    with tf.control_dependencies([exif]):
        layers = tf.io.decode_png(encoded, channels=4)
    return _upright(_on_black(layers), exif, xmp)


def _of_bmp(encoded):
    is_known = (tf.strings.length(encoded) >= 54) & _begins(encoded, b"BM")
    header = tf.cond(is_known, lambda: _levels(encoded, 14, 20), lambda: tf.zeros(20, tf.int32))
    plain = tf.reduce_all(header[14:] == (24, 0, 0, 0, 0, 0))  # bits a pixel, and no compression
    plain &= tf.reduce_any(header[0] == BMP_HEADERS)
    with tf.control_dependencies([_demand(plain, "as it is neither JPEG nor PNG nor BMP of 24 bits")]):
        return tf.io.decode_bmp(encoded, channels=3)


def _on_black(layers):
    """Red, green and blue of pictures with opacity, laid on black with Pillow's rounding."""

    def laid():
        levels = tf.cast(layers, tf.int32)
        colours = levels[..., :3] * levels[..., 3:] * 128 + 128 * 128
        return tf.cast((colours // 2**8 + colours) // 2**15, tf.uint8)

    return tf.cond(tf.reduce_all(layers[..., 3] == 255), lambda: layers[..., :3], laid)


def _upright(picture, exif, xmp):
    """A picture turned as EXIF's orientation says, or XMP's where EXIF has none."""
    told = tf.strings.regex_replace(xmp, XMP_ORIENTATION, r"\1")
    told = tf.where(tf.strings.regex_full_match(told, "[0-9]"), told, "1")
    found = tf.cond(tf.strings.length(exif) > 0, lambda: _orientation(exif), lambda: -1)
    found = tf.where(found >= 0, found, tf.strings.to_number(told, tf.int32))
    swapped = tf.reduce_any(found == (5, 6, 7, 8))
    backwards = [tf.reduce_any(found == (3, 4, 7, 8)), tf.reduce_any(found == (2, 3, 6, 7))]  # rows, columns
    picture = tf.transpose(picture, tf.where(swapped, (1, 0, 2), (0, 1, 2)))
    picture = tf.reverse(picture, tf.boolean_mask((0, 1), backwards))
    return tf.ensure_shape(picture, (None, None, 3))


def _orientation(exif):
    """The orientation in EXIF data; -1 for none."""
    exif = tf.strings.regex_replace(exif, r"^Exif\x00\x00", "")
    head = tf.strings.substr(exif, 0, 4)
    little = head == b"II*\0"
    _demand(little | (head == b"MM\0*"), "as its EXIF data are none")
    places = tf.where(little, (1, 256, 65536, 2**24), (2**24, 65536, 256, 1))
    short = tf.where(little, (1, 256), (256, 1))
    at = tf.reduce_sum(_levels(exif, 4, 4) * places)
    count = tf.reduce_sum(_levels(exif, at, 2) * short)
    entries = tf.reshape(_levels(exif, at + 2, 12 * count), (-1, 12))
    tags, types, values = (tf.reduce_sum(entries[:, i : i + 2] * short, axis=1) for i in (0, 2, 8))
    alone = tf.reduce_sum(entries[:, 4:8] * places, axis=1) == 1
    ours = tags == ORIENTATION
    _demand(tf.reduce_all(~ours | ((types == SHORT) & alone)), "as EXIF's orientation is no number of 16 bits")
    return tf.concat([[-1], values[ours]], axis=0)[-1]


def _part(text, at, count):
    """So many bytes from a place on."""
    there = (at >= 0) & (count >= 0) & (at + count <= tf.strings.length(text))
    with tf.control_dependencies([_demand(there, "as it ends too early")]):
        return tf.strings.substr(text, at, count)


def _levels(text, at, count):
    """The same, as int32."""
    return tf.cast(tf.io.decode_raw(_part(text, at, count), tf.uint8), tf.int32)


def _whole(text, at, count):
    """The whole number in so many bytes, the largest place first."""
    return tf.reduce_sum(_levels(text, at, count) * [256**place for place in reversed(range(count))])


def _begins(text, start):
    return tf.strings.substr(text, 0, len(start)) == start


def _after(text, start):
    """What follows the first bytes, however many there are."""
    length = tf.strings.length(text)
    return tf.strings.substr(text, tf.minimum(start, length), length)


def _demand(is_so, otherwise):
    message = (
        f"Not read as in Python, {otherwise}: save it as an upright JPEG or PNG of 8 bits a channel, or give pixels."
    )
    return tf.debugging.Assert(is_so, [message])
