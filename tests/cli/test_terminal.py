"""Tests of the progress bars on a terminal."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.cli.bar import _Bar
from tests.cli.test_crash import Gate
from tests.support import images, layouts
from tests.support.command import Mirror, blob_path, leftovers
from tests.support.registry import EmbeddedRegistry, Fault, Flip, Later, serving

LARGE = images.layer(1, 9_000_000)
IMAGE = images.image("linux/amd64", LARGE)
SECONDS = r"  for ([2-9]|[1-9][0-9]+) s"  # at least two: a slow machine skips some


@pytest.fixture(scope="module")
def shop() -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry()) as registry:
        IMAGE.publish(registry, "a", "v1")
        yield registry


@pytest.fixture
def gate(shop: EmbeddedRegistry) -> Iterator[Gate]:
    """A gate in the middle of the layer, where its response stops until the gate opens."""
    held = Gate(6_000_000)
    shop.fault(Fault(method="GET", path=LARGE.digest, action=held))
    yield held
    held.opened.set()
    shop.clear_faults()


class Terminal:
    """A terminal as stderr of a running command."""

    def __init__(self, mirror: Mirror, *args: object, columns: int = 120, plan: str = "") -> None:
        """Start the command; `plan` are the failures to simulate, see `tests.support.crash`."""
        self._end, other = pty.openpty()
        failing = [sys.executable, "-m", "tests.support.crash", plan, *map(str, args)]
        self.process = subprocess.Popen(
            failing if plan else mirror.command(*args),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=other,
            cwd=mirror.folder,
            env={**mirror.env, "TERM": "xterm", "COLUMNS": str(columns)},
        )
        os.close(other)
        self.shown = ""

    def read_until(self, text: str) -> None:
        """Read the output of the terminal until it contains `text`."""
        self.read_until_match(re.escape(text))

    def read_until_match(self, pattern: str) -> None:
        """Read the output of the terminal until a regular expression matches in it."""
        while not re.search(pattern, self.shown):
            data = self._read()
            assert data, f"the command ended and showed only {self.shown!r}"
            self.shown += data.decode()

    def finish(self) -> tuple[int, str]:
        """Read the rest of the output, and return the exit code and stdout."""
        while data := self._read():
            self.shown += data.decode()
        out, _ = self.process.communicate(timeout=60)
        os.close(self._end)
        return self.process.returncode, out.decode()

    def _read(self) -> bytes:
        try:
            return os.read(self._end, 65536)
        except OSError:  # Linux ends a terminal with EIO
            return b""


@pytest.mark.slow
def test_bars_show_the_total_and_each_large_blob(mirror: Mirror, shop: EmbeddedRegistry, gate: Gate) -> None:
    terminal = Terminal(mirror, "pull", f"{shop.host}/a:v1", "--all")
    terminal.read_until("copying")
    terminal.read_until(LARGE.digest[7:19])
    gate.opened.set()
    assert terminal.finish() == (0, f"{shop.host}/a:v1@{IMAGE.root}\n")
    assert terminal.shown.rstrip().splitlines()[-1].rpartition("\r")[2].startswith("\x1b[Kpulled 1 image")


@pytest.mark.slow
@pytest.mark.parametrize("columns", [47, 21, 26, 40, 48, 60, 75, 76, 80])
def test_numbers_of_bars_are_not_cut_in_a_narrow_terminal(
    mirror: Mirror, shop: EmbeddedRegistry, gate: Gate, columns: int
) -> None:
    terminal = Terminal(mirror, "pull", f"{shop.host}/a:v1", "--all", columns=columns)
    terminal.read_until(" left" if columns >= 26 else "%")  # there may be hours left
    gate.opened.set()
    terminal.finish()
    bars = [bar for bar in re.split(r"[\r\n]|\x1b\[A", terminal.shown) if "%" in bar]
    assert bars != []
    # At first there is no rate. On a slow machine, the layer may stand still for long enough to be waited for.
    ends = r"( left| for [0-9]+ s|B of [0-9.]+[kM]?B|[0-9]%) *$"
    assert [bar for bar in bars if not re.search(ends, bar) or len(bar) > columns] == []
    assert all(("B of " in bar) is (columns >= 76) for bar in bars)
    assert all(bool(re.match(r" *[0-9]+%", bar)) is (columns < 48) for bar in bars)


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--no-progress", "-q"])
def test_options_disable_bars(mirror: Mirror, shop: EmbeddedRegistry, flag: str) -> None:
    terminal = Terminal(mirror, "pull", f"{shop.host}/a:v1", "--all", flag)
    assert terminal.finish()[0] == 0
    assert "copying" not in terminal.shown
    assert "\x1b" not in terminal.shown


@pytest.mark.slow
def test_no_bars_without_a_terminal(mirror: Mirror, shop: EmbeddedRegistry, gate: Gate) -> None:
    gate.opened.set()
    assert "copying" not in mirror("pull", f"{shop.host}/a:v1", "--all").err


@pytest.mark.slow
def test_interrupt_is_reported_and_leaves_no_temporary_files(
    mirror: Mirror, shop: EmbeddedRegistry, gate: Gate, tmp_path: Path
) -> None:
    terminal = Terminal(mirror, "pull", f"{shop.host}/a:v1", "--all")
    terminal.read_until("copying")
    terminal.process.terminate()
    assert terminal.finish() == (130, "")
    assert "interrupted" in terminal.shown.splitlines()[-2] + terminal.shown.splitlines()[-1]
    assert leftovers(tmp_path / "layout") == []


@pytest.mark.slow
@pytest.mark.usefixtures("gate")
@pytest.mark.parametrize("signals", [1, 2])
def test_end_without_cleanup_erases_the_bars(mirror: Mirror, shop: EmbeddedRegistry, signals: int) -> None:
    asked, answer = threading.Event(), threading.Event()

    def may_answer() -> bool:
        asked.set()
        return answer.is_set()

    with serving(EmbeddedRegistry()) as target:
        target.fault(Fault(method="DELETE", times=None, action=Later(may_answer)))
        terminal = Terminal(mirror, "copy", f"{shop.host}/a:v1", f"{target.host}/b:v1", "--all")
        terminal.read_until_match(r" [3-6][0-9]% \|")  # an upload has begun
        for _ in range(signals):
            terminal.process.send_signal(signal.SIGINT)
            assert asked.wait(20)
        assert terminal.finish() == (130, "")
        answer.set()
    after = terminal.shown.rpartition("\r\x1b[J")[2]
    assert "%" not in after
    assert "interrupted." in after or signals == 2


@pytest.mark.slow
def test_verdict_of_an_interrupted_verify_is_on_its_own_line(mirror: Mirror, tmp_path: Path) -> None:
    layer, size = images.layer(1, 300), 40_000_000_000  # a file with a hole; to read it takes a minute
    image = images.image("linux/amd64", layer)
    folder = layouts.write(tmp_path / "layout", image)
    os.truncate(blob_path(folder, layer.digest), size)
    data = images.encode({**json.loads(image.data), "layers": [{**layer.descriptor(), "size": size}]})
    digest = images.digest_of(data)
    layouts.add(folder, digest, data)
    layouts.write_index(folder, [{"mediaType": images.OCI_MANIFEST, "digest": digest, "size": len(data)}])
    terminal = Terminal(mirror, "verify", "layout")
    terminal.read_until(" left")
    terminal.read_until(f"  {layer.digest[7:19]}, of ")
    terminal.process.send_signal(signal.SIGINT)
    code, out = terminal.finish()
    assert (code, out.splitlines()[-1].partition(" ")[0]) == (130, "incomplete")
    assert [line for line in terminal.shown.splitlines() if line.startswith("\x1b[Klayout: incomplete")] != []


@pytest.mark.slow
def test_bar_of_a_stalled_transfer_says_what_it_waits_for(mirror: Mirror, shop: EmbeddedRegistry, gate: Gate) -> None:
    terminal = Terminal(mirror, "pull", f"{shop.host}/a:v1", "--all")
    terminal.read_until(f"waiting for {LARGE.digest[7:19]}")
    terminal.read_until_match(SECONDS)
    gate.opened.set()
    assert terminal.finish()[0] == 0
    assert "?" not in terminal.shown


@pytest.mark.slow
def test_bytes_of_an_earlier_attempt_are_done_but_have_no_rate(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    begun, resumed = Gate(6_000_000), Gate(0)
    shop.fault(Fault(method="GET", path=LARGE.digest, times=1, action=begun))
    shop.fault(Fault(method="GET", path=LARGE.digest, skip=1, times=1, action=resumed))
    try:
        first = Terminal(mirror, "pull", f"{shop.host}/a:v1", "--all")
        first.read_until(" 67% |")
        first.process.terminate()
        assert first.finish()[0] == 130
        again = Terminal(mirror, "pull", f"{shop.host}/a:v1", "--all")
        again.read_until_match(r" [56][0-9]% \|")  # before anything has arrived
        again.read_until("waiting for")
        assert "B/s" not in again.shown
        assert " left" not in again.shown
        resumed.opened.set()
        assert again.finish()[0] == 0
    finally:
        begun.opened.set()
        resumed.opened.set()
        shop.clear_faults()


def test_bar_keeps_moving_after_a_fast_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    bar = _Bar.of("copying", 1_000_000_000)
    monkeypatch.setattr(bar, "_time", lambda: now)
    bar.start_t = bar.last_print_t = now
    for count in (500_000_000, *[100_000] * 5):
        now += 0.2
        assert bar.update(count)  # drawn
    bar.close()


def test_rate_of_a_bar_leaves_out_what_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    bar = _Bar.of("copying", 1_000_000_000)
    monkeypatch.setattr(bar, "_time", lambda: now)
    bar.start_t = bar.last_print_t = now
    for begun_again in (False, True):
        if begun_again:
            bar.skip(-bar.n)
            bar.update(-bar.n)
        bar.skip(500_000_000)
        bar.update(500_000_000)
        for _ in range(5):
            now += 0.5
            bar.update(500_000)
        assert bar.format_dict["rate"] == pytest.approx(1_000_000)
        assert "B of 1.00GB  1.00MB/s  08:17 left" in re.sub(r"  +", "  ", str(bar))
    bar.close()


@pytest.mark.slow
def test_total_never_goes_backwards(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    wrong, again = Gate(8_900_000), Gate(1_000_000)
    shop.fault(Fault(method="GET", path=LARGE.digest, times=1, action=(Flip(at=8_000_000), wrong)))
    shop.fault(Fault(method="GET", path=LARGE.digest, skip=2, times=1, action=again))
    try:
        terminal = Terminal(mirror, "pull", f"{shop.host}/a:v1", "--all")
        terminal.read_until("waiting for")
        wrong.opened.set()  # the rest arrives; the digest is wrong, so that all of it is fetched again
        terminal.read_until(" 11% |")
        terminal.read_until_match(SECONDS)
        again.opened.set()
        assert terminal.finish()[0] == 0
    finally:
        wrong.opened.set()
        again.opened.set()
        shop.clear_faults()
    total = r"(?<!\n)\r(?:copying|waiting for) [^\r\n]*? ([0-9]+)% \|"  # bars of blobs are drawn after line feeds
    shown = [int(found) for found in re.findall(total, terminal.shown)]
    assert shown == sorted(shown)
    assert len(set(shown)) > 1


@pytest.mark.slow
def test_images_done_their_names_and_the_registry_are_shown(
    mirror: Mirror, shop: EmbeddedRegistry, gate: Gate, tmp_path: Path
) -> None:
    names = [f"{shop.host}/{name}:v1" for name in ("first", "a", "last")]
    small = images.image("linux/amd64", images.layer(7, 300))
    small.publish(shop, "first", "v1")
    small.publish(shop, "last", "v1")
    terminal = Terminal(mirror, "pull", *names, "--all", "-j", "1", columns=80)
    terminal.read_until(f"  1 of 3 images: {names[1]}")
    terminal.read_until(f"  1 of 3 images, waiting for {shop.host}: ")
    assert terminal.process.stdout
    assert terminal.process.stdout.readline().decode() == f"{names[0]}@{small.root}\n"
    assert names[0] in (tmp_path / "layout/index.json").read_text()
    gate.opened.set()
    code, out = terminal.finish()
    assert (code, out) == (0, f"{names[1]}@{IMAGE.root}\n{names[2]}@{small.root}\n")
    bars = terminal.shown.rpartition("pulled 3 images")[0]
    assert [line for line in re.split(r"[\r\n]|\x1b\[A", bars) if len(line) > 80] == []


@pytest.mark.slow
def test_error_after_bars_starts_its_line(mirror: Mirror, tmp_path: Path) -> None:
    """The bar of a large blob appears at once, that of the total only later, so that it may not be there."""
    folder = layouts.write(tmp_path / "layout", IMAGE, name="registry.example/a:v1")
    terminal = Terminal(mirror, "export", folder, "image.tar", columns=80, plan="free:100")
    assert terminal.finish() == (1, "")
    assert f"  {LARGE.digest[7:19]} " in terminal.shown
    assert re.search(r"\r\x1b\[K(\x1b\[[0-9;]+m)?error:(\x1b\[0m)? image.tar has 100 B free", terminal.shown)
