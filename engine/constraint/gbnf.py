"""llama.cpp's grammar notation to Lark, with llguidance's own converter.

The converter copies characters as they stand, though the two notations escape them differently, and it lowers
names, though rules may differ in nothing but case. So the text is brought into a form first that means the same
in both: escapes spelled out, names distinct.
"""

from __future__ import annotations

import re

from llguidance.gbnf_to_lark import gbnf_to_lark

_TOKENS = re.compile(
    r"""(?P<blank>[ \t\r\n]+)
      | (?P<comment>\#[^\r\n]*)
      | (?P<literal>"(?:[^"\\\r\n]|\\.)*")
      | (?P<any>\.)
      | (?P<set>\[(?:[^\]\\\r\n]|\\.)*\])
      | (?P<name>[A-Za-z0-9_-]+)
      | (?P<mark>::=|[|()*+?{},])""",
    re.VERBOSE,
)
_CHARACTER = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))|(.)", re.DOTALL)
_SHORT = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "[": "[", "]": "]"}
# Lark's dot leaves out the newline; llama.cpp's does not.
_ANY_CHARACTER = "[\\x00-\U0010ffff]"


def lark_of_gbnf(text: str) -> str:
    """``text`` in Lark's notation. Raises ValueError for what is no GBNF, or cannot be said in Lark."""
    try:
        return gbnf_to_lark(_plain(text))
    except RecursionError as error:
        raise ValueError("the grammar is nested too deeply") from error
    except Exception as error:  # the converter raises bare Exception
        raise ValueError(str(error)) from error


def _plain(text: str) -> str:
    """The grammar with every character in the one spelling that both notations read alike."""
    names: dict[str, str] = {"root": "root"}
    taken = {"root", "start"}
    parts: list[str] = []
    at = 0
    while at < len(text):
        token = _TOKENS.match(text, at)
        if token is None:
            raise ValueError(f"no GBNF at {text[at : at + 20]!r}")
        at = token.end()
        match token.lastgroup:
            case "comment":
                pass
            case "literal":
                parts.append('"' + "".join(map(_spell, _characters(token[0][1:-1]))) + '"')
            case "any":
                parts.append(_ANY_CHARACTER)
            case "set":
                parts.append(_spell_set(token[0][1:-1]))
            # A number in a repetition looks like a name, and is one nowhere else.
            case "name" if not _is_repetition(parts):
                parts.append(_rename(token[0], names, taken))
            case _:
                parts.append(token[0])
    return "".join(parts)


def _is_repetition(parts: list[str]) -> bool:
    before = next((part for part in reversed(parts) if not part.isspace()), "")
    return before in ("{", ",")


def _rename(name: str, names: dict[str, str], taken: set[str]) -> str:
    """A name that is still its own once the converter has lowered it."""
    if name not in names:
        plain = re.sub(r"[^a-z0-9]", "-", name.lower())
        plain = plain if plain[0].isalpha() else f"r{plain}"
        unique, number = plain, 1
        while unique in taken:
            number += 1
            unique = f"{plain}-{number}"
        taken.add(unique)
        names[name] = unique
    return names[name]


def _characters(text: str) -> list[str]:
    """The characters that an escaped text stands for."""
    characters: list[str] = []
    for two, four, eight, short, plain in _CHARACTER.findall(text):
        digits = two or four or eight
        if digits:
            code = int(digits, 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise ValueError(f"\\{digits} is no character")
            characters.append(chr(code))
        elif short:
            if short not in _SHORT:
                raise ValueError(f"\\{short} is no escape")
            characters.append(_SHORT[short])
        else:
            characters.append(plain)
    return characters


def _spell(character: str) -> str:
    if character.isalnum() or ord(character) >= 0x80:
        return character
    return f"\\x{ord(character):02x}"


def _spell_set(text: str) -> str:
    negation = "^" if text.startswith("^") else ""
    parts = _CHARACTER.finditer(text[len(negation) :])
    spelled: list[str] = []
    raw = [part[0] for part in parts]
    for index, part in enumerate(raw):
        # A bare hyphen between two characters makes a range; at either end it is itself.
        is_range = part == "-" and 0 < index < len(raw) - 1 and raw[index - 1] != "-"
        spelled.append("-" if is_range else _spell(_characters(part)[0]))
    return f"[{negation}{''.join(spelled)}]"
