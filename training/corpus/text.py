"""Sentences to speak: English from templates, other languages as made-up words under their own rules."""

from __future__ import annotations

import numpy as np

_PEOPLE = (
    "my brother", "the young teacher", "a famous painter", "our neighbour", "the captain", "your friend Bob",
    "the mayor", "Emma", "everybody", "the village baker", "George", "a small boy", "the band", "Professor Webb",
    "the film maker", "their mother", "Oliver", "the whole family", "a polite visitor", "the farmer",
    "Beth and Vivian", "the pilot", "someone above us", "the jury",
)  # fmt: skip
_VERBS = (
    "found", "wanted", "bought", "moved", "painted", "borrowed", "would love", "remembered", "believed in", "pushed",
    "opened", "forgot", "made", "photographed", "brought back", "watched", "improved", "threw away", "measured",
    "followed", "put away", "heard about", "saved", "shaped", "wrote about", "boiled", "admired", "joined",
    "stopped", "always wore", "hopes for", "gave me",
)  # fmt: skip
_ADJECTIVES = (
    "blue", "wide", "old", "beautiful", "warm", "simple", "perfect", "broken", "bright", "enormous", "shiny",
    "purple", "quiet", "yellow", "very heavy", "smooth", "fabulous", "thick", "famous", "empty", "wooden", "sharp",
    "playful", "brave", "unusual", "thoughtful", "wavy",
)  # fmt: skip
_THINGS = (
    "umbrella", "boat", "piano", "window", "lamp", "apple pie", "garden wall", "bicycle", "photograph", "puzzle",
    "map", "cup of coffee", "bowl of soup", "mushroom", "house by the river", "movie", "pair of boots", "violin",
    "toothbrush", "wheelbarrow", "voice", "judge", "leather bag", "five of them", "television", "choice",
    "book about bees", "waterfall", "bathroom mirror", "jungle path", "tomato plant",
)  # fmt: skip
_PLACES = (
    "in the morning", "before breakfast", "above the valley", "on the beach", "for no reason", "at half past four",
    "in front of the museum", "near the old bridge", "with both hands", "without a word", "when the music began",
    "every February", "over and over", "by the way", "after the storm", "from far away", "all through the winter",
    "because of the weather", "as far as I know", "under the moon",
)  # fmt: skip
_OPENERS = (
    "Well", "Maybe", "Of course", "To be honest", "However", "You know", "Oh wow", "Finally", "Good morning", "Hey",
    "For example", "First of all", "Believe me", "As you may have heard", "Yes", "No", "By now", "Hmm",
    "Sooner or later", "Welcome back",
)  # fmt: skip
_PHRASES = (
    "How are you today?", "What a wonderful idea!", "Please move a bit further forward.",
    "I really don't know what you mean.", "Could you say that once more?", "We have to leave before five.",
    "That is much better than I thought.", "Thank you very much.", "Nobody ever told me about it.",
    "Who would have believed it?", "Mom bought a pumpkin for Papa.", "Five brave wolves moved over there.",
    "She showed us the shape of the shore.", "You choose, and I'll wait.", "Both of them are worth the trouble.",
    "Wow, look at the view!", "My number is seven four two, nine five, eight six.",
    "The weather will be fair, with wind from the west.", "Pay the boy and buy a big map.",
    "Through thick and thin, they kept their faith.", "Let me show you how it works.",
)  # fmt: skip

_ONSETS = (
    "b", "p", "m", "f", "v", "w", "t", "d", "n", "l", "r", "s", "z", "k", "g", "h", "j", "sh", "ch", "pr", "bl",
    "fl", "tr", "st", "sm", "kl", "br", "", "b", "m", "p",
)  # fmt: skip
_NUCLEI = ("a", "e", "i", "o", "u", "a", "o", "ai", "ou", "ei", "eu", "ie", "au", "oi")
_CODAS = ("", "", "", "", "n", "m", "r", "l", "s", "t", "p", "b", "f", "k")


def sample_sentence(rng: np.random.Generator, language: str) -> str:
    """One sentence of 3 to 14 words; any `language` but English gets made-up words."""
    if language.startswith("en") and rng.random() < 0.92:
        return _english(rng)
    words = [_word(rng) for _ in range(int(rng.integers(3, 9)))]
    if len(words) > 5 and rng.random() < 0.5:
        words[len(words) // 2] += ","
    return " ".join(words).capitalize() + _stop(rng)


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _stop(rng: np.random.Generator) -> str:
    return _pick(rng, (".", ".", ".", "!", "?"))


def _english(rng: np.random.Generator) -> str:
    if rng.random() < 0.25:
        return _pick(rng, _PHRASES)
    core = f"{_pick(rng, _PEOPLE)} {_pick(rng, _VERBS)} the {_pick(rng, _ADJECTIVES)} {_pick(rng, _THINGS)}"
    if rng.random() < 0.6:
        core = f"{core} {_pick(rng, _PLACES)}"
    if rng.random() < 0.3:
        core = f"{_pick(rng, _OPENERS)}, {core}"
    if rng.random() < 0.2:
        core = f"{core}, and {_pick(rng, _PEOPLE)} {_pick(rng, _VERBS)} a {_pick(rng, _THINGS)}"
    return core[0].upper() + core[1:] + _stop(rng)


def _word(rng: np.random.Generator) -> str:
    syllables = int(rng.integers(1, 4))
    return "".join(_pick(rng, _ONSETS) + _pick(rng, _NUCLEI) + _pick(rng, _CODAS) for _ in range(syllables))
