"""The project's own terms, each explained in one line wherever it appears."""

import re

GLOSSARY = {
    "evidence": "estimates, at each step, how strongly an image is becoming the unwanted concept",
    "posterior": "the probability that an image shows the concept, given the steps so far",
    "prior": "the probability that an image shows the concept, before the first step",
    "conjunction": "prompt and concept in one text, such as “portrait photo of a man, mustache”",
    "innovation": "the part of a step that is not the guidance's own extra push",
    "truth": "what a perfect method would give; known exactly in some worlds, such as that of the shipped model, and else measured "
    "on images that do not show the concept",
}
"""Term -> its meaning, without a full stop."""


def explained(text: str) -> list[str]:
    """A line for each term of the glossary that a text uses, in the glossary's order.

    >>> explained("The posteriors of each image")
    ['posterior: the probability that an image shows the concept, given the steps so far']
    """
    words = set(re.findall(r"[a-z]+", text.lower()))
    return [f"{word}: {meaning}" for word, meaning in GLOSSARY.items() if {word, f"{word}s"} & words]
