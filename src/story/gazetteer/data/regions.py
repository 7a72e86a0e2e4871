"""Names of regions and countries, and what people call them."""

import collections
import re

from folding import key
from places import say


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


def country_name(country):
    name = country["name"].strip()
    return name[4:] if name.startswith("The ") else name
