"""How letters fold: from a name to the key it is found by, and the table by which fold.rs does the same."""

import struct
import unicodedata


# Unicode 3.2 is frozen in every Python, so folding does not depend on the interpreter's version. It holds every
# letter with a decomposition that place names use.
UCD = unicodedata.ucd_3_2_0


SPECIAL = {
    "ß": "ss", "ẞ": "ss", "æ": "ae", "Æ": "ae", "œ": "oe", "Œ": "oe", "ø": "o", "Ø": "o", "đ": "d", "Đ": "d",
    "ð": "d", "Ð": "d", "þ": "th", "Þ": "th", "ł": "l", "Ł": "l", "ħ": "h", "Ħ": "h", "ı": "i", "İ": "i",
    "ŋ": "n", "Ŋ": "n", "ə": "a", "Ə": "a", "ŧ": "t", "Ŧ": "t", "&": " ", "ς": "σ",
}
# Apostrophes join ("L'Aquila", "Nuku'alofa", "Hawaiʻi"); every other punctuation parts words.
SILENT = set("'’‘`´ʻʼʽʾʿʹʺˈ′״׳ـ\u200b\u200c\u200d\ufeff\u00ad")


def silent_mark(char):
    point = ord(char)
    return (
        0x300 <= point <= 0x36F  # Latin, Greek and Cyrillic accents
        or 0x591 <= point <= 0x5C7  # Hebrew points
        or 0x610 <= point <= 0x61A or 0x64B <= point <= 0x65F or point == 0x670  # Arabic vowels
        or point in (0x3099, 0x309A)  # kana voicing, where written apart
        or 0xFE00 <= point <= 0xFE0F  # variation selectors
    )


def fold_char(char):
    """One character folded; characters Unicode 3.2 does not know stay as they are."""
    if char in SPECIAL:
        return SPECIAL[char]
    if char in SILENT or silent_mark(char):
        return ""
    category = UCD.category(char)
    if category in ("Cn", "Co", "Cs"):
        return char
    if 0xAC00 <= ord(char) <= 0xD7A3:
        return char  # Hangul syllables decompose into letters; keep them whole
    if category[0] in "PSZC":
        return " "
    out = []
    for part in UCD.normalize("NFKD", char.lower()):
        part = part.lower()
        if part in SPECIAL:
            out.append(SPECIAL[part])
        elif part in SILENT or silent_mark(part):
            pass
        elif UCD.category(part)[0] in "PSZC":
            out.append(" ")
        else:
            out.append(part)
    return "".join(out)


FOLD = {}
for point in range(0x10000):
    if 0xD800 <= point < 0xE000:
        continue
    folded = fold_char(chr(point))
    if folded != chr(point):
        FOLD[chr(point)] = folded

WORDS = {"st": "saint", "ste": "sainte", "mt": "mount", "ft": "fort"}


def key(text):
    """The key a name is found by: folded, abbreviations written out, words run together."""
    spaced = "".join(FOLD.get(char, char) for char in text)
    return "".join(WORDS.get(word, word) for word in spaced.split(" ") if word)


def hash40(text):
    """The upper 40 bits of 64-bit FNV-1a, finished with one multiply-shift (the low bits of FNV mix better)."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    value ^= value >> 32
    value = (value * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    return value >> 24


def u24(value):
    assert 0 <= value <= 0xFFFFFF, value
    return struct.pack("<I", value)[:3]


def fold_bytes():
    """Code point (3), offset in the fold text (2), length (1); sorted. Characters not listed stay as they are."""
    table, text, at = bytearray(), bytearray(), {}
    for char, folded in sorted(FOLD.items()):
        raw = folded.encode()
        if raw not in at:
            at[raw] = len(text)
            text += raw
        table += u24(ord(char)) + struct.pack("<HB", at[raw], len(raw))
    return table, text
