"""Find habits that make texts hard to read: `python -m tests.language [PATH...]`.

Texts are the strings, docstrings and comments of Python files, the prose of Markdown files, and the comments of scripts
and settings.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs"]
SCRIPTS = ["scripts", ".ci", ".github", "pyproject.toml", "mirror.toml"]  # their comments begin with #

_START = r"(?:^|(?<=[^\d\s][.!?]\s))"  # of a sentence
_NOT_A_QUESTION = r"(?![^.!?]*\?)"
_CODE = re.compile(r"`[^`\n]+`")
_HASH = re.compile(r"^(|.*?\s)(#(?!!).*)")  # the code before a comment, and the comment; a shebang is not one
_COMPARATIVE = r"(?:longer|more|less|fewer|larger|smaller|older|newer|earlier|later|better|worse)"


@dataclass(frozen=True)
class Habit:
    """A pattern that texts must not contain.

    Attributes:
        pattern: the regular expression; each white space in a text is one character.
        reason: why a reader stumbles over it.
        instead: what to write.
        docstrings: whether the pattern applies to docstrings only.
    """

    pattern: str
    reason: str
    instead: str
    docstrings: bool = False

    @cached_property
    def regex(self) -> re.Pattern[str]:
        return re.compile(self.pattern)


HABITS = (
    Habit(
        rf"(?<!\b[Tt]here\s)\b(?:is|are|was|were)\sno\b(?!\s{_COMPARATIVE}\b)",
        "'x is no y' reads like a riddle",
        "'x' is not a valid y / there is no y",
    ),
    Habit(
        r"\b(?:[Nn]obody|[Ss]omebody|[Aa]nybody|[Ee]verybody|[Ww]hoever|[Ww]homever)\b",
        "this refers to people, not to programs",
        "the caller / another process / an attacker / no credentials",
    ),
    Habit(r"\b[Ww]hom\b", "a formal word for people", "that / which / the user"),
    Habit(rf"{_START}Who\b{_NOT_A_QUESTION}", "a clause as the subject, about a person", "A caller that … / If you …"),
    Habit(
        rf"{_START}(?:What|Whatever|Which|Whether)\b{_NOT_A_QUESTION}",
        "a clause as the subject: the reader has to find out what it refers to",
        "a noun: 'Blobs that the registry has are skipped' / Return whether …",
    ),
    Habit(rf"{_START}Where\b{_NOT_A_QUESTION}", "'where' for a condition", "If … / When …"),
    Habit(
        r"^(?:That|One\sthat|Those\sthat|How|Why|When|If)\b",
        "a docstring begins with a verb or a noun phrase",
        "Return … / Yield … / Check that …",
        docstrings=True,
    ),
    Habit(r"\bhurts?\b", "a metaphor", "affects / is affected"),
    Habit(
        r"\b(?:came|comes?|goes|went|sent|carried|by)\sanother\sway\b",
        "not the usual term",
        "separately / out of band",
    ),
    Habit(r"\bbe\shad\b", "archaic", "be fetched / be read / is available"),
    Habit(r"\b(?:what|that|which)\sis\smeant\b", "vague", "name the thing"),
    Habit(r"\bwhat\sis\sthere\b", "vague", "existing files / the stored blobs"),
    Habit(r"\bof\swhich\b", "a clause that has to be read twice", "whose / a second sentence"),
    Habit(r"\b(?:by|under)\swhich\b[^.]{0,60}\bcalled\b", "a clause that has to be read twice", "its name"),
    Habit(r"\b(?:its|their|the)\sword\sfor\b|\bgives?\s(?:its|their)\sword\b", "a metaphor", "claims"),
    Habit(
        r"\b(?:is|are|was|were)\s(?:said|told)(?=[.,;:]|$)",
        "passive, and it does not say where",
        "is reported / is in the log / called with …",
    ),
    Habit(r"\bthe\sone\sor\sthe\sother\b", "wordy", "either"),
    Habit(r"\bby\sturns\b", "archaic", "in turn / alternately"),
    Habit(r",\sfor\sto\b", "archaic", "because"),
    Habit(r"\bin\searnest\b", "quaint", "genuine / real"),
    Habit(r"(?<!\{)\b[Ff]olders?\b", "Unix has directories", "directory"),
    Habit(r"(?<![/\w])sticks?\b(?!/)", "slang", "USB drive"),
    Habit(
        r"\b(?:[Pp]our(?:s|ed|ing)?|[Ll]edgers?|[Ss]hipments?)\b", "a name that no longer exists", "the current name"
    ),
)


@dataclass(frozen=True)
class Text:
    """A text and the line on which it begins."""

    line: int
    text: str
    is_docstring: bool = False


@dataclass(frozen=True)
class Hit:
    """A place where a text has a habit."""

    line: int
    found: str
    habit: Habit

    def __str__(self) -> str:
        return f"{self.line}: “{self.found}” — {self.habit.reason}; write: {self.habit.instead}"


def hits(texts: Iterable[Text]) -> list[Hit]:
    """Return everything to rewrite, in the order of the lines."""
    found = []
    for text in texts:
        shown = re.sub(r"[ \t]+", " ", re.sub(r"[ \t]*\n[ \t]*", "\n", _CODE.sub("x", text.text)))
        for habit in HABITS:
            if text.is_docstring or not habit.docstrings:
                found += [_hit(text, shown, match, habit) for match in habit.regex.finditer(shown)]
    return sorted(found, key=lambda hit: hit.line)


def _hit(text: Text, shown: str, match: re.Match[str], habit: Habit) -> Hit:
    start, end = max(0, match.start() - 30), match.end() + 30
    return Hit(text.line + shown[: match.start()].count("\n"), " ".join(shown[start:end].split()), habit)


def texts_of(path: Path) -> list[Text]:
    """Return the texts of a file."""
    source = path.read_text()
    if path.suffix == ".py":
        return [*strings(source), *comments(source)]
    return list(prose(source) if path.suffix == ".md" else hash_comments(source))


def strings(source: str) -> Iterator[Text]:
    """Yield the strings of a Python file; an f-string is one text, with `…` for its values."""
    tree = ast.parse(source)
    docstrings, parts = set[int](), set[int]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node) and isinstance(node.body[0], ast.Expr):
                docstrings.add(id(node.body[0].value))
        elif isinstance(node, ast.JoinedStr):
            parts.update(id(part) for part in ast.walk(node) if part is not node)
    for node in ast.walk(tree):
        if id(node) in parts:
            continue
        if isinstance(node, ast.JoinedStr):
            pieces = (str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
            yield Text(node.lineno, "".join(pieces))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield Text(node.lineno, node.value, id(node) in docstrings)


def comments(source: str) -> Iterator[Text]:
    """Yield the comments of a Python file; one over several lines is one text."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = (token for token in tokens if token.type == tokenize.COMMENT)
    return _joined((token.start[0], token.line[: token.start[1]], token.string) for token in found)


def hash_comments(source: str) -> Iterator[Text]:
    """Yield the comments of a shell script, or of a TOML or YAML file."""
    found = ((number, _HASH.search(line)) for number, line in enumerate(source.splitlines(), 1))
    return _joined((number, match[1], match[2]) for number, match in found if match)


def _joined(found: Iterable[tuple[int, str, str]]) -> Iterator[Text]:
    """Yield comments, each found as its line number, the code before it and itself; join those without code before."""
    lines: list[str] = []
    first = last = 0
    for number, code, comment in found:
        text = comment.lstrip("#").strip()
        if number == last + 1 and not code.strip():
            lines.append(text)
        else:
            yield Text(first, "\n".join(lines))
            first, lines = number, [text]
        last = number
    yield Text(first, "\n".join(lines))


def prose(source: str) -> Iterator[Text]:
    """Yield the paragraphs, items and table cells of a Markdown file, without headings and code."""
    paragraph: list[str] = []
    is_code = False
    for number, line in enumerate([*source.splitlines(), ""], 1):
        text = line.strip()
        is_fence = text.startswith("```")
        is_code ^= is_fence
        starts = bool(re.match(r"[-*]\s|\d+\.\s|[|#]", text))
        if paragraph and (is_fence or is_code or not text or starts):
            yield Text(number - len(paragraph), _plain("\n".join(paragraph)))
            paragraph = []
        if is_fence or is_code or not text or text.startswith("#"):
            continue
        if text.startswith("|"):
            yield from (Text(number, _plain(cell)) for cell in text.split("|"))
        else:
            paragraph.append(re.sub(r"^(?:[-*]|\d+\.)\s+", "", text))


def _plain(markdown: str) -> str:
    """Return the text without emphasis, and with `x` for each code span."""
    return re.sub(r"\*+(?=\S)|(?<=\S)\*+", "", _CODE.sub("x", markdown)).strip()


def main(arguments: Sequence[str]) -> int:
    """Print the hits in some files or directories, by default in the package, the documentation and the scripts."""
    count = 0
    for path in files(arguments or ["mirror", *PAGES, *SCRIPTS]):
        for hit in hits(texts_of(path)):
            print(f"{path.relative_to(ROOT)}:{hit}")
            count += 1
    print(f"{count} to rewrite", file=sys.stderr)
    return 1 if count else 0


def files(names: Iterable[str]) -> list[Path]:
    """Return the files with texts below some paths, which are relative to the checkout."""
    paths = [ROOT / name for name in names]
    found = [path for top in paths for path in ([top] if top.is_file() else sorted(top.rglob("*")))]
    return [path for path in found if path.suffix in (".py", ".md") or _is_script(path)]


def _is_script(path: Path) -> bool:
    return path.relative_to(ROOT).parts[0] in SCRIPTS and path.suffix in ("", ".toml", ".yml") and path.is_file()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
