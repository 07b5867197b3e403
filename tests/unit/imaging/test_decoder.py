"""The decoder process: right pixels, a deadline, a limit on memory, and a life of its own."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.config.web import WebSettings
from dicom_node.errors import NodeError, NotAnalysable, StorageFailed
from dicom_node.imaging.decoder import Decoder
from dicom_node.imaging.pixels import read_film
from dicom_node.imaging.rendering import render_frame
from dicom_node.imaging.voi import VoiWindow
from tests.support.factories import film, put, with_overlay, write

MAX_PIXELS = 64_000_000


@pytest.fixture(scope="module")
def shared() -> Iterator[Decoder]:
    with Decoder(max_pixels=MAX_PIXELS, decode_seconds=60, decode_bytes=4 << 30) as decoder:
        yield decoder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(film(photometric="MONOCHROME1"), tmp_path / "film.dcm")


def pid_of(decoder: Decoder) -> int:
    decoder.warm()
    return decoder._process.pid


def wait_until(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_the_pixels_are_those_of_the_film(shared: Decoder, path: Path) -> None:
    pixels = shared.decode(path)
    assert np.array_equal(pixels, read_film(path, max_pixels=MAX_PIXELS).pixels)
    assert pixels.dtype == np.float32
    assert pixels.flags.writeable


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, RLELossless, JPEGLSLossless])
def test_cells_are_those_that_were_stored(shared: Decoder, tmp_path: Path, syntax: str) -> None:
    stored = np.arange(64 * 80).reshape(64, 80) - 2000
    plain = film(pixels=stored, signed=True, bits=16)
    file = write(film(pixels=stored, signed=True, bits=16, transfer_syntax=syntax), tmp_path / "cells.dcm")
    assert shared.decode_cells(file).tobytes() == plain.PixelData


def test_a_picture_comes_in_colour_and_by_its_window(shared: Decoder, path: Path, tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    ds = film(pixels=np.zeros((40, 50), np.int64), bits=8, photometric="RGB", SamplesPerPixel=3,
              PlanarConfiguration=0, PixelData=colours.tobytes())  # fmt: skip
    assert np.array_equal(shared.render_frame(write(ds, tmp_path / "rgb.dcm"), 1, None).pixels, colours)
    asked = VoiWindow(2000, 700, "SIGMOID")
    expected = render_frame(path, max_pixels=MAX_PIXELS, windowing=asked).pixels
    assert np.array_equal(shared.render_frame(path, 1, asked).pixels, expected)
    assert not np.array_equal(shared.render_frame(path, 1, None).pixels, expected)
    with pytest.raises(NotAnalysable, match="no frame 2"):
        shared.render_frame(path, 2, None)


def test_a_film_comes_with_the_curve_the_shape_and_the_overlay_that_it_is_shown_with(
    shared: Decoder, path: Path, tmp_path: Path
) -> None:
    plain = shared.decode_full_range(path)
    assert (plain.window.curve, plain.aspect_ratio, plain.overlay) == (None, 1, False)
    ds = film(rows=96, columns=80, window=(2048, 800), voi_function="SIGMOID", PixelAspectRatio=["2", "1"])
    drawn = np.arange(96 * 80).reshape(96, 80) % 7 == 0
    shown = shared.decode_full_range(write(with_overlay(ds, drawn), tmp_path / "curved.dcm"))
    expected = read_film(ds, max_pixels=MAX_PIXELS, full_range=True)
    assert np.array_equal(shown.pixels, expected.pixels)
    assert expected.window is not None
    assert (shown.window.center, shown.window.width) == (expected.window.center, expected.window.width)
    assert shown.window.curve == pytest.approx(expected.window.curve, abs=1e-5)
    assert (shown.aspect_ratio, shown.overlay) == (2, True)
    assert np.array_equal(shared.decode_overlay(tmp_path / "curved.dcm"), drawn)
    assert shared.render_frame(tmp_path / "curved.dcm", 1, None).aspect_ratio == 2
    write(with_overlay(ds, np.zeros((96, 80), bool)), tmp_path / "empty.dcm")
    assert not shared.decode_full_range(tmp_path / "empty.dcm").overlay


def test_an_earlier_film_is_not_touched_by_a_later_one(shared: Decoder, path: Path, tmp_path: Path) -> None:
    first = shared.decode(path)
    kept = first.copy()
    shared.decode(write(film(seed=9), tmp_path / "other.dcm"))
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("side", [2040, 8000])
def test_a_film_of_very_many_tiles_ends_at_a_limit(tmp_path: Path, path: Path, side: int) -> None:
    """65,025 tiles are as many as JPEG 2000 can count; a million are more (ISO/IEC 15444-1 A.5.1)."""
    ds = film(rows=64, columns=64, bits=8, transfer_syntax=JPEG2000Lossless)
    stream = bytearray(next(generate_frames(ds.PixelData, number_of_frames=1)))
    size = stream.index(b"\xff\x51")
    struct.pack_into(">4xH8L", stream, size, 0, side, side, 0, 0, 8, 8, 0, 0)
    put(ds, {"Rows": side, "Columns": side, "PixelData": encapsulate([bytes(stream)])})
    with Decoder(max_pixels=MAX_PIXELS, decode_seconds=20, decode_bytes=1 << 30) as decoder:
        with pytest.raises(NotAnalysable):
            decoder.decode(write(ds, tmp_path / "tiles.dcm"))
        assert decoder.decode(path).any()


@pytest.mark.parametrize(
    "offsets",
    [
        (2, 64, 0xFFFFFFFF), (2, 64, 64), (2, 0, 0), (2, 1 << 20, 64), (2, 0x7FFFFFFF, 0x80000000),
        (0,), (3, 64, 65, 66), (16, 64), (0xFFFFFFFF, 64), (2, 64, 1 << 30),
    ],
)  # fmt: skip
def test_rle_whose_offsets_lie_is_refused(
    shared: Decoder, tmp_path: Path, path: Path, offsets: tuple[int, ...]
) -> None:
    """Number of segments and their offsets are the first 64 bytes of a frame (PS3.5 G.5)."""
    ds = film(rows=64, columns=80, bits=16, transfer_syntax=RLELossless)
    frame = bytearray(next(generate_frames(ds.PixelData, number_of_frames=1)))
    frame[:64] = struct.pack(f"<{len(offsets)}L", *offsets).ljust(64, b"\0")
    put(ds, {"PixelData": encapsulate([bytes(frame)])})
    process = pid_of(shared)
    with pytest.raises(NotAnalysable):
        shared.decode(write(ds, tmp_path / "rle.dcm"))
    assert shared.decode(path).any()
    assert pid_of(shared) == process


def test_one_process_serves_all_films(shared: Decoder, path: Path) -> None:
    pid = pid_of(shared)
    for _ in range(5):
        shared.decode(path)
    assert pid_of(shared) == pid
    descriptors = open_files()
    for _ in range(5):
        shared.decode(path)
    assert open_files() == descriptors


def test_a_refusal_keeps_its_reason_and_the_process(shared: Decoder, tmp_path: Path, path: Path) -> None:
    pid = pid_of(shared)
    blank = write(film(pixels=np.zeros((128, 128), np.int64)), tmp_path / "blank.dcm")
    with pytest.raises(NotAnalysable, match="blank") as caught:
        shared.decode(blank)
    assert caught.value.reason == "blank"
    shared.decode(path)
    assert pid_of(shared) == pid


def test_a_missing_file_is_a_matter_of_storage(shared: Decoder, tmp_path: Path) -> None:
    with pytest.raises(StorageFailed):
        shared.decode(tmp_path / "none.dcm")


def test_it_starts_when_it_is_first_needed() -> None:
    decoder = Decoder(max_pixels=MAX_PIXELS, decode_seconds=60, decode_bytes=4 << 30)
    assert decoder._process is None
    decoder.close()


def test_a_film_that_takes_too_long_is_given_up_and_the_next_one_decoded(path: Path, tmp_path: Path) -> None:
    big = write(film(rows=3000, columns=3000, seed=1), tmp_path / "big.dcm")
    with Decoder(max_pixels=MAX_PIXELS, decode_seconds=60, decode_bytes=4 << 30) as decoder:
        pid = pid_of(decoder)
        os.kill(pid, signal.SIGSTOP)  # slower than any film
        decoder._seconds = 0.2
        with pytest.raises(NotAnalysable, match=r"longer than 0\.2 s") as caught:
            decoder.decode(big)
        assert caught.value.reason == "undecodable"
        assert not lives(pid)
        decoder._seconds = 60
        assert decoder.decode(path).shape == (512, 448)


def test_a_process_that_dies_while_decoding_takes_only_its_film_along(path: Path) -> None:
    with Decoder(max_pixels=MAX_PIXELS, decode_seconds=60, decode_bytes=4 << 30) as decoder:
        pid = pid_of(decoder)
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(0.2, os.kill, (pid, signal.SIGSEGV)).start()
        threading.Timer(0.3, os.kill, (pid, signal.SIGCONT)).start()
        with pytest.raises(NotAnalysable, match="SIGSEGV") as caught:
            decoder.decode(path)
        assert caught.value.reason == "undecodable"
        assert decoder.decode(path).shape == (512, 448)


def test_a_process_that_died_while_idle_is_blamed_on_no_film(path: Path) -> None:
    with Decoder(max_pixels=MAX_PIXELS, decode_seconds=60, decode_bytes=4 << 30) as decoder:
        pid = pid_of(decoder)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not lives(pid))
        assert decoder.decode(path).shape == (512, 448)
        assert pid_of(decoder) != pid


def test_memory_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    big = write(
        film(rows=6000, columns=6000, pixels=np.arange(36_000_000).reshape(6000, 6000) % 4096), tmp_path / "b"
    )
    with Decoder(max_pixels=MAX_PIXELS, decode_seconds=60, decode_bytes=400 << 20) as decoder:
        with pytest.raises(NotAnalysable, match=r"memory|ended its process") as caught:
            decoder.decode(big)
        assert caught.value.reason == "undecodable"
        small = write(film(), tmp_path / "film.dcm")
        assert decoder.decode(small).shape == (512, 448)


def test_the_largest_film_is_shown_in_the_memory_that_the_page_gives_and_refused_in_less(
    tmp_path: Path,
) -> None:
    """64 megapixels (worker.max_pixels), as the page reads them."""
    ds = film(rows=80, columns=80, Rows=8000, Columns=8000)
    ds.PixelData = np.tile(np.frombuffer(ds.PixelData, np.uint16).reshape(80, 80), (100, 100)).tobytes()
    path = write(ds, tmp_path / "film.dcm")
    with Decoder(
        max_pixels=MAX_PIXELS, decode_seconds=120, decode_bytes=WebSettings().decode_bytes
    ) as decoder:
        assert decoder.decode_full_range(path).pixels.shape == (8000, 8000)
    with Decoder(max_pixels=MAX_PIXELS, decode_seconds=120, decode_bytes=400 << 20) as decoder:
        with pytest.raises(NotAnalysable, match=r"needs more memory than a film may take"):
            decoder.decode_full_range(path)
        assert decoder.decode(write(film(), tmp_path / "small.dcm")).shape == (512, 448)


def test_a_picture_larger_than_its_header_says_ends_at_a_limit(tmp_path: Path) -> None:
    ds = film(bits=8, rows=128, columns=128, transfer_syntax=JPEGBaseline8Bit)
    start_of_frame = ds.PixelData.index(b"\xff\xc0")
    jpeg = bytearray(ds.PixelData[ds.PixelData.index(b"\xff\xd8") :])
    place = start_of_frame - ds.PixelData.index(b"\xff\xd8") + 5
    jpeg[place : place + 4] = (60000).to_bytes(2, "big") * 2
    bomb = write(put(ds, {"PixelData": encapsulate([bytes(jpeg)])}), tmp_path / "bomb.dcm")
    with Decoder(max_pixels=MAX_PIXELS, decode_seconds=20, decode_bytes=1 << 30) as decoder:
        with pytest.raises(NotAnalysable) as caught:
            decoder.decode(bomb)
        assert caught.value.reason == "undecodable"


def test_a_process_that_cannot_start_is_no_fault_of_a_film(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    decoder = Decoder(max_pixels=MAX_PIXELS, decode_seconds=60, decode_bytes=4 << 30)
    with pytest.raises(NodeError, match=r"did not start \(exit code 1\)") as caught:
        decoder.decode(path)
    assert not isinstance(caught.value, NotAnalysable)


def test_closing_ends_the_process(path: Path) -> None:
    with Decoder(max_pixels=MAX_PIXELS, decode_seconds=60, decode_bytes=4 << 30) as decoder:
        pid = pid_of(decoder)
    assert not lives(pid)


def test_it_dies_with_its_parent(path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from dicom_node.imaging.decoder import Decoder\n"
        "decoder = Decoder(max_pixels=10**8, decode_seconds=60, decode_bytes=4 << 30)\n"
        "decoder.warm()\n"
        "print(decoder._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    wait_until(lambda: not lives(int(ended.stdout)))


def test_a_daemonic_process_may_use_it(path: Path) -> None:
    code = (
        "import multiprocessing, sys\n"
        "from pathlib import Path\n"
        "from dicom_node.imaging.decoder import Decoder\n"
        "def work(path, answer):\n"
        "    with Decoder(max_pixels=10**8, decode_seconds=60, decode_bytes=4 << 30) as decoder:\n"
        "        answer.put(decoder.decode(path).shape)\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('fork')\n"
        "    answer = context.Queue()\n"
        "    context.Process(target=work, args=(Path(sys.argv[1]), answer), daemon=True).start()\n"
        "    print(answer.get(timeout=60))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert ended.stdout == "(512, 448)\n", ended.stderr


def test_a_forked_child_gets_a_process_of_its_own(path: Path) -> None:
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from dicom_node.imaging.decoder import Decoder\n"
        "decoder = Decoder(max_pixels=10**8, decode_seconds=60, decode_bytes=4 << 30)\n"
        "decoder.warm()\n"
        "first = decoder._process.pid\n"
        "if os.fork() == 0:\n"
        "    decoder.decode(Path(sys.argv[1]))\n"
        "    other = decoder._process.pid\n"
        "    decoder.close()\n"
        "    os._exit(other == first)\n"
        "assert os.wait()[1] == 0\n"
        "decoder.decode(Path(sys.argv[1]))\n"
        "assert decoder._process.pid == first\n"
        "decoder.close()\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_it_may_be_shared_by_threads(shared: Decoder, tmp_path: Path) -> None:
    paths = [write(film(rows=100 + n, columns=90), tmp_path / f"{n}.dcm") for n in range(8)]
    shapes: dict[int, tuple[int, ...]] = {}

    def work(n: int) -> None:
        shapes[n] = shared.decode(paths[n]).shape

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shapes == {n: (100 + n, 90) for n in range(8)}
