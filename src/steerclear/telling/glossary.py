"""The project's own words, each explained in one line; shown where a word appears."""

import re

GLOSSARY = {
    "evidence": "what tells, at each step, how strongly an image is becoming the unwanted concept",
    "posterior": "the probability that an image shows the concept, given what was seen of it so far",
    "prior": "the probability that an image shows the concept, before anything was seen of it",
    "conjunction": "prompt and concept in one text, such as “portrait photo of a man, mustache”",
    "innovation": "the part of a step that the guidance's own extra push does not explain",
    "truth": "what a perfect answer would show; known exactly in worlds whose images are drawn by a program",
}
"""Word -> its meaning, without a full stop."""


def explained(text: str) -> list[str]:
    """A line for each word of the glossary that a text uses, in the glossary's order.

    >>> explained("The posteriors of each image")
    ['posterior: the probability that an image shows the concept, given what was seen of it so far']
    """
    words = set(re.findall(r"[a-z]+", text.lower()))
    return [f"{word}: {meaning}" for word, meaning in GLOSSARY.items() if {word, f"{word}s"} & words]
