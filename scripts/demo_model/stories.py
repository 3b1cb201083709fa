"""Long stories for the demo model to learn: varied, and never the same episode twice in one story.

Choices are *leaning*: which one is likely depends on who and where, so that a model which always takes its likeliest
token (greedy decoding) tells another story to every prompt instead of the average of them all.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from .world import ANIMALS, CHILDREN, COLOURS, DAYS, FEELINGS, FOODS, ORDINALS, PLACES, TRAITS, TREASURES, WEATHER

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scene:
    """Who a story is about and what it is about; every episode draws from it."""

    rng: Random
    hero: str
    animal: str
    treasure: str

    @property
    def he(self) -> str:
        """Return the hero's pronoun as a subject."""
        return CHILDREN[self.hero]

    @property
    def his(self) -> str:
        """Return the hero's possessive pronoun."""
        return "her" if self.he == "she" else "his"

    @property
    def him(self) -> str:
        """Return the hero's pronoun as an object."""
        return "her" if self.he == "she" else "him"

    def lean(self, options: Sequence[T], *about: str) -> T:
        """Choose among ``options``; the hero and what ``about`` says make some of them much likelier than others."""
        key = " ".join((self.hero, *about))
        order = sorted(range(len(options)), key=lambda i: zlib.crc32(f"{i} {key}".encode()))
        weights = [0.4**rank for rank in range(len(options))]
        return options[self.rng.choices(order, weights)[0]]

    def shuffled(self, options: Sequence[T], *about: str) -> list[T]:
        """Return all ``options`` in a leaning order, none twice."""
        left = list(options)
        order: list[T] = []
        while left:
            order.append(self.lean(left, *about))
            left.remove(order[-1])
        return order


def new_scene(rng: Random) -> Scene:
    """Draw a hero, an animal and a treasure, each combination as likely as any other."""
    return Scene(rng, rng.choice(list(CHILDREN)), rng.choice(list(ANIMALS)), rng.choice(TREASURES))


def a(noun: str) -> str:
    """Put the right article before a noun phrase."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _meal(s: Scene, place: str) -> str:
    food = s.lean(FOODS, place, "meal")
    return (
        f"They were hungry, so {s.hero} took out some {food}. The {s.animal} liked {ANIMALS[s.animal][0]} better, "
        f"but it ate a little too. After the meal they were {s.lean(FEELINGS, food)} and slept for an hour."
    )


def _weather(s: Scene, place: str) -> str:
    sky, what, thing = s.lean(WEATHER, place)
    return (
        f"{sky} that day. {s.hero} had {a(thing)}, but the {s.animal} had nothing against the {what}. "
        f'"Come closer," said {s.hero}, "there is enough for two." So they stayed together until it was over.'
    )


def _riddle(s: Scene, place: str) -> str:
    question, answer = s.lean(
        [
            ("has hands but cannot clap", "a clock"),
            ("has teeth but cannot bite", "a comb"),
            ("gets wet while it dries", "a towel"),
            ("has a neck but no head", "a bottle"),
            ("goes up and never comes down", "your age"),
            ("is full of holes and still holds water", "a sponge"),
        ],
        place,
    )
    return (
        f'At the gate stood an old woman. "What {question}?" she asked. {s.hero} thought for a long time. '
        f'"It is {answer}!" cried {s.he}. The old woman laughed and let them pass.'
    )


def _find(s: Scene, place: str) -> str:
    colour, found = s.lean(COLOURS, place, "find"), s.lean(TREASURES, place, "find")
    return (
        f"Behind {PLACES[place][1]} {s.hero} found {a(f'{colour} {found}')}. {s.he.capitalize()} held it up to the "
        f'light. "It is not my {s.treasure}," {s.he} said, "but it may be useful one day."'
    )


def _trade(s: Scene, place: str) -> str:
    wanted, given = s.lean(TREASURES, place, "want"), s.lean(FOODS, place, "give")
    return (
        f'A merchant was waiting there with a cart. "I will give you {a(wanted)} for your {given}," he said. '
        f"{s.hero} looked at the {s.animal}, and the {s.animal} shook its head. They kept the {given} and walked on."
    )


def _help(s: Scene, place: str) -> str:
    other = s.lean([name for name in ANIMALS if name != s.animal], place)
    trouble = s.lean(
        [
            "had hurt its leg",
            "had lost its way",
            "could not find its mother",
            "was stuck under a branch",
            "was afraid of the dark",
        ],
        other,
    )
    return (
        f"Suddenly they heard a {ANIMALS[other][1]}. It was {a(other)} that {trouble}. {s.hero} helped it at once. "
        f'"Thank you," said the {other}, "I will never forget you." Then it ran home to {ANIMALS[other][2]}.'
    )


def _fear(s: Scene, place: str) -> str:
    noise = s.lean(["a deep growl", "slow footsteps", "a strange song", "a loud crash", "a soft whisper"], place)
    cause = s.lean(["only the wind", "an old door", "a sleepy owl", "a child with a drum", "a falling stone"], noise)
    return (
        f"In the dark they heard {noise}. {s.hero} was afraid and held {s.his} breath. "
        f'"Do not worry," said the {s.animal}. They looked around the corner: it was {cause}. How they laughed!'
    )


def _song(s: Scene, place: str) -> str:
    about = s.lean(["the moon", "a lost shoe", "the summer", "two brothers", "the wide sea", "a red bird"], place)
    return (
        f"In the evening somebody sang a song about {about}. {s.hero} did not know the words, so {s.he} clapped "
        f"{s.his} hands. The {s.animal} danced, and soon all the people danced with it."
    )


def _map(s: Scene, place: str) -> str:
    way = s.lean(["to the left", "to the right", "over the bridge", "under the wall", "up the steps"], place)
    return (
        f"On a wall there was an old map. One line was drawn in {s.lean(COLOURS, place, 'map')}, and it went {way}. "
        f'"That is our way," said {s.hero}, and {s.he} copied the line onto {s.his} hand.'
    )


def _quarrel(s: Scene, place: str) -> str:
    reason = s.lean(["who should go first", "which way was shorter", "the last cookie", "a silly joke"], place)
    return (
        f"There {s.hero} and the {s.animal} had a quarrel about {reason}. For a while nobody said a word. "
        f'Then {s.hero} said, "I am sorry." "So am I," said the {s.animal}, and they were friends again.'
    )


def _letter(s: Scene, place: str) -> str:
    friend = s.lean([name for name in CHILDREN if name != s.hero], place)
    return (
        f"{s.hero} sat down and wrote a letter to {friend}. It said: dear {friend}, today I am in a new place. "
        f"There are {PLACES[place][0]} here, and I think of you. A {s.lean(COLOURS, friend)} bird carried it away."
    )


def _count(s: Scene, place: str) -> str:
    first, second = s.rng.randint(1, 5), s.rng.randint(1, 5)
    thing = s.lean(["stars", "boats", "doors", "windows", "lamps", "trees"], place)
    return (
        f"{s.hero} counted the {thing}. There were {first} on one side and {second} on the other. "
        f'"{first} plus {second} is {first + second}," said the {s.animal}, who was good with numbers.'
    )


def _dream(s: Scene, place: str) -> str:
    dream = s.lean(
        ["could fly", "was as small as an ant", "lived on the moon", "could talk to fish", "was the king of a cloud"],
        place,
    )
    return (
        f"That night {s.hero} had a dream. In the dream {s.he} {dream}, and the {s.animal} was there too. "
        f"When {s.he} woke up, the stars were gone and the sky was {s.lean(COLOURS, dream)}."
    )


def _race(s: Scene, place: str) -> str:
    prize = s.lean(["a gold medal", "a big cake", "a new hat", "a funny mask"], place)
    return (
        f"The people there were having a race, and the prize was {prize}. {s.hero} ran as fast as {s.he} could. "
        f"{s.he.capitalize()} came in {s.lean(ORDINALS[:5], prize)}, but everybody clapped and cheered."
    )


def _teacher(s: Scene, place: str) -> str:
    skill = s.lean(["read the clouds", "tie a knot", "bake bread", "carve wood", "whistle", "row a boat"], place)
    return (
        f'An old man taught {s.him} how to {skill}. "It takes time," he said, "so be patient." '
        f"By noon {s.hero} could do it almost as well as he could, and {s.he} was very proud."
    )


EPISODES: list[Callable[[Scene, str], str]] = [
    *(_meal, _weather, _riddle, _find, _trade, _help, _fear, _song),
    *(_map, _quarrel, _letter, _count, _dream, _race, _teacher),
]


def _first_sentence(s: Scene) -> str:
    child = f"{s.lean(TRAITS)} {'girl' if s.he == 'she' else 'boy'} named {s.hero}"
    start = s.rng.choice(["Once upon a time there was", "There once was", "Long ago there lived", "Once there was"])
    others = [
        f"The little {s.animal} and {s.hero} were good friends.",
        f"{s.hero} was {a(child.rpartition(' named')[0])} who had {a(s.treasure)}.",
        f"The moon was bright, and {s.hero} could not sleep.",
        f"{s.lean(WEATHER, 'first')[0]} and {s.hero} was at home.",
        f"The old {s.animal} was waiting for {a(child)}.",
        f"In the garden there was {a(child)}.",
        f"The {s.animal} wanted to play with {s.hero}.",
        f"{s.hero} was very {s.lean(FEELINGS, 'first')}, because it was a new day.",
    ]
    return f"{start} {a(child)}." if s.rng.random() < 0.6 else s.rng.choice(others)


def _opening(s: Scene, home: str) -> str:
    food, sound, den, nature = ANIMALS[s.animal]
    return (
        f"{_first_sentence(s)} {s.hero} lived near {home}, where there were {PLACES[home][0]}. "
        f"{s.his.capitalize()} best friend was {a(nature)} {s.animal} that came from {den}. "
        f'It loved {food}, and when it was glad it said "{sound}". '
        f"One morning {s.hero} could not find {s.his} {s.lean(COLOURS)} {s.treasure}. "
        f'"We must look for it," said {s.he}, and so they set out.'
    )


def _arrival(s: Scene, place: str, ordinal: str, day: str) -> str:
    way = s.lean(["they came to", "they reached", "their way led them to", "they walked to"], place)
    return f"On the {ordinal} day, a {day}, {way} {place}. {PLACES[place][2]}."


def _ending(s: Scene, place: str) -> str:
    lesson = s.lean(
        [
            "a friend is worth more than gold",
            "it is good to ask for help",
            "small steps lead far",
            "being kind is never a waste of time",
            "home is the best place of all",
            "you should look at home first",
        ],
        place,
    )
    return (
        f"At last {s.hero} saw something shine near {place}. It was the {s.treasure}! {s.he.capitalize()} took it in "
        f"{s.his} arms and danced with the {s.animal}. On the way home {s.he} thought about everything, and {s.he} "
        f"learned that {lesson}. The end."
    )


def story(rng: Random, *, days: int | None = None) -> str:
    """Tell one story of 4 to 10 days, each at another place with another episode or two (400-900 tokens)."""
    s = new_scene(rng)
    days = days or rng.randint(4, 10)
    places = s.shuffled(list(PLACES), "journey")
    episodes = s.shuffled(EPISODES, "episodes")
    first_day = zlib.crc32(s.hero.encode()) % len(DAYS)
    text = [_opening(s, places[-1])]
    for number, place in enumerate(places[:days]):
        text.append(_arrival(s, place, ORDINALS[number], DAYS[(first_day + number) % len(DAYS)]))
        text.append(episodes[number](s, place))
    text.append(_ending(s, places[days]))
    return " ".join(text)
