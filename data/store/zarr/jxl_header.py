"""The size of a JPEG XL image, read from its header before a decoder allocates anything.

ISO/IEC 18181-1, SizeHeader; 18181-2 for the boxes of a container.
"""

_CODESTREAM = b"\xff\x0a"
_CONTAINER = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_SIZE_BITS = (9, 13, 18, 30)
_HEADER_BYTES = 16  # more than a SizeHeader needs


def jxl_size(raw: bytes) -> tuple[int, int]:
    """Height and width in pixels; raises ValueError where the bytes are no JPEG XL."""
    bits = _Bits(_codestream(raw))
    small = bits.take(1)
    height = _extent(bits, small)
    ratio = bits.take(3)
    if not ratio:
        return height, _extent(bits, small)
    over, under = _RATIOS[ratio]
    return height, height * over // under


class _Bits:
    """Bits of a byte string, the lowest first."""

    def __init__(self, raw: bytes) -> None:
        self._value, self._left = int.from_bytes(raw, "little"), 8 * len(raw)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("a JPEG XL header that is cut short")
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return taken


def _extent(bits: _Bits, small: int) -> int:
    if small:
        return 8 * (bits.take(5) + 1)
    return bits.take(_SIZE_BITS[bits.take(2)]) + 1


def _codestream(raw: bytes) -> bytes:
    """The first bytes of the codestream behind its mark."""
    if raw.startswith(_CODESTREAM):
        return raw[2 : 2 + _HEADER_BYTES]
    if not raw.startswith(_CONTAINER):
        raise ValueError("not a JPEG XL image")
    at = len(_CONTAINER)
    while at + 8 <= len(raw):
        size, kind = int.from_bytes(raw[at : at + 4], "big"), raw[at + 4 : at + 8]
        head = 16 if size == 1 else 8
        if size == 1:
            size = int.from_bytes(raw[at + 8 : at + 16], "big")
        if kind in (b"jxlc", b"jxlp"):
            start = at + head + (4 if kind == b"jxlp" else 0)
            if raw[start : start + 2] != _CODESTREAM:
                break
            return raw[start + 2 : start + 2 + _HEADER_BYTES]
        if size < head:
            break  # 0 is a box to the end of the file
        at += size
    raise ValueError("a JPEG XL container without an image")
