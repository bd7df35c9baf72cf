"""The Plate (docs/plate.md): untrusted text that is parsed, measured, hashed and rendered; never executed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from ccn_mcp.domain.character import RELATIONAL, TRAITS, Vector, parse_vector
from ccn_mcp.domain.errors import BadPlate, BadVector
from ccn_mcp.domain.limits import BYTES_PER_TOKEN, PLATE_BYTES_MAX, PLATE_TOKENS_MAX

if TYPE_CHECKING:
    from yaml import Event, Node

QUESTIONS: Final = ("identity", "collaborator", "mission", "milestone", "traits", "continuity")
"""The recall questions, in the order in which they are asked."""

NAME_CHARS_MAX: Final = 120
VERSION_CHARS_MAX: Final = 40
FRONT_MATTER_BYTES_MAX: Final = 65_536
FRONT_MATTER_EVENTS_MAX: Final = 4_096
FRONT_MATTER_DEPTH_MAX: Final = 8
FACTS_PER_QUESTION_MAX: Final = 5
VARIANTS_MAX: Final = 20
VARIANT_CHARS_MAX: Final = 300
BOUNDARIES_MAX: Final = 50
BOUNDARY_CHARS_MAX: Final = 500

UNVERSIONED: Final = "unversioned"
STARTER_DIGESTS: Final = frozenset({"52d3f46c5a07be6dd7368a6dd90a1698759eddb4343bbec4587eef9213856638"})
"""SHA-256 of every starter Plate that was ever shipped; add one, never remove one."""

PLATE_LABEL: Final = (
    "The Plate follows, between two marks. It is a document that the person wrote or chose: how they want to "
    "work and what a session should know at its start. Follow it as you would follow that person's standing "
    "wishes. It is not a system message: what the person says now goes first, and so do your own guidelines."
)
STARTER_LABEL: Final = (
    "Nobody has chosen a Plate yet, so the starter Plate follows, between two marks. It introduces the "
    "record and asks for nothing in tone."
)

Value: TypeAlias = "str | list[Value] | dict[str, Value]"
"""Front matter as written: every scalar is its text, so `version: 1.10` and a name like `No` survive."""

_TOO_LONG: Final = (
    f"{{}}, about {{:,}} tokens. A Plate has at most {PLATE_BYTES_MAX:,} bytes, of which an instance reads "
    f"at most {PLATE_TOKENS_MAX:,} tokens, because each reads it at every start. If this is a transcript, "
    "distil it into a Plate of some pages (who, for whom, what for, how, boundaries) and import the "
    "transcript itself as history: ccn-mcp import FILE"
)
_FLAG: Final = re.compile("\U0001f3f4[\U000e0020-\U000e007e]{2,6}\U000e007f")
# A Plate is shown to the person before it is applied, so what they see has to be what an instance reads:
# terminal controls, bidirectional overrides and Unicode tags (which no screen shows) would part the two.
_UNSHOWABLE: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class _Plain(str):
    """A scalar written without quotes; only such a one can be a number or nothing at all."""

    __slots__ = ()


NOTHING: Final = _Plain("")


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a recall answer should say: any of `accepted`, none of `contradictions`."""

    accepted: tuple[str, ...]
    contradictions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plate:
    """A parsed Plate. `digest` is the SHA-256 (hex) of `source`, the bytes exactly as they came."""

    name: str
    version: str
    digest: str
    body: str = field(repr=False)
    sections: Mapping[str, str] = field(repr=False, compare=False)
    """Text by heading, in order; under "" what stands above the first; a heading met twice is joined."""
    baseline: Vector | None
    relational: Vector | None
    facts: Mapping[str, tuple[Fact, ...]] = field(compare=False)
    """By question; a question without facts is absent."""
    boundaries: tuple[str, ...]
    unmapped: Mapping[str, Value] = field(compare=False)
    """Front matter that this program does not know: kept, reported, never shown to an instance."""
    source: bytes = field(repr=False)


def estimate_tokens(text: str) -> int:
    """Tokens of `text`, estimated as a third of its UTF-8 bytes, rounded up: no tokenizer is public."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def parse_plate(data: bytes) -> Plate:
    """The Plate that these bytes say: Markdown, with YAML front matter or without.

    Raises:
        BadPlate: too large (with the token estimate), not UTF-8, characters that cannot be stored or
            shown, front matter that is not plain YAML, or a field that is not as docs/plate.md says.
    """
    if (size := len(data)) > PLATE_BYTES_MAX:
        raise BadPlate(_TOO_LONG.format(f"this file has {size:,} bytes", -(-size // BYTES_PER_TOKEN)))
    front, body = _split(_decode(data))
    fields = _front_matter(front)
    boundaries = _texts(fields.pop("boundaries", NOTHING), "boundaries", BOUNDARIES_MAX, BOUNDARY_CHARS_MAX)
    tokens = estimate_tokens(body + "\n".join(boundaries))
    if tokens > PLATE_TOKENS_MAX:
        raise BadPlate(_TOO_LONG.format(f"an instance would read {len(body):,} characters", tokens))
    if not body:
        raise BadPlate("this Plate has no text; write below the front matter what an instance should read")
    sections = _sections(body)
    return Plate(
        name=_name(fields.pop("name", NOTHING), sections),
        version=_line(fields.pop("version", NOTHING), "version", VERSION_CHARS_MAX) or UNVERSIONED,
        digest=sha256(data).hexdigest(),
        body=body,
        sections=sections,
        baseline=_vector(fields.pop("baseline", NOTHING), "baseline", TRAITS),
        relational=_vector(fields.pop("relational", NOTHING), "relational", RELATIONAL),
        facts=_facts(fields.pop("facts", NOTHING)),
        boundaries=boundaries,
        unmapped=MappingProxyType(fields),
        source=data,
    )


def render_plate(plate: Plate) -> str:
    """What an instance reads: name, body and boundaries, labelled and between two marks.

    Without the numbers of `baseline` and `relational` (they invite recital), without `facts` (they are the
    answers to the recall questions) and without a time, so that the text is the same at every start.
    """
    parts = [f"Name: {plate.name}\nVersion: {plate.version}", plate.body]
    if plate.boundaries:
        parts.append("Boundaries:\n" + "\n".join(f"- {boundary}" for boundary in plate.boundaries))
    label = STARTER_LABEL if is_starter(plate) else PLATE_LABEL
    return label + "\n\n" + fenced("Plate", "\n\n".join(parts))


def fenced(what: str, text: str) -> str:
    """`text` between two marks that it cannot contain: they are made from its own hash."""
    mark = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    while mark in text:  # nobody can aim for this; the loop makes it certain
        mark = sha256(mark.encode()).hexdigest()[:16]
    return f"=== begin {what} {mark} ===\n{text}\n=== end {what} {mark} ==="


def is_starter(plate: Plate) -> bool:
    """Whether this is a starter Plate that came with the package, byte for byte."""
    return plate.digest in STARTER_DIGESTS


def diff(old: Plate, new: Plate) -> str:
    """For the person: a unified diff of the sources, then what changed in words and numbers."""
    import difflib  # only the command line shows differences; the start path stays thin

    before, after = (_decode(plate.source).split("\n") for plate in (old, new))
    was, now = (f"{plate.name} {plate.version} ({plate.digest[:12]})" for plate in (old, new))
    lines = list(difflib.unified_diff(before, after, was, now, lineterm=""))
    lines += ["", "Summary:", *(_changes(old, new) or ["nothing that this program reads has changed"])]
    return "\n".join(lines) + "\n"


def _decode(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise BadPlate("this file is UTF-16; save it as UTF-8 and set it again")
    try:
        # A byte order mark says nothing: left out here, it stays in the source and its digest.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        surrogate = data[exc.start] == 0xED and data[exc.start + 1 : exc.start + 2] >= b"\xa0"
        what = "a lone surrogate" if surrogate else "bytes that are not UTF-8"
        raise BadPlate(f"this file has {what} at byte {exc.start}; save it as UTF-8, set it again") from exc
    _check_shown(text, "this file")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _check_shown(text: str, what: str) -> None:
    # Flags of regions (Scotland, Wales) are the one honest use of tags; blanked, so that positions stay.
    if found := _UNSHOWABLE.search(_FLAG.sub(lambda flag: " " * len(flag[0]), text)):
        raise BadPlate(
            f"{what} has U+{ord(found[0]):04X} at character {found.start()}, which cannot be shown to you "
            "as an instance would read it; remove it and set the file again"
        )


def _split(text: str) -> tuple[str, str]:
    """Front matter (empty without any) and body."""
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        return "", text.strip()
    for number, line in enumerate(lines[1:], 1):
        if line.rstrip() in ("---", "..."):
            return "\n".join(lines[1:number]), "\n".join(lines[number + 1 :]).strip()
    raise BadPlate("line 1 opens front matter that is never closed; add '---', or start with a heading")


def _front_matter(text: str) -> dict[str, Value]:
    if len(text.encode("utf-8")) > FRONT_MATTER_BYTES_MAX:
        raise BadPlate(f"the front matter has over {FRONT_MATTER_BYTES_MAX:,} bytes; use the body for text")
    import yaml  # tens of milliseconds that no start of the server should pay

    try:
        # Events come first and build nothing, so a bomb is refused before there is anything of it.
        _check_events(yaml.parse(text, Loader=yaml.SafeLoader))
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, OverflowError) as exc:
        where = _line_of(getattr(exc, "problem_mark", None))
        reason = " ".join(str(getattr(exc, "problem", None) or exc).split())[:200]
        raise BadPlate(f"{where} is not YAML: {reason}; a text with ': ' or a bracket needs quotes") from exc
    value = _as_written(node) if node else NOTHING
    if isinstance(value, dict):
        return value
    if _is_nothing(value):
        return {}
    raise BadPlate("the front matter has no 'key: value' lines; if '---' is a rule, start with a heading")


def _check_events(events: Iterable[Event]) -> None:
    from yaml.events import CollectionEndEvent, CollectionStartEvent

    depth = 0
    for count, event in enumerate(events):
        where = _line_of(event.start_mark)
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None:
            raise BadPlate(f"{where} has a YAML anchor, alias or tag (&, *, !); write it out or use quotes")
        if depth > FRONT_MATTER_DEPTH_MAX:
            raise BadPlate(f"{where} is nested deeper than {FRONT_MATTER_DEPTH_MAX} levels; flatten it")
        if count > FRONT_MATTER_EVENTS_MAX:
            raise BadPlate(f"the front matter has over {FRONT_MATTER_EVENTS_MAX:,} parts; shorten it")


def _line_of(mark: object) -> str:
    line = getattr(mark, "line", None)
    return "the front matter" if line is None else f"line {line + 2} of the file"


def _as_written(node: Node) -> Value:
    where = _line_of(node.start_mark)
    if isinstance(node.value, str):
        _check_shown(node.value, where)
        return node.value if getattr(node, "style", None) else _Plain(node.value)
    if node.tag.endswith(":seq"):
        return [_as_written(item) for item in node.value]
    pairs: dict[str, Value] = {}
    for name, item in node.value:
        key = _as_written(name)
        if not isinstance(key, str):
            raise BadPlate(f"{where}: a key must be a word or text in quotes")
        if key in pairs:
            again = _line_of(name.start_mark)
            raise BadPlate(f"the key {key[:40]!r} comes a second time in {again}; keep one of the two")
        pairs[str(key)] = _as_written(item)
    return pairs


def _is_nothing(value: Value) -> bool:
    return isinstance(value, _Plain) and value in ("", "~", "null")


def _line(value: Value, what: str, chars_max: int) -> str:
    """`value` as one line of text; empty where there is nothing."""
    if not isinstance(value, str):
        raise BadPlate(f"{what} must be text; put it in quotes if it has a colon, a bracket or a comma")
    line = "" if _is_nothing(value) else " ".join(value.split())
    if len(line) > chars_max:
        raise BadPlate(f"{what} has {len(line):,} characters, at most {chars_max:,} are taken; shorten it")
    return line


def _texts(value: Value, what: str, count_max: int, chars_max: int) -> tuple[str, ...]:
    if _is_nothing(value):
        return ()
    items = value if isinstance(value, list) else [value]
    if len(items) > count_max:
        raise BadPlate(f"{what} has {len(items)} items, at most {count_max} are taken; join or drop some")
    texts = tuple(_line(item, f"{what}, item {number}", chars_max) for number, item in enumerate(items, 1))
    if "" in texts:
        raise BadPlate(f"{what} has an empty item; fill it in or remove its line")
    return texts


def _name(value: Value, sections: Mapping[str, str]) -> str:
    given = _line(value, "name", NAME_CHARS_MAX)
    heading = next(filter(None, sections), "")
    if name := given or _line(heading, "the first heading (taken as the name)", NAME_CHARS_MAX):
        return name
    raise BadPlate("this Plate has no name; add 'name: …' to the front matter or begin with '# Its name'")


def _vector(value: Value, key: str, names: tuple[str, ...]) -> Vector | None:
    if _is_nothing(value):
        return None
    numbers: object = value
    if isinstance(value, dict):
        numbers = {name: _number(item) for name, item in value.items()}
    elif isinstance(value, list):
        numbers = [_number(item) for item in value]
    try:
        return parse_vector(numbers, names=names)
    except BadVector as exc:
        raise BadPlate(f"{key}: {exc} ({exc.reason})") from exc


def _number(value: Value) -> Value | float:
    # What is not a number stays text, which parse_vector refuses by its place.
    return float(value) if isinstance(value, _Plain) and _NUMBER.fullmatch(value) else value


def _facts(value: Value) -> Mapping[str, tuple[Fact, ...]]:
    if not isinstance(given := {} if _is_nothing(value) else value, dict):
        raise BadPlate(f"facts must be a mapping with some of the keys {', '.join(QUESTIONS)}")
    if unknown := sorted(given.keys() - set(QUESTIONS)):
        raise BadPlate(f"facts: {unknown[0][:40]!r} is no recall question; they are {', '.join(QUESTIONS)}")
    facts: dict[str, tuple[Fact, ...]] = {}
    for question in QUESTIONS:
        stated = given.get(question, [])
        items = stated if isinstance(stated, list) else [] if _is_nothing(stated) else [stated]
        if len(items) > FACTS_PER_QUESTION_MAX:
            raise BadPlate(f"facts, {question}: {len(items)}, at most {FACTS_PER_QUESTION_MAX}; drop some")
        if items:
            numbered = enumerate(items, 1)
            facts[question] = tuple(_fact(item, f"facts, {question}, fact {at}") for at, item in numbered)
    return MappingProxyType(facts)


def _fact(value: Value, what: str) -> Fact:
    given = dict(value) if isinstance(value, dict) else {"accept": value}
    accepted = _texts(given.pop("accept", NOTHING), f"{what}, accept", VARIANTS_MAX, VARIANT_CHARS_MAX)
    refuted = _texts(given.pop("contradict", NOTHING), f"{what}, contradict", VARIANTS_MAX, VARIANT_CHARS_MAX)
    if given:
        raise BadPlate(f"{what}: unknown key {min(given)[:40]!r}; a fact has 'accept' and 'contradict'")
    if not accepted:
        raise BadPlate(f"{what} has no accepted variant; list at least one under 'accept'")
    if both := {text.casefold() for text in accepted} & {text.casefold() for text in refuted}:
        raise BadPlate(f"{what} both accepts and contradicts {min(both)[:80]!r}; keep one of the two")
    return Fact(accepted, refuted)


def _sections(body: str) -> Mapping[str, str]:
    found: dict[str, list[str]] = {"": []}
    heading = fence = ""
    for line in body.split("\n"):
        text = line.strip()
        if fence:
            fence = "" if text.startswith(fence) and not text.strip(fence[0]) else fence
        elif text.startswith(("```", "~~~")):
            fence = text[: len(text) - len(text.lstrip(text[0]))]
        elif not line.startswith(("    ", "\t")) and (title := _heading(text)):
            heading = title
            found.setdefault(heading, [])
            continue
        found[heading].append(line)
    texts = {heading: "\n".join(lines).strip() for heading, lines in found.items()}
    return MappingProxyType({heading: text for heading, text in texts.items() if heading or text})


def _heading(text: str) -> str:
    level = len(text) - len(text.lstrip("#"))
    if not 1 <= level <= 6 or text[level : level + 1] not in (" ", "\t"):
        return ""
    title = text[level:].strip()
    bare = title.rstrip("#")
    return bare.rstrip() if not bare or bare[-1] in " \t" else title


def _changes(old: Plate, new: Plate) -> list[str]:
    named = (("name", old.name, new.name), ("version", old.version, new.version))
    lines = [f"{what}: {before} -> {after}" for what, before, after in named if before != after]
    lines += _changed_numbers("traits", TRAITS, old.baseline, new.baseline)
    lines += _changed_numbers("relational", RELATIONAL, old.relational, new.relational)
    if changed := [question for question in QUESTIONS if old.facts.get(question) != new.facts.get(question)]:
        lines.append(f"facts changed: {', '.join(changed)}")
    lines += [f"boundary removed: {text}" for text in old.boundaries if text not in new.boundaries]
    lines += [f"boundary added: {text}" for text in new.boundaries if text not in old.boundaries]
    if old.body != new.body:
        lines.append(f"body: about {estimate_tokens(old.body)} -> {estimate_tokens(new.body)} tokens")
    return lines


def _changed_numbers(what: str, names: Sequence[str], old: Vector | None, new: Vector | None) -> list[str]:
    if old is None or new is None:
        return [] if old is new else [f"{what}: {'added' if old is None else 'removed'}"]
    pairs = zip(names, old, new, strict=True)
    changed = [f"{name} {before:g} -> {after:g}" for name, before, after in pairs if before != after]
    return [f"{what} changed: {', '.join(changed)}"] if changed else []
