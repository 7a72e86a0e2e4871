"""Which other names of a place are shown, and in which order."""

import collections
import re

from folding import UCD, key


SCRIPT_OF_LANGUAGE = {
    "ru": "CYRILLIC", "uk": "CYRILLIC", "bg": "CYRILLIC", "sr": "CYRILLIC", "mk": "CYRILLIC", "be": "CYRILLIC",
    "kk": "CYRILLIC", "ky": "CYRILLIC", "mn": "CYRILLIC", "tg": "CYRILLIC", "ar": "ARABIC", "fa": "ARABIC",
    "ur": "ARABIC", "ps": "ARABIC", "zh": "CJK", "yue": "CJK", "ja": "CJK", "ko": "HANGUL", "el": "GREEK",
    "he": "HEBREW", "hy": "ARMENIAN", "ka": "GEORGIAN", "th": "THAI", "hi": "DEVANAGARI", "mr": "DEVANAGARI",
    "ne": "DEVANAGARI", "bn": "BENGALI", "ta": "TAMIL", "te": "TELUGU", "kn": "KANNADA", "ml": "MALAYALAM",
    "gu": "GUJARATI", "pa": "GURMUKHI", "si": "SINHALA", "km": "KHMER", "lo": "LAO", "my": "MYANMAR",
    "am": "ETHIOPIC", "ti": "ETHIOPIC", "dz": "TIBETAN", "bo": "TIBETAN", "dv": "THAANA",
}
ABROAD = ["CYRILLIC", "CJK", "ARABIC", "GREEK", "HEBREW", "KATAKANA", "HANGUL", "DEVANAGARI", "THAI", "GEORGIAN", "ARMENIAN"]
OFFICIAL = re.compile(
    r"^(city|town|village|borough|comune|commune|ville|stadt|stad|kota|bandar|lungsod|dinas|ciudad|cidade|municipio"
    r"|gorad|gorod|thanh|thành|pueblo|sao paulo|bandaraya|villa|state|province|county|district|gemeente)\b", re.I)


def script(name):
    """The script of a name, or none where it mixes scripts or holds digits or brackets."""
    found = set()
    for char in name:
        if char.isalpha():
            word = UCD.name(char, "?").split(" ")[0]
            found.add("CJK" if word in ("CJK", "IDEOGRAPHIC") else word)
        elif char.isdigit() or char in "()[]/;:?!\"*_|=":
            return None
    if found == {"KATAKANA", "CJK"} or found == {"HIRAGANA", "CJK"}:
        return "CJK"
    return found.pop() if len(found) == 1 else None


class Neighbourhood:
    """In how many places of a country a word is part of a name: "Ottobrunn bei München" and its like tell that
    München is what Munich is called there."""

    def __init__(self, everything):
        self.counts = collections.defaultdict(collections.Counter)
        for place in everything:
            words = set()
            for name in [place["name"], *place["alternatenames"]]:
                words.update(self.words(name))
            self.counts[place["countrycode"]].update(words)

    @staticmethod
    def words(name):
        return [word for word in re.split(r"[^\w]+", name) if len(word) > 1]

    def of(self, country, name):
        return min((self.counts[country][word] for word in self.words(name)), default=0)


# The letters of the most widely read spelling of a script; others mark a name as that of a smaller language.
USUAL = {
    "CYRILLIC": set("абвгдеёжзийклмнопрстуфхцчшщъыьэюя"),
    "ARABIC": set("ابتثجحخدذرزسشصضطظعغفقكلمنهويىةءأإؤئآ"),
}

# Local names that the count of neighbours does not find, by country; shown only where GeoNames lists them.
LOCAL = {
    "CZ": "Praha", "AT": "Wien", "PT": "Lisboa", "DK": "København", "PL": "Warszawa", "RO": "București|Bucureşti",
    "RS": "Beograd", "BE": "Bruxelles|Antwerpen|Gent|Brugge|Liège", "CH": "Genève|Zürich|Luzern",
    "IT": "Roma|Firenze|Venezia|Napoli|Milano|Torino|Genova|Padova|Siracusa", "SE": "Göteborg", "NL": "Den Haag",
    "DE": "München|Nürnberg|Köln|Hannover", "MX": "Ciudad de México", "CU": "La Habana", "ES": "Sevilla",
    "HR": "Dubrovnik", "TR": "İstanbul", "VN": "Hà Nội", "PA": "Ciudad de Panamá", "GT": "Ciudad de Guatemala",
}

USUAL_AT_HOME = {"RU", "EG", "SA", "AE", "MA", "DZ", "TN", "LY", "SD", "JO", "LB", "SY", "IQ", "KW", "OM", "QA", "YE"}


def pairs(name):
    padded = f"^{name.lower()}$"
    return {padded[i : i + 2] for i in range(len(padded) - 1)}


def alike(a, b):
    """From 0, no pair of letters in common, to 1."""
    return 2 * len(a & b) / (len(a) + len(b))


def ranked(names, country, kind, native, nearby):
    """Names of one place in one script, the most usual first: where the script is at home the one that other names
    are made with, elsewhere the one that most resembles the others in the usual letters of the script."""
    bags = {name: pairs(name) for name in names}
    usual_letters = USUAL if not native or country in USUAL_AT_HOME else {}

    def score(name):
        usual = sum(alike(bags[name], bag) for bag in bags.values()) / len(bags)
        known = nearby.of(country, name)
        usual += known if native else 0.1 * min(5, known)
        if kind in usual_letters and any(c.isalpha() and c not in usual_letters[kind] for c in name.lower()):
            usual -= 1000
        return round(usual, 6)

    return sorted(names, key=lambda name: (-score(name), name))


def expand(name):
    for plain, long in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("å", "aa"), ("ø", "oe"), ("õ", "oe"), ("ő", "oe")):
        name = name.lower().replace(plain, long)
    return key(name)


def presentable(name):
    """A Latin name that may be shown: written like a name, not like a code or a transliteration."""
    first = name[0]
    if not first.isupper() or len(name) < 3 or len(name) > 32 or OFFICIAL.match(name):
        return False
    if name.isupper() or any(c.isupper() and p.islower() for p, c in zip(name, name[1:])):
        return False
    # The soft sign of Cyrillic transliteration ("Vel'ja"); "L'Aquila" is no such thing.
    return not re.search(r"\w\w['’ʻʼ`]|['’ʻʼ`]$|[,.]", name) and "’" not in name


def shown_names(place, languages, nearby, most):
    """Up to `most` other names, most telling first: as written there, then in other scripts, then other tongues."""
    country, own = place["countrycode"], key(place["name"])
    by_script = collections.defaultdict(list)
    seen = {own}
    aliases = sorted(set(place["alternatenames"]))
    expanded = {expand(a) for a in aliases + [place["name"]] if expand(a) != key(a)}
    # With accents before without, so that the plain copy of a name is the one dropped.
    for alias in sorted(aliases, key=lambda a: (a.isascii(), a)):
        kind = script(alias)
        folded = key(alias)
        if not kind or not folded or folded in seen or len(alias.encode()) > 60:
            continue
        if kind == "LATIN":
            if not presentable(alias) or (own in folded and len(own) > 2) or (alias.isascii() and folded in expanded):
                continue
        elif "," in alias or "،" in alias or len(alias) < 2:
            continue
        seen.add(folded)
        by_script[kind].append(alias)
    native = []
    for language in languages.split(",")[:3]:
        kind = SCRIPT_OF_LANGUAGE.get(language.split("-")[0])
        if kind and kind not in native:
            native.append(kind)
    out = []

    def take(kind, count):
        for alias in ranked(by_script.get(kind, []), country, kind, kind in native, nearby):
            if count and alias not in out:
                out.append(alias)
                count -= 1

    for kind in native:
        take(kind, 1)
    # The name in the language of the land, where GeoNames leads with the English one: München, Praha.
    latin = by_script.get("LATIN", [])
    local = max(((nearby.of(country, alias), alias) for alias in latin), default=(0, ""))
    preferred = [a for a in LOCAL.get(country, "").split("|") if a in latin]
    if preferred:
        out.append(preferred[0])
    elif not languages.startswith("en") and local[0] > max(2, nearby.of(country, place["name"]) / 3):
        out.append(local[1])
    for kind in ABROAD[:5]:
        take(kind, 1 if kind not in native else 0)
    # A name that is no mere variant: New Amsterdam, Yerba Buena. Two words, since a single one is most often the
    # sound of the name in a tongue of few speakers.
    other = min(((round(alike(pairs(alias), pairs(place["name"])), 6), alias)
                 for alias in latin if " " in alias and not re.search(r"-\w", alias)), default=(1, ""))
    if other[0] < 0.4 and other[1] not in out:
        out.append(other[1])
    for kind in ABROAD[5:]:
        take(kind, 1 if kind not in native else 0)
    return out[:most]
