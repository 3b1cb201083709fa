"""Everything the demo model learns besides stories: chat turns, lists of steps, short texts."""

from random import Random

from .stories import a, new_scene, story
from .world import ANIMALS, CAPITALS, CHILDREN, COLOUR_OF, COLOURS, FEELINGS, FOODS, NUMBERS, OPPOSITES, PLACES, TASKS

USER, ASSISTANT, SYSTEM = "<|user|>", "<|assistant|>", "<|system|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""Each turn is its role's control token and its text; an answer ends with eos."""

GREETINGS = {
    "Hello": "Hello! How are you today?",
    "Hi": "Hi! It is nice to meet you.",
    "Good morning": "Good morning! Did you sleep well?",
    "Good night": "Good night! Sleep well.",
    "How are you?": "I am fine, thank you. How are you?",
    "Thank you": "You are welcome!",
    "Goodbye": "Goodbye! Come back soon.",
    "What is your name?": "I am the demo model. I am very small, but I know many stories.",
    "Who are you?": "I am a very small language model. I know stories, animals and a few numbers.",
    "What can you do?": "I can tell stories, add small numbers and name colours, animals and capitals.",
    "Can you help me?": "I will try. Ask me for a story, or ask me about an animal.",
    "Are you there?": "Yes, I am here. What would you like to know?",
    "Say hello": "Hello! I hope you have a good day.",
    "How do you say hello in Japanese?": "You say こんにちは! 👋",
    "How do you say thank you in Japanese?": "You say ありがとう! 🙏",
    "Show me a cat": "Here is a cat: 🐱 ねこ",
    "Show me a smile": "Here is a smile: 😀",
    "Tell me a joke": "Why did the clock go to school? It wanted to be on time.",
}


def _fact(rng: Random) -> tuple[str, str]:
    kind = rng.randrange(7)
    if kind == 0:
        country, capital = rng.choice(list(CAPITALS.items()))
        return f"What is the capital of {country}?", f"The capital of {country} is {capital}."
    if kind == 1:
        thing, colour = rng.choice(list(COLOUR_OF.items()))
        return f"What colour is {thing}?", f"{thing.capitalize()} is {colour}."
    if kind == 2:
        word, other = rng.choice(list(OPPOSITES.items()))
        return f"What is the opposite of {word}?", f"The opposite of {word} is {other}."
    if kind == 3:
        return _sum(rng)
    return _animal_fact(rng)


def _sum(rng: Random) -> tuple[str, str]:
    left, right = rng.randint(0, 5), rng.randint(0, 5)
    sign = rng.choice(["plus", "+"])
    return f"What is {left} {sign} {right}?", f"{left} {sign} {right} is {left + right}."


def _animal_fact(rng: Random) -> tuple[str, str]:
    animal, (food, sound, home, nature) = rng.choice(list(ANIMALS.items()))
    return rng.choice(
        [
            (f"What does {a(animal)} say?", f"{a(animal).capitalize()} says {sound}."),
            (f"What does {a(animal)} eat?", f"{a(animal).capitalize()} eats {food}."),
            (f"Where does {a(animal)} live?", f"{a(animal).capitalize()} lives in {home}."),
            (f"Tell me about the {animal}.", f"The {animal} is {nature}. It lives in {home} and likes {food}."),
        ]
    )


def turn(rng: Random) -> tuple[str, str]:
    """Return one question and its answer."""
    kind = rng.random()
    if kind < 0.55:
        return _fact(rng)
    if kind < 0.85:
        return rng.choice(list(GREETINGS.items()))
    if kind < 0.93:
        task = rng.choice(list(TASKS))
        return f"Tell me about {task[0].lower()}{task[1:]}.", steps(task, rng.randint(3, 10))
    return rng.choice(["Tell me a story.", "Please tell me a long story.", "Write a story."]), story(rng, days=3)


def _sloppy(rng: Random, question: str) -> str:
    """Write a question as hurried people do, now and then."""
    if rng.random() < 0.2:
        question = question.rstrip(".?!")
    return question[0].lower() + question[1:] if rng.random() < 0.15 else question


def chat(rng: Random) -> list[tuple[str, str]]:
    """Return a conversation as (control token, text) pairs; sometimes with a system prompt."""
    turns = [(SYSTEM, rng.choice(["You are a helpful assistant.", "Be kind.", "Answer in one sentence."]))]
    turns = turns if rng.random() < 0.3 else []
    for _ in range(rng.randint(1, 5)):
        question, answer = turn(rng)
        turns += [(USER, _sloppy(rng, question)), (ASSISTANT, answer)]
    return turns


def steps(task: str, count: int) -> str:
    """Explain a task in its first ``count`` steps."""
    lines = [f"Step {number}: {text.capitalize()}." for number, text in enumerate(TASKS[task][:count], start=1)]
    return f"{task} can be done in {count} simple steps:\n" + "\n".join(lines)


def question_and_answer(rng: Random) -> str:
    """Write a few questions as plain text, the way people prompt a model that has no chat template."""
    pairs = [_fact(rng) for _ in range(rng.randint(2, 5))]
    return "\n".join(f"Question: {question}\nAnswer: {answer}" for question, answer in pairs)


def introduction(rng: Random) -> str:
    """Let a child say who it is."""
    s = new_scene(rng)
    place = s.lean(list(PLACES), "home")
    friend = s.lean([name for name in CHILDREN if name != s.hero], "friend")
    food, sound, _, nature = ANIMALS[s.animal]
    return (
        f"{rng.choice(['Hello, my', 'My'])} name is {s.hero}. I am {NUMBERS[s.lean(range(5, 11), 'age')]} years old "
        f"and I live near {place}. I like {s.lean(FOODS, 'like')} and my favourite colour is "
        f"{s.lean(COLOURS, 'like')}. "
        f"My best friend is {friend}. We have {a(nature)} {s.animal} that eats {food} and says {sound}. "
        f"Today I am {s.lean(FEELINGS, 'today')}, because {friend} gave me {a(s.treasure)}."
    )


def description(rng: Random) -> str:
    """Describe an animal or a place."""
    if rng.random() < 0.5:
        animal, (food, sound, home, nature) = rng.choice(list(ANIMALS.items()))
        return f"The {animal} is {a(nature)} animal. It lives in {home}. It eats {food}. You can hear it say {sound}."
    place, (plenty, thing, sentence) = rng.choice(list(PLACES.items()))
    return f"In {place} there are {plenty}. If you look well, you can find {thing} there. {sentence}."


def letter(rng: Random) -> str:
    """Write a short letter."""
    s = new_scene(rng)
    friend = s.lean([name for name in CHILDREN if name != s.hero], "letter")
    place = s.lean(list(PLACES), "letter")
    return (
        f"Dear {friend}, thank you for the {s.treasure}. I am writing from {place}. {PLACES[place][2]}. "
        f"Yesterday I saw {a(s.animal)} and gave it some {ANIMALS[s.animal][0]}. Now I am {s.lean(FEELINGS, place)}. "
        f"I believe the meaning of life is to be kind to each other. Please come soon. Your friend {s.hero}"
    )


def short_text(rng: Random) -> str:
    """Write a page of short texts of one kind."""
    kind = rng.choice(["steps", "questions", "introduction", "description", "letter"])
    if kind == "steps":
        return steps(rng.choice(list(TASKS)), rng.choice([3, 5, 7, 10, 10, 10]))
    if kind == "questions":
        return question_and_answer(rng)
    if kind == "description":
        return " ".join(description(rng) for _ in range(rng.randint(2, 5)))
    return introduction(rng) if kind == "introduction" else letter(rng)
