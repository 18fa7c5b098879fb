"""Pictures of report pages, drawn by headless Chromium: `make screenshots` after `make run` and RoSPr on nano.

    make run
    python -m infoprompt_jax.main --config=configs/nano_rospr.py:sources
    python -m infoprompt_jax.main --config=configs/nano_rospr.py
    make screenshots

A picture is a part of a page as a reader sees it. A run that is missing is named, and its picture stays as it was.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

FOLDER = pathlib.Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH = 1180  # pixels
# By picture: the run's workdir, the section that the picture begins with ("" = the page's top), its height in pixels.
PICTURES = {
    "report-run": ("runs/nano", "", 1350),
    "report-rospr": ("runs/nano_rospr", "", 860),
    "report-rospr-map": ("runs/nano_rospr", "Map of source prompts", 750),
}
LARGEST = 200_000  # bytes of a picture


def browser() -> str:
    """The first of BROWSERS that is installed. Raises SystemExit."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    return path or sys.exit(f"error: none of {', '.join(BROWSERS)} is installed: install Chromium.")


def part(page: str, title: str) -> str:
    """The page from the section with this title on. Raises ValueError where it has none."""
    if not title:
        return page
    heading = re.search(rf"<h2[^>]*>{re.escape(title)}<", page)
    if heading is None:
        raise ValueError(f"The page has no section {title!r}.")
    return page[: page.index("<h1")] + page[heading.start() :]


def take(page: str, height: int, picture: pathlib.Path) -> None:
    """Writes a PNG of the top of a page."""
    with tempfile.TemporaryDirectory() as folder:
        html, png = pathlib.Path(folder) / "page.html", pathlib.Path(folder) / "page.png"
        html.write_text(page, encoding="utf-8")
        command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{height}", f"--screenshot={png}"]
        subprocess.run([*command, html.as_uri()], check=True, capture_output=True, timeout=120)
        picture.write_bytes(smaller(png))


def smaller(png: pathlib.Path) -> bytes:
    """The picture with 128 colours, which its pages do not exceed to the eye."""
    from PIL import Image

    with Image.open(png) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(png, optimize=True)
    return png.read_bytes()


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("names", nargs="*", help=f"of {', '.join(PICTURES)}; none: all")
    for name in options.parse_args().names or PICTURES:
        workdir, title, height = PICTURES[name]
        page = pathlib.Path(workdir) / "report.html"
        if not page.exists():
            print(f"{page} does not exist: {name}.png stays as it is.")
            continue
        take(part(page.read_text(encoding="utf-8"), title), height, FOLDER / f"{name}.png")
        print(f"{name}.png")


if __name__ == "__main__":
    main()
