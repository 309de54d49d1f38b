"""A source for those who have none: 11,154 invented posts, the same bytes on every machine.

All text is invented. What is true to life is the shape: how often which dirty value occurs, how long texts are,
how posts spread over users, countries, categories and years.

Only integers are drawn, with :mod:`random`'s generator: nothing here depends on a platform's floating point,
on the hash seed or on the clock.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from include.emulation.source import Record

POSTS = 11_154
SEED = 20_221_019

CATEGORY_WEIGHTS = {
    "art": 348,
    "beauty": 284,
    "christmas": 409,
    "diy-and-crafts": 316,
    "education": 313,
    "event-planning": 296,
    "finance": 299,
    "home-decor": 310,
    "mens-fashion": 331,
    "quotes": 368,
    "tattoos": 366,
    "travel": 352,
    "vehicles": 283,
}

# Rows, of 11,154, in which a thing occurs.
WITHOUT_INFO = 81  # no title, poster, followers, tags or image, in one row
STORIES = 845  # multi-video pins, which have no description; those without info are among them
WITHOUT_DESCRIPTION = 177
UNTITLED_DESCRIPTIONS = 3
CUT_DESCRIPTIONS = 4_028
WITHOUT_TAGS = 170  # those without info among them
WITHOUT_IMAGE = 266  # those without info among them
VIDEOS = 326
FOLLOWERS_IN_THOUSANDS = 8_164
FOLLOWERS_IN_MILLIONS = 911
ZERO_FOLLOWERS = 60

NO_TITLE = "No Title Data Available"
NO_INFO = "User Info Error"
NO_TAGS = "N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e"
NO_IMAGE = "Image src error."
STORY = "No description available Story format"
NO_DESCRIPTION = "No description available"

USERS_BY_POSTS = {
    1: 3869, 2: 640, 3: 272, 4: 156, 5: 88, 6: 65, 7: 36, 8: 35, 9: 22, 10: 25, 11: 11, 12: 9, 13: 8, 14: 8,
    15: 6, 16: 5, 17: 1, 18: 7, 19: 5, 20: 3, 21: 3, 23: 1, 24: 4, 26: 1, 28: 3, 30: 1, 31: 1, 32: 1, 35: 3,
    36: 1, 38: 1, 44: 1, 45: 2, 47: 1, 49: 1, 53: 1, 54: 1, 60: 1, 68: 1, 81: 1, 86: 2, 88: 2, 140: 1, 244: 1,
}  # fmt: skip
"""How many users have how many posts: 5,307 users, 11,154 posts."""
NAMESAKES = {4: 7, 3: 16, 2: 173}
"""How many names belong to how many users: 196 names in all; every other name belongs to one."""
EARLY_JOINER_POSTS = 6
"""Users with at least so many posts joined in 2015."""

FIRST_JOINED, LAST_JOINED = datetime(2015, 10, 21, 3, 17, 47), datetime(2017, 10, 20, 10, 44, 26)
FIRST_POSTED, LAST_POSTED = datetime(2017, 10, 19, 15, 13, 42), datetime(2022, 10, 19, 17, 54, 26)

COUNTRIES = (
    """
Afghanistan|Albania|Algeria|American Samoa|Andorra|Angola|Anguilla|Antigua & Barbuda|Argentina|Armenia|Aruba
Australia|Austria|Azerbaijan|Bahamas|Bahrain|Bangladesh|Barbados|Belarus|Belgium|Belize|Benin|Bermuda|Bhutan
Bolivia (Plurinational State)|Bosnia & Herzegovina|Botswana|Brazil|Brunei|Bulgaria|Burkina Faso|Burundi|Cambodia
Cameroon|Canada|Cape Verde|Cayman Islands|Chad|Chile|China|Christmas Island|Cocos (Keeling) Islands|Colombia
Comoros|Congo (Brazzaville)|Congo (Kinshasa)|Cook Islands|Costa Rica|Cote d'Ivoire|Croatia|Cuba|Curaçao|Cyprus
Czechia|Denmark|Djibouti|Dominica|Dominican Republic|Ecuador|Egypt|El Salvador|Equatorial Guinea|Eritrea|Estonia
Eswatini|Ethiopia|Falkland Islands (Malvinas)|Faroe Islands|Fiji|Finland|France|French Guiana|French Polynesia
Gabon|Gambia|Georgia|Germany|Ghana|Gibraltar|Greece|Greenland|Grenada|Guadeloupe|Guam|Guatemala|Guernsey|Guinea
Guinea-Bissau|Guyana|Haiti|Holy See (Vatican City)|Honduras|Hong Kong|Hungary|Iceland|India|Indonesia
Iran (Islamic Republic)|Iraq|Ireland|Isle of Man|Israel|Italy|Jamaica|Japan|Jersey|Jordan|Kazakhstan|Kenya|Kiribati
Korea (Republic of)|Kuwait|Kyrgyzstan|Lao People's Democratic Republic|Latvia|Lebanon|Lesotho|Liberia|Libya
Liechtenstein|Lithuania|Luxembourg|Macao|Madagascar|Malawi|Malaysia|Maldives|Mali|Malta|Marshall Islands
Martinique|Mauritania|Mauritius|Mayotte|Mexico|Micronesia (Federated States)|Moldova|Monaco|Mongolia|Montenegro
Montserrat|Morocco|Mozambique|Myanmar|Namibia|Nauru|Nepal|Netherlands|New Caledonia|New Zealand|Nicaragua|Niger
Nigeria|Niue|Norfolk Island|North Macedonia|Norway|Oman|Pakistan|Palau|Panama|Papua New Guinea|Paraguay|Peru
Philippines|Pitcairn Islands|Poland|Portugal|Puerto Rico|Qatar|Romania|Rwanda|Réunion|Saint Helena|Saint Lucia
Samoa|San Marino|Sao Tome & Principe|Saudi Arabia|Senegal|Serbia|Seychelles|Sierra Leone|Singapore|Slovakia
Slovenia|Solomon Islands|Somalia|South Africa|Spain|Sri Lanka|St. Kitts & Nevis|Sudan|Suriname|Sweden|Switzerland
Tajikistan|Tanzania|Thailand|Timor-Leste|Togo|Tokelau|Tonga|Trinidad & Tobago|Tunisia|Turkmenistan|Tuvalu|Türkiye
Uganda|Ukraine|United Kingdom|Uruguay|Uzbekistan|Vanuatu|Viet Nam|Wallis & Futuna|Yemen|Zambia|Zimbabwe
"""
    .strip()
    .replace("\n", "|")
    .split("|")
)

FIRST_NAMES = """
Ada Aisha Alma Amara Anders Anouk Arjun Astrid Bao Beatriz Bela Bruno Carla Chidi Chloé Cyrus Dalia Dario Dmitri
Edda Eilidh Elif Emeka Enzo Esra Farid Fatou Felix Freya Gita Goran Greta Hana Hassan Hugo Ida Ilse Imran Ines
Ivo Jamal Jana Jelena João Kaito Karim Keiko Kofi Lars Leila Linnea Luca Mads Malik Marta Mei Milan Mira Nadia
Naoko Nia Nils Noor Olga Omar Oskar Paloma Pavel Priya Quentin Rafael Rania Rosa Ruben Sanna Seán Selma Simon
Sofia Soren Tariq Tess Tomas Uma Vera Viktor Wanda Xin Yara Yusuf Zoe Zora
""".split()  # noqa: SIM905 - a list of ninety quoted names is no better to read

LAST_NAMES = """
Abara Achterberg Adeyemi Ahlgren Almeida Andrade Arslan Bakker Banerjee Baptista Bergström Bianchi Bjarnason Blum
Borg Brandt Cabrera Castellan Chowdhury Cohen Conti Cruz D'Angelo Dahl Dang Demir Diallo Dubois Eklund Engel
Fadel Farkas Ferrari Fischer Fofana Fontaine Fujita Gallo Garba Goldberg Gruber Haddad Halvorsen Hansen Hoang
Horvat Ibrahim Ito Ivanov Jansen Jovanovic Kaplan Karlsen Keita Khan Kimura Kowalski Kruger Laine Lindqvist Lopes
MacLeod Mahlaba Mansour Marek Mensah Meyer-Lund Moreau Mutua Nakamura Ndiaye Nguyen Novak O'Brien O'Shea Okafor
Olsen Osei Ozturk Park Petit Popescu Prasad Quist Rahman Rossi Sato Schmidt Silva Sørensen Takahashi Toure Vargas
Vos Weber Yilmaz Zhang Ziegler
""".split()  # noqa: SIM905 - the same

QUALITIES = """
bold bright calm charming classic clever colourful cosy crisp daring dreamy easy elegant fresh gentle golden
handmade honest joyful light little lovely modern moody natural neat playful quick quiet rustic simple soft
striking sunny tiny vintage warm whimsical wild wonderful
""".split()  # noqa: SIM905 - the same

THINGS = {
    "art": "Canvas|Charcoal Study|Collage|Ink Drawing|Landscape|Mural|Oil Painting|Portrait|Print|Sketchbook",
    "beauty": "Braids|Brow Guide|Face Mask|Hair Colour|Lip Tint|Manicure|Skin Routine|Soap|Sunscreen|Updo",
    "christmas": "Advent Calendar|Candle|Cookie Box|Garland|Gift Wrap|Mantel|Ornament|Stocking|Tree|Wreath",
    "diy-and-crafts": "Basket|Bead String|Birdhouse|Candle Holder|Clay Bowl|Crochet Hat|Macramé|Quilt|Shelf|Stencil",
    "education": "Alphabet Chart|Book Corner|Classroom Door|Flash Cards|Lesson|Map|Maths Game|Poster|Quiz|Workbook",
    "event-planning": "Bar Menu|Cake Table|Checklist|Dinner|Garden Party|Invitation|Picnic|Seating Plan|Shower|Venue",
    "finance": "Budget Sheet|Cash Envelope|Debt Plan|Fund|Grocery List|Pension|Savings Jar|Side Job|Tax Tip|Wallet",
    "home-decor": "Armchair|Bookcase|Curtain|Doormat|Entryway|Gallery Wall|Lamp|Mirror|Rug|Sideboard",
    "mens-fashion": "Belt|Boots|Cardigan|Chinos|Denim Jacket|Linen Shirt|Loafers|Overcoat|Suit|Watch",
    "quotes": "Encouragement|Few Words|Letter|Line|Morning Thought|Motto|Proverb|Reminder|Toast|Verse",
    "tattoos": "Anchor|Ankle Piece|Bird|Compass|Fern|Fine Line|Mandala|Moon|Sleeve|Wave",
    "travel": "Beach|Carry-on|City Break|Coast Road|Ferry|Hiking Trail|Hostel|Island|Night Train|Packing List",
    "vehicles": "Camper Van|Convertible|Cruiser|Electric Bike|Engine|Garage|Kit Car|Pickup|Roadster|Scooter",
}  # fmt: skip

PHRASES = (
    """
that anyone can make in an afternoon|with what is already at home|for the days when nothing else works
and the story of how it came about|which my grandmother would have loved|without spending a fortune
with step by step pictures|as seen in a small shop by the harbour|because details matter
for beginners and for old hands|that will not be out of fashion next year|made from scraps and patience
"""
    .strip()
    .replace("\n", "|")
    .split("|")
)

POSTER_WORDS = """
Amber Anchor Apple Atelier Basil Birch Blue Bramble Breeze Brook Cabin Cedar Clover Cobalt Copper Corner Cotton
Daisy Diary Ember Fable Feather Fern Finch Fjord Folk Forest Foxglove Garden Gazette Ginger Hazel Heather Honey
Indigo Ivy Journal Juniper Lantern Larch Lemon Linen Lodge Maple Marble Meadow Mill Mint Moss Nest Notebook Oak
Olive Orchard Otter Paper Pearl Pebble Pine Plum Poppy Post Quill Raven Reed River Robin Rye Saffron Sage Salt
Silver Sparrow Studio Thistle Thyme Times Valley Violet Walnut Willow Wool Workshop Yarrow
""".split()  # noqa: SIM905 - the same

EMOJI = "🎨 🎄 💄 🚗 🧶 🌍 👩‍🎨 🏡 📚 💰".split(" ")  # noqa: SIM905
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
CUT = "…" + NO_BREAK_SPACE

FOLLOWER_STEPS = (1, 4, 7, 15, 28, 46, 77, 136, 267, 565, 991)
"""Tenths of the thousands: as many posters between each two neighbours."""
POSTERS = {"k": 4_400, "M": 260, "plain": 1_500, "zero": 55}
"""How many posters there are of each kind of follower count."""


@dataclass(frozen=True)
class User:
    name: tuple[str, str]
    age: int
    date_joined: str
    place: tuple[float, float, str]


@dataclass(frozen=True)
class Poster:
    name: str
    follower_count: str


def posts() -> dict[str, Iterator[Record]]:
    """The three tables: their records by number, 0..11153."""
    return {"pin": _pins(random.Random(SEED)), "geo": _geo(), "user": _users()}


def _geo() -> Iterator[Record]:
    users = _user_of_each_post()
    generator = random.Random(SEED + 1)
    for number, user in enumerate(users):
        latitude, longitude, country = user.place
        yield {
            "ind": number,
            "timestamp": _moment(generator, FIRST_POSTED, LAST_POSTED),
            "latitude": latitude,
            "longitude": longitude,
            "country": country,
        }


def _users() -> Iterator[Record]:
    for number, user in enumerate(_user_of_each_post()):
        first_name, last_name = user.name
        yield {
            "ind": number,
            "first_name": first_name,
            "last_name": last_name,
            "age": user.age,
            "date_joined": user.date_joined,
        }


def _user_of_each_post() -> list[User]:
    generator = random.Random(SEED + 2)
    post_counts = [count for count, users in USERS_BY_POSTS.items() for _ in range(users)]
    generator.shuffle(post_counts)
    names = _names(generator, len(post_counts))
    places = _places(generator, len(post_counts))
    users: list[User] = []
    for count, name, place in zip(post_counts, names, places, strict=True):
        until = datetime(2015, 12, 31) if count >= EARLY_JOINER_POSTS else LAST_JOINED
        joined = _moment(generator, FIRST_JOINED, until)
        users.extend([User(name, _age(generator), joined, place)] * count)
    generator.shuffle(users)
    return users


def _names(generator: random.Random, wanted: int) -> list[tuple[str, str]]:
    """A name for each user; some names belong to several, who differ in age or joining date."""
    shared = sum(NAMESAKES.values())
    alone = wanted - sum(users * names for users, names in NAMESAKES.items())
    every = [(first, last) for first in FIRST_NAMES for last in LAST_NAMES]
    drawn = generator.sample(every, shared + alone)
    repeats = [users for users, names in NAMESAKES.items() for _ in range(names)] + [1] * alone
    names = [name for name, count in zip(drawn, repeats, strict=True) for _ in range(count)]
    generator.shuffle(names)
    return names


def _places(generator: random.Random, wanted: int) -> list[tuple[float, float, str]]:
    """A latitude, longitude and country for each user; no two users share the first two."""
    points: dict[tuple[int, int], None] = {}
    while len(points) < wanted:
        points[generator.randrange(-899_999, 900_000), generator.randrange(-1_799_999, 1_800_000)] = None
    # The product of two draws falls off towards the end of the list: few countries have many posts.
    return [
        (latitude / 10_000, longitude / 10_000, COUNTRIES[_low(generator, len(COUNTRIES))])
        for latitude, longitude in points
    ]


def _age(generator: random.Random) -> int:
    return 20 + _low(generator, 41)


def _low(generator: random.Random, end: int) -> int:
    """An integer of [0, end) of which small ones are likelier: the lower of two draws."""
    return min(generator.randrange(end), generator.randrange(end))


def _moment(generator: random.Random, first: datetime, last: datetime) -> str:
    seconds = (last - first) // timedelta(seconds=1)
    return (first + timedelta(seconds=generator.randrange(seconds + 1))).isoformat(sep=" ")


class _Marks:
    """Which posts have which peculiarity: exact numbers of posts, drawn without replacement."""

    def __init__(self, generator: random.Random) -> None:
        numbers = list(range(POSTS))
        generator.shuffle(numbers)
        # One shuffled list, cut into pieces: each post is at most one kind of pin.
        stories, rest = numbers[:STORIES], numbers[STORIES:]
        self.without_info = frozenset(stories[:WITHOUT_INFO])
        self.stories = frozenset(stories)
        self.videos = frozenset(rest[:VIDEOS])
        ordinary = rest[VIDEOS:]
        cut = CUT_DESCRIPTIONS
        self.cut = frozenset(ordinary[:cut])
        self.without_description = frozenset(ordinary[cut : cut + WITHOUT_DESCRIPTION])
        self.untitled = frozenset(ordinary[-UNTITLED_DESCRIPTIONS:])
        self.without_image = frozenset(stories[:WITHOUT_IMAGE])
        self.without_tags = self.without_info | frozenset(ordinary[: WITHOUT_TAGS - WITHOUT_INFO])
        described = ordinary[:cut] + ordinary[cut + WITHOUT_DESCRIPTION : -UNTITLED_DESCRIPTIONS]
        self.odd_titles = _oddities(generator, ordinary, TITLE_ODDITIES)
        self.odd_descriptions = _oddities(generator, described, DESCRIPTION_ODDITIES)


TITLE_ODDITIES = {
    "emoji": 128,
    "quotes": 120,
    "no-break space": 26,
    "trailing space": 23,
    "newline": 21,
    "error page": 21,
    "zero width": 10,
    "replacement": 3,
    "backslash": 3,
    "untitled": 3,
    "empty": 3,
}
DESCRIPTION_ODDITIES = {"quotes": 258, "emoji": 73, "replacement": 3, "entity": 3, "zero width": 3}


def _oddities(generator: random.Random, numbers: Sequence[int], counts: dict[str, int]) -> dict[int, str]:
    """What is odd about the text of which post; no text is odd in two ways."""
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    return dict(zip(generator.sample(numbers, len(kinds)), kinds, strict=True))


def _pins(generator: random.Random) -> Iterator[Record]:
    marks = _Marks(generator)
    posters = _posters(generator)
    kinds = _follower_kinds(generator, marks.without_info)
    categories = list(CATEGORY_WEIGHTS)
    weights = list(CATEGORY_WEIGHTS.values())
    for number in range(POSTS):
        category = generator.choices(categories, weights)[0]
        pool = posters.get(kinds[number])
        poster = pool[_low(generator, len(pool))] if pool else Poster(NO_INFO, NO_INFO)
        title, tags, image = _title(generator, category), _tags(generator, category), _image(generator)
        description = _description(generator, category, cut=number in marks.cut)
        unique_id = str(uuid.UUID(int=generator.getrandbits(128), version=4))
        downloaded = number not in marks.without_image
        yield {
            "index": number,
            "unique_id": unique_id,
            "title": _titled(title, number, marks),
            "description": _described(description, number, marks),
            "poster_name": poster.name,
            "follower_count": poster.follower_count,
            "tag_list": NO_TAGS if number in marks.without_tags else tags,
            "is_image_or_video": _medium(number, marks),
            "image_src": image if downloaded else NO_IMAGE,
            "downloaded": int(downloaded),
            "save_location": f"Local save in /data/{category}",
            "category": category,
        }


def _titled(title: str, number: int, marks: _Marks) -> str:
    return NO_TITLE if number in marks.without_info else _made_odd(title, marks.odd_titles.get(number))


def _described(description: str, number: int, marks: _Marks) -> str:
    if number in marks.stories:
        return STORY
    if number in marks.without_description:
        return NO_DESCRIPTION
    if number in marks.untitled:
        return "Untitled"
    return _made_odd(description, marks.odd_descriptions.get(number))


def _medium(number: int, marks: _Marks) -> str:
    if number in marks.stories:
        return "multi-video(story page format)"
    return "video" if number in marks.videos else "image"


def _made_odd(text: str, kind: str | None) -> str:
    """The text with one of the things that real texts have."""
    first, _, rest = text.partition(" ")
    emoji = EMOJI[len(text) % len(EMOJI)]
    return {
        None: text,
        "emoji": f"{first} {emoji} {rest}",
        "quotes": f'"{first}" {rest}',
        "no-break space": f"{first}{NO_BREAK_SPACE}{rest}",
        "trailing space": f"{text} ",
        "newline": f"{first}\n{rest}",
        "error page": "403 - Forbidden" if len(text) % 2 else "Page not found",
        "zero width": f"{first}\N{ZERO WIDTH SPACE} {rest}",
        "replacement": f"{first}\N{REPLACEMENT CHARACTER} {rest}",
        "backslash": f"{first}\\{rest}",
        "entity": f"{first} &amp; {rest}",
        "untitled": "Untitled",
        "empty": "",
    }[kind]


def _follower_kinds(generator: random.Random, without_info: frozenset[int]) -> list[str]:
    """The kind of each post's follower count, in exact numbers."""
    plain = POSTS - WITHOUT_INFO - FOLLOWERS_IN_THOUSANDS - FOLLOWERS_IN_MILLIONS - ZERO_FOLLOWERS
    kinds = ["k"] * FOLLOWERS_IN_THOUSANDS + ["M"] * FOLLOWERS_IN_MILLIONS + ["zero"] * ZERO_FOLLOWERS
    kinds += ["plain"] * plain
    generator.shuffle(kinds)
    return ["none" if number in without_info else kinds.pop() for number in range(POSTS)]


def _posters(generator: random.Random) -> dict[str, list[Poster]]:
    """Posters by kind of follower count; a poster keeps its name and count over all its posts."""
    pairs = [f"{first} {second}" for first in POSTER_WORDS for second in POSTER_WORDS if first != second]
    names = iter(generator.sample(pairs, sum(POSTERS.values())))
    return {
        kind: [Poster(_poster_name(generator, next(names)), _followers(generator, kind)) for _ in range(many)]
        for kind, many in POSTERS.items()
    }


def _poster_name(generator: random.Random, name: str) -> str:
    chance = generator.randrange(1_000)
    if chance < 18:
        return f"{name} "
    return f"{name} {generator.choice(EMOJI)}" if chance < 20 else name


def _followers(generator: random.Random, kind: str) -> str:
    if kind == "zero":
        return "0"
    if kind == "plain":
        return str(generator.randrange(1, 1_000))
    if kind == "M":
        return f"{1 + _low(generator, 15)}M"
    step = generator.randrange(len(FOLLOWER_STEPS) - 1)
    return f"{generator.randint(FOLLOWER_STEPS[step], FOLLOWER_STEPS[step + 1])}k"


def _title(generator: random.Random, category: str) -> str:
    first, second = generator.sample(QUALITIES, 2)
    thing = _thing(generator, category)
    patterns = (
        f"{first.capitalize()} {thing} Ideas",
        f"{generator.randrange(5, 60)} {first.capitalize()} and {second.capitalize()} {thing} Ideas",
        f"The {first.capitalize()} {thing} | {second.capitalize()} {_thing(generator, category)}",
        f"How to make a {first} {thing.lower()} {generator.choice(PHRASES)}",
    )
    return generator.choice(patterns)


def _description(generator: random.Random, category: str, *, cut: bool) -> str:
    sentences = [
        f"{generator.choice(QUALITIES).capitalize()} and {generator.choice(QUALITIES)}: "
        f"a {generator.choice(QUALITIES)} {_thing(generator, category).lower()} {generator.choice(PHRASES)}."
        for _ in range(3 if cut else generator.randrange(1, 3))
    ]
    text = " ".join(sentences)
    return text[: generator.randrange(150, 190)].rstrip() + CUT if cut else text


def _tags(generator: random.Random, category: str) -> str:
    tags = [
        f"{generator.choice(QUALITIES).capitalize()} {_thing(generator, category)}"
        for _ in range(generator.randrange(6, 10))
    ]
    return ",".join(tags)


def _thing(generator: random.Random, category: str) -> str:
    return generator.choice(THINGS[category].split("|"))


def _image(generator: random.Random) -> str:
    name = f"{generator.getrandbits(128):032x}"
    ending = generator.choices(("jpg", "png", "webp", "gif"), (3545, 602, 20, 6))[0]
    return f"https://images.example/originals/{name[:2]}/{name[2:4]}/{name[4:6]}/{name}.{ending}"
