"""PDF books out: each picture's own data, the sizes of its pages, the same bytes every time, and little memory."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pikepdf
import pypdfium2
import pytest
from PIL import Image

from panelhue import pdf_files
from panelhue.errors import UsageError
from panelhue.outputs import write_whole
from panelhue.pdf_files import PdfFacts, PdfPage, pack_pdf
from panelhue.workspaces import checked_target, default_target
from tests.book_files import picture_file, quarters

FACTS = PdfFacts("Pip & Mosk ü", "Coloured by Panelhue (exemplar 1)", right_to_left=True)


def pdf_of(folder: Path, files: dict[str, bytes], size: tuple[float, float] | None = None) -> Path:
    for name, data in files.items():
        write_whole(folder / "pages" / name, data)
    pages = [PdfPage(name, size) for name in files]
    pack_pdf(folder / "book.pdf", folder / "pages", pages, FACTS, folder / "parts")
    return folder / "book.pdf"


def images_of(path: Path) -> list[tuple[bytes, Image.Image]]:
    """The data of each page's image as it lies in the file, and the picture."""
    with pikepdf.open(path) as document:
        found = [page.Resources.XObject[next(iter(page.Resources.XObject))] for page in document.pages]
        return [(one.read_raw_bytes(), pikepdf.PdfImage(one).as_pil_image()) for one in found]


def test_a_jpeg_goes_in_as_the_very_file(tmp_path: Path) -> None:
    data = picture_file(quarters(), "JPEG")
    assert [raw for raw, _ in images_of(pdf_of(tmp_path, {"a.jpg": data}))] == [data]


@pytest.mark.parametrize(
    ("kind", "how"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("BMP", {})], ids=str
)
def test_other_files_go_in_with_their_exact_pixels(tmp_path: Path, kind: str, how: dict) -> None:
    [(_, image)] = images_of(pdf_of(tmp_path, {"a.png": picture_file(quarters(), kind, **how)}))
    assert np.array_equal(np.asarray(image), quarters())


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.dstack([quarters(), np.full((80, 60), 255, np.uint8)])),
        Image.fromarray(quarters()).quantize(4),
        Image.fromarray(np.arange(4800, dtype=np.uint16).reshape(80, 60) * 13),
        Image.fromarray(quarters()[..., 0] > 100),
        Image.fromarray(quarters()[..., 0]).convert("LA"),
    ],
    ids=["alpha", "palette", "16 bits", "1 bit", "grey with alpha"],
)
def test_a_page_that_was_kept_as_it_came_is_shown(tmp_path: Path, image: Image.Image) -> None:
    path = pdf_of(tmp_path, {"a.png": picture_file(image)}, (60, 80))
    document = pypdfium2.PdfDocument(path)
    shown = np.asarray(document[0].render(scale=1).to_pil().convert("L"), np.int16)
    document.close()
    wanted = np.asarray(image.convert("RGBA").convert("L") if image.mode != "I;16" else image) // (
        256 if image.mode == "I;16" else 1
    )
    assert np.abs(shown - wanted).max() <= 3


def test_pages_have_the_sizes_of_the_old_book_where_the_shape_is_the_same(tmp_path: Path) -> None:
    def sizes(size: tuple[float, float] | None) -> list[float]:
        with pikepdf.open(pdf_of(tmp_path, {"a.png": picture_file(quarters(600, 800))}, size)) as document:
            return [float(one) for one in document.pages[0].MediaBox]

    assert sizes((450, 600)) == [0, 0, 450, 600]
    assert sizes((450, 700)) == [0, 0, 144, 192]  # of another picture; 300 DPI
    assert sizes(None) == [0, 0, 144, 192]


def test_it_says_what_it_is(tmp_path: Path) -> None:
    with pikepdf.open(pdf_of(tmp_path, {"a.png": picture_file(quarters())})) as document:
        assert {str(key): str(value) for key, value in document.docinfo.items()} == {
            "/Title": "Pip & Mosk ü",
            "/Producer": "Panelhue",
            "/Keywords": "Coloured by Panelhue (exemplar 1)",
        }
        assert document.Root.ViewerPreferences.Direction == "/R2L"


def test_equal_pages_make_equal_bytes(tmp_path: Path) -> None:
    files = {f"{place}.png": picture_file(quarters(shift=place)) for place in range(4)}
    one, other = (pdf_of(tmp_path / name, files).read_bytes() for name in ("one", "other"))
    assert one == other


def test_a_book_made_in_parts_is_the_same_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"{place}.png": picture_file(quarters(shift=place)) for place in range(4)}
    whole = images_of(pdf_of(tmp_path / "one", files))
    monkeypatch.setattr(pdf_files, "PART", 1)
    parts = images_of(pdf_of(tmp_path / "other", files))
    assert [raw for raw, _ in parts] == [raw for raw, _ in whole]
    assert not (tmp_path / "other" / "parts").exists()


def test_a_page_that_is_no_picture_leaves_the_old_book(tmp_path: Path) -> None:
    before = pdf_of(tmp_path, {"a.png": picture_file(quarters())}).read_bytes()
    with pytest.raises(OSError, match="cannot identify"):
        pdf_of(tmp_path, {"a.png": picture_file(quarters()), "b.png": b"no picture"})
    assert (tmp_path / "book.pdf").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["book.pdf", "pages"]


def test_without_img2pdf_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "img2pdf", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        checked_target(tmp_path, tmp_path.parent / "book.pdf")
    assert (caught.value.reason, "panelhue[books]" in caught.value.message) == ("EXTRA_MISSING", True)


@pytest.mark.parametrize(
    ("book", "target"),
    [
        ("tale.cbz", "tale-colour.cbz"),
        ("tale.CBR", "tale-colour.cbz"),
        ("tale.epub", "tale-colour.cbz"),
        ("tale.pdf", "tale-colour.pdf"),
        ("tale.png", "tale-colour"),
    ],
)
def test_unless_told_the_result_lies_beside_the_book_and_is_of_its_kind(tmp_path: Path, book: str, target: str) -> None:
    (tmp_path / book).write_bytes(b"x")
    assert default_target(tmp_path / book) == tmp_path / target
    assert default_target(tmp_path) == tmp_path.with_name(f"{tmp_path.name}-colour")


@pytest.mark.parametrize("name", ["out.cbr", "out.epub", "out.zip", "out.png", "book.cbz"])
def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "book.cbz").write_bytes(b"x")
    with pytest.raises(UsageError):
        checked_target(tmp_path / "book.cbz", tmp_path / name)


def test_a_large_book_takes_the_memory_of_a_part(tmp_path: Path) -> None:
    import subprocess

    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8)  # 4.3 MB that do not pack
    write_whole(tmp_path / "pages" / "a.png", picture_file(noise, compress_level=0))
    script = f"""
import resource
from pathlib import Path
from panelhue import pdf_files
pdf_files.PART = 8 * 1024**2
def used(count):
    pages = [pdf_files.PdfPage("a.png", None)] * count
    folder = Path({str(tmp_path)!r})
    pdf_files.pack_pdf(folder / "b.pdf", folder / "pages", pages, pdf_files.PdfFacts("b"), folder / "parts")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(used(4), used(40), (Path({str(tmp_path)!r}) / "b.pdf").stat().st_size)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    few, many, size = map(int, done.stdout.split())
    assert size > 40 * 4_300_000
    assert many - few < 60_000  # KiB: nowhere near the 155 MB more
