"""Tests of the history of a config as lines of a Dockerfile, in the formats of several builders."""

import time

import pytest
from hypothesis import given

from mirror.records.history import date_line, escape, instruction
from tests.records import drawn
from tests.support import strategies

POWERSHELL = ("powershell", "-Command", "$ErrorActionPreference = 'Stop';")
WRITTEN = {
    "/bin/sh -c #(nop) ADD file:bdab in / ": "ADD file:bdab in / ",
    '/bin/sh -c #(nop)  CMD ["bash"]': 'CMD ["bash"]',
    "/bin/sh -c groupadd -r redis": "RUN groupadd -r redis",
    "/bin/sh -c set -ex; \t\tfetch='a b'; \tapt-get update": "RUN set -ex; \t\tfetch='a b'; \tapt-get update",
    "COPY hello / # buildkit": "COPY hello / # buildkit",
    "RUN /bin/sh -c make # buildkit": "RUN make # buildkit",
    "EXPOSE map[6379/tcp:{}]": "EXPOSE map[6379/tcp:{}]",
    "# debian.sh --arch 'amd64' out/ 'bookworm'": "RUN # debian.sh --arch 'amd64' out/ 'bookworm'",
    "|1 A=b c /bin/sh -c make": "# ARGS: A=b c\nRUN make",
    "RUN |2 A=b C=d /bin/sh -c make # buildkit": "# ARGS: A=b C=d\nRUN make # buildkit",
    "|1 A=b make": "# unable to parse image command string further:\n|1 A=b make",
    "|1 A=b\n /bin/sh -c make": "# unable to parse image command string further:\n|1 A=b\n /bin/sh -c make",
    "cmd /S /C #(nop) COPY file:22c7 in C: ": "RUN cmd /S /C #(nop) COPY file:22c7 in C: ",
    "Apply image 10.0.26100.33438": "RUN Apply image 10.0.26100.33438",
    "": "RUN ",
    "/bin/sh -c #(nop) ": "",
    "RUN /bin/sh -c cat <<EOF\na\nEOF": "RUN cat <<EOF\na\nEOF",
}


@pytest.mark.parametrize(("created_by", "text"), WRITTEN.items())
def test_a_step_is_shown_as_an_instruction_of_a_dockerfile(created_by: str, text: str) -> None:
    assert instruction(created_by) == text


def test_the_shell_of_the_config_is_omitted_like_sh() -> None:
    prefix = " ".join(POWERSHELL)
    assert instruction(f"{prefix} #(nop)  ENV A=b", POWERSHELL) == "ENV A=b"
    assert instruction(f"{prefix} Write-Host 1", POWERSHELL) == "RUN Write-Host 1"
    assert instruction(f"|1 A=b {prefix} Write-Host 1", POWERSHELL) == "# ARGS: A=b\nRUN Write-Host 1"
    assert instruction("/bin/sh -c make", POWERSHELL) == "RUN make"
    assert instruction(f"{prefix} Write-Host 1") == f"RUN {prefix} Write-Host 1"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("RUN a\n```\n-\tLayers:", "RUN a\n\\x60``\n-\tLayers:"),
        ("RUN a\n# Wed, 13 Sep 2017 08:40:50 GMT\nRUN b", "RUN a\n\\x23 Wed, 13 Sep 2017 08:40:50 GMT\nRUN b"),
        ("# date unknown", "\\x23 date unknown"),
        ("RUN \x1b]0;evil\x07\x7f\x9b\r\u202e\ud800", "RUN \\x1b]0;evil\\x07\\x7f\\x9b\\r\\u202e\\ud800"),
        ("RUN a\tb", "RUN a\tb"),
        ("RUN é 火", "RUN é 火"),
    ],
)
def test_record_syntax_and_control_characters_are_escaped(text: str, shown: str) -> None:
    assert escape(text) == shown


@strategies.THOROUGH
@given(drawn.texts)
def test_escaped_text_is_printable_and_cannot_end_its_block(text: str) -> None:
    shown = escape(text)
    assert all(line.replace("\t", "").isprintable() for line in shown.split("\n"))
    assert not any(line == "```" or date_line(line) for line in shown.split("\n"))
    assert escape(shown) == shown
    assert len(shown.split("\n")) == len(text.split("\n"))


@pytest.mark.parametrize(
    ("created_by", "shell"),
    [
        ("|1 " + "a " * 1_000_000, ("a " * 500_000 + "b",)),
        ("|1 " + " /bin/sh -" * 300_000, ()),
        ("RUN " * 1_000_000, ()),
        ("#(nop)" + " " * 3_000_000, ()),
    ],
)
def test_a_hostile_step_is_read_in_linear_time(created_by: str, shell: tuple[str, ...]) -> None:
    started = time.process_time()
    instruction(created_by, shell)
    assert time.process_time() - started < 10  # trying every position with every shell takes days
