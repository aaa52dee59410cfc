"""Bech32, in which age writes its keys, without a limit of length.

https://github.com/bitcoin/bips/blob/master/bip-0173.mediawiki
"""

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
CHECKSUM_CHARACTERS = 6
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


class NotBech32(Exception):
    """The text is not valid."""


def bech32_decoded(text: str) -> tuple[str, bytes]:
    """Return the prefix, in small letters, and the bytes. Raises `NotBech32`."""
    if text not in (text.lower(), text.upper()):
        raise NotBech32
    prefix, separator, data = text.lower().rpartition("1")
    values = [ALPHABET.find(each) for each in data]
    if not prefix or not separator or len(values) < CHECKSUM_CHARACTERS or -1 in values:
        raise NotBech32
    if any(not 33 <= ord(each) <= 126 for each in prefix):
        raise NotBech32
    expanded = [ord(each) >> 5 for each in prefix] + [0] + [ord(each) & 31 for each in prefix]
    if _polymod(expanded + values) != 1:
        raise NotBech32
    return prefix, _octets(values[:-CHECKSUM_CHARACTERS])


def _polymod(values: list[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, factor in enumerate(_GENERATOR):
            checksum ^= factor if top >> bit & 1 else 0
    return checksum


def _octets(values: list[int]) -> bytes:
    """Regroup numbers of 5 bits; what is left over is padding, less than 5 bits of zeros."""
    bits, number = 5 * len(values), 0
    for value in values:
        number = number << 5 | value
    padding = bits % 8
    if padding >= 5 or number & ((1 << padding) - 1):
        raise NotBech32
    return (number >> padding).to_bytes(bits // 8, "big")
