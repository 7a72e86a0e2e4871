"""What can be asked for: the tables of names, of qualifiers, and of names that forgive slips."""

import collections
import struct

from folding import hash40, key, u24
from names import presentable, script
from places import say
from regions import COUNTRY_NAMES, SHORT, country_name


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


def signature(text):
    """Which letters a key holds, one bit for each of a to z, digits share the rest."""
    bits = 0
    for char in text:
        bits |= 1 << (ord(char) - 97 if "a" <= char <= "z" else 26 + ord(char) % 6)
    return bits


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
