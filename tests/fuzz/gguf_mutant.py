"""Model files that are wrong in one place or a few: made from sound ones by seeded edits, so each can be made again."""

from __future__ import annotations

import copy
import itertools
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import gguf
import msgspec

from tests.fixtures.tiny_gguf import Tiny, write_tiny
from tests.fuzz.gguf_image import Atom, GgufImage, packed

BASES: dict[str, Tiny] = {
    "llama": Tiny(layers=1),
    "infill": Tiny(layers=1, infills=True),
    "mamba": Tiny(architecture="mamba", layers=1),
    "bert": Tiny(architecture="bert", layers=1),
    "rank": Tiny(architecture="bert", layers=1, pooling=gguf.PoolingType.RANK),
}
_NUMBERS = (
    *(0, 1, 2, 3, 5, 7, 31, 32, 33, 63, 64, 127, 128, 255, 256, 1000, 9999, 65535, 65536),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 32, 2**64 - 1),
)
_TEXTS = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"a" * 70,
    b"llama",
    b"gpt2",
    b"bert",
    b"mamba",
    b"none",
    b"<unk>",
    b"%s%n",
    b"../x",
)
_MOST_EDITS = 4
Edit = Callable[[GgufImage, random.Random], None]


class Recipe(msgspec.Struct, frozen=True):
    """How a mutant is made: of which sound file, and by the edits of which seeds."""

    base: str
    edits: tuple[int, ...]


def new_recipe(choose: random.Random) -> Recipe:
    count = choose.choice((1, 1, 1, 2, 2, 3, _MOST_EDITS))
    return Recipe(choose.choice(sorted(BASES)), tuple(choose.getrandbits(32) for _ in range(count)))


class MutantFactory:
    """Holds the sound files in memory."""

    def __init__(self) -> None:
        self._sound: dict[str, bytes] = {}
        self._images: dict[str, GgufImage] = {}
        with tempfile.TemporaryDirectory() as directory:
            for name, tiny in BASES.items():
                self._sound[name] = write_tiny(Path(directory, name), tiny).read_bytes()
                self._images[name] = GgufImage.of(self._sound[name])
                assert self._images[name].bytes() == self._sound[name]

    def sound(self, base: str) -> bytes:
        return self._sound[base]

    def make(self, recipe: Recipe) -> bytes:
        image = self._images[recipe.base].copy()
        last = random.Random(0)
        is_cut = False
        for seed in recipe.edits:
            last = random.Random(seed)
            if last.random() < 0.1:
                is_cut = True
            else:
                last.choice(_EDITS)(image, last)
        data = image.bytes()
        return _damaged(data, last) if is_cut else data


class Patch(msgspec.Struct, frozen=True):
    """A mutant as what differs from its sound file: small, and independent of how it was found."""

    base: str
    at: int
    removed: int
    inserted: str
    """In hexadecimal digits."""
    what: str
    """What became of the process that loaded it, when it was found."""

    @classmethod
    def between(cls, base: str, sound: bytes, mutant: bytes, what: str) -> Patch:
        at = _alike(sound, mutant)
        end = _alike(sound[at:][::-1], mutant[at:][::-1])
        return cls(base, at, len(sound) - at - end, mutant[at : len(mutant) - end].hex(), what)

    def apply(self, sound: bytes) -> bytes:
        return sound[: self.at] + bytes.fromhex(self.inserted) + sound[self.at + self.removed :]


def _alike(one: bytes, other: bytes) -> int:
    """How many bytes are the same at the beginning of both."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


# -- edits -----------------------------------------------------------------------------------------------------------


def _change(atom: Atom, choose: random.Random) -> None:
    size = len(atom.raw)
    match atom.kind:
        case "text":
            if choose.random() < 0.5 and atom.raw:
                at = choose.randrange(size)
                atom.raw = atom.raw[:at] + choose.randbytes(1) + atom.raw[at + 1 :]
            else:
                atom.raw = choose.choice(_TEXTS)
        case "type":
            atom.raw = packed(choose.choice((*range(45), 255, 2**31, 2**32 - 1)), size)
        case "float":
            atom.raw = choose.randbytes(size)
        case _:
            atom.raw = packed(_near(int.from_bytes(atom.raw, "little"), choose), size)


def _near(value: int, choose: random.Random) -> int:
    others = (
        value + 1,
        value - 1,
        value * 2,
        value // 2,
        -value,
        value + 32,
        value ^ (1 << choose.randrange(64)),
    )
    return choose.choice((choose.choice(_NUMBERS), choose.choice(others)))


def _any_field(image: GgufImage, choose: random.Random) -> None:
    _change(choose.choice(image.atoms()), choose)


def _a_count(image: GgufImage, choose: random.Random) -> None:
    _change(choose.choice(image.head[1:]), choose)


def _a_value(image: GgufImage, choose: random.Random) -> None:
    """Of a pair that is no list: what is wrong with a list is mostly one of its many items."""
    short = [pair for pair in image.pairs if len(pair) <= 5]
    if short:
        _change(choose.choice(choose.choice(short)[2:]), choose)


def _a_text_with_its_length(image: GgufImage, choose: random.Random) -> None:
    part = choose.choice([*image.pairs, *image.tensors])
    for length, text in itertools.pairwise(part):
        if length.kind == "length" and text.kind == "text" and (len(part) < 8 or choose.random() < 0.02):
            text.raw = choose.choice((*_TEXTS, choose.choice(image.pairs)[1].raw))
            length.raw = packed(len(text.raw), len(length.raw))


def _a_tensor(image: GgufImage, choose: random.Random) -> None:
    if image.tensors:
        _change(choose.choice(choose.choice(image.tensors)), choose)


def _a_shape(image: GgufImage, choose: random.Random) -> None:
    """As many elements in another order, or another number of them, and maybe of another type."""
    if image.tensors:
        _, _, _, *shape, kind, _ = choose.choice(image.tensors)
        choose.shuffle(shape)
        for size in shape:
            if choose.random() < 0.5:
                size.raw = packed(_near(int.from_bytes(size.raw, "little"), choose), len(size.raw))
        if choose.random() < 0.3:
            kind.raw = packed(choose.randrange(42), 4)


def _an_entry_twice(image: GgufImage, choose: random.Random) -> None:
    parts, count = choose.choice(((image.pairs, 3), (image.tensors, 2)))
    if parts:
        parts.insert(choose.randint(0, len(parts)), copy.deepcopy(choose.choice(parts)))
        _recount(image.head[count], len(parts), choose)


def _an_entry_gone(image: GgufImage, choose: random.Random) -> None:
    parts, count = choose.choice(((image.pairs, 3), (image.tensors, 2)))
    if parts:
        del parts[choose.randrange(len(parts))]
        _recount(image.head[count], len(parts), choose)


def _recount(count: Atom, value: int, choose: random.Random) -> None:
    if choose.random() < 0.9:
        count.raw = packed(value, len(count.raw))


def _values_swapped(image: GgufImage, choose: random.Random) -> None:
    if len(image.pairs) > 1:
        one, other = choose.sample(image.pairs, 2)
        one[2:], other[2:] = other[2:], one[2:]


def _a_list(image: GgufImage, choose: random.Random) -> None:
    """One item more, less, twice, or of no sense."""
    lists = [pair for pair in image.pairs if len(pair) > 5]
    if not lists:
        return
    pair = choose.choice(lists)
    width = 2 if pair[5].kind == "length" else 1
    at = 5 + width * choose.randrange(max(1, (len(pair) - 5) // width))
    item = copy.deepcopy(pair[at : at + width])
    match choose.randrange(4):
        case 0:
            pair[at:at] = item
        case 1:
            del pair[at : at + width]
        case 2:
            other = 5 + width * choose.randrange(max(1, (len(pair) - 5) // width))
            pair[other : other + width] = item
        case _:
            _change(choose.choice(pair[at : at + width] or pair), choose)
    _recount(pair[4], (len(pair) - 5) // width, choose)


def _the_weights(image: GgufImage, choose: random.Random) -> None:
    if choose.random() < 0.5:
        image.weights = image.weights[: choose.randint(0, len(image.weights))]
    else:
        at = choose.randint(0, len(image.weights))
        noise = choose.choice((b"\xff" * 64, b"\0\0\xc0\x7f" * 16, choose.randbytes(64), b"\0\0\x80\x7f"))
        image.weights = image.weights[:at] + noise + image.weights[at + len(noise) :]


def _damaged(data: bytes, choose: random.Random) -> bytes:
    """Cut short, or with some bytes of the file changed, wherever they stand."""
    if choose.random() < 0.5:
        return data[: choose.randint(0, len(data))]
    changed = bytearray(data)
    reach = len(changed) if choose.random() < 0.3 else min(len(changed), 12_000)
    for _ in range(choose.randint(1, 12)):
        if reach:
            changed[choose.randrange(reach)] = choose.randrange(256)
    return bytes(changed)


_EDITS: tuple[Edit, ...] = (
    *(_any_field, _a_count, _a_value, _a_value, _a_value, _a_text_with_its_length, _a_tensor, _a_shape),
    *(_an_entry_twice, _an_entry_gone, _values_swapped, _a_list, _a_list, _the_weights),
)
