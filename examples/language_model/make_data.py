"""Write the example's data: short reviews, of which the kinder one is preferred.

    python examples/language_model/make_data.py

sft.jsonl      600 reviews, kind and unkind in equal parts
pairs.jsonl    400 pairs of reviews of the same thing, the kinder one chosen
prompts.jsonl  64 prompts for reinforcement learning
"""

import json
import pathlib
import random
import re

KIND = ["bright", "warm", "gentle", "lovely", "calm", "fresh", "charming", "splendid"]
UNKIND = ["dull", "cold", "harsh", "ugly", "noisy", "stale", "dreary", "awful"]
THINGS = [
    "lighthouse", "garden", "library", "harbour", "market", "museum", "bakery", "station", "orchard", "theatre",
    "bridge", "village", "castle", "meadow", "café", "tower",
]  # fmt: skip
TIMES = ["in spring", "at night", "on Sundays", "in the rain"]
PATTERNS = [
    "The {thing} is {a} and {b}.",
    "It was {a}, with a {b} view.",
    "People find the {thing} {a} and rather {b}.",
    "A {a} place, {b} in every corner.",
]


def prompt_of(thing, time):
    return f"A review of the {thing} {time}:"


def review(random, thing, words):
    a, b = words
    return " " + random.choice(PATTERNS).format(thing=thing, a=a, b=b)


def kindness(text):
    """Kind words minus unkind words, as a share of both, or of two if there are fewer; from -1 to 1."""
    words = text.replace(".", " ").replace(",", " ").split()
    kind, unkind = (sum(word in known for word in words) for known in (KIND, UNKIND))
    return (kind - unkind) / max(kind + unkind, 2)


def is_review(text):
    """Whether a text is one of the sentences that this file can write, with any of its words."""
    word, thing = f"({'|'.join(KIND + UNKIND)})", f"({'|'.join(THINGS)})"
    return any(re.fullmatch(" " + pattern.format(thing=thing, a=word, b=word), text) for pattern in PATTERNS)


def sample(random, kind_words):
    return random.sample(KIND, kind_words) + random.sample(UNKIND, 2 - kind_words)


def pair(random, thing, time):
    better, worse = random.choice([(2, 0), (2, 1), (1, 0)])
    texts = [review(random, thing, random.sample(sample(random, number), 2)) for number in (better, worse)]
    return {"prompt": prompt_of(thing, time), "chosen": texts[0], "rejected": texts[1]}


def main():
    generator = random.Random(0)
    folder = pathlib.Path(__file__).parent / "data"
    folder.mkdir(exist_ok=True)
    places = [(thing, time) for thing in THINGS for time in TIMES]
    reviews = []
    for _ in range(600):
        thing, time = generator.choice(places)
        words = generator.sample(sample(generator, generator.choice([0, 1, 1, 2])), 2)
        reviews.append({"prompt": prompt_of(thing, time), "completion": review(generator, thing, words)})
    files = {
        "sft": reviews,
        "pairs": [pair(generator, *generator.choice(places)) for _ in range(400)],
        "prompts": [{"prompt": prompt_of(*place)} for place in places],
    }
    for name, rows in files.items():
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
