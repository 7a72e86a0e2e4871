"""Which places are kept, which are parts of others, which are capitals, and their ranks."""

import collections
import math

from folding import key


def say(*words):
    print(*words, flush=True)


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


# Where the capital of countries.json is not the name of a place there.
CAPITALS = {"PW": "Ngerulmud"}  # in Melekeok state


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
