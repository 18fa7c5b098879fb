"""The page to look at: what is on it, that nothing on it runs or is fetched, and the map worked by hand."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess

import ml_collections
import numpy as np
import pytest
import tiny
import tiny_runs
from html_elements import HOSTILE, Elements, assert_fetches_nothing

from infoprompt_jax import jobs
from infoprompt_jax.prompts.saved import Prompt
from infoprompt_jax.rospr import keys, page, prompt_map
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.library_files import Entry, Model
from infoprompt_jax.rospr.library_sources import SourcePrompt
from infoprompt_jax.rospr.results import TITLES

P, N, COUNT = 3, 5, 6

pytestmark = pytest.mark.usefixtures("programs")


def make_library(path: pathlib.Path, keys_of: list[np.ndarray], model: Model, backbone: Model) -> PromptLibrary:
    """Every text that data can bring is hostile, and half a surrogate pair is among the instances."""
    values = np.random.default_rng(0).normal(scale=3, size=(len(keys_of), P, backbone.width)).astype(np.float32)
    known = {"backbone": backbone.name, "fingerprint": backbone.fingerprint}
    sources = [
        SourcePrompt(
            Entry(
                f"source {m} {HOSTILE}",
                f"data {m // 2} {HOSTILE}",
                f"template {m} {HOSTILE}",
                f"family {m % 3} {HOSTILE}" if m else "",
                f"format {m % 2} {HOSTILE}",
                (HOSTILE, "No"),
                {f"accuracy {HOSTILE}": m / 8},
            ),
            Prompt(value_PD, known),
            keys_NR.astype(np.float32),
            [f"instance {m}.{i} {HOSTILE} ø \ud800" for i in range(len(keys_NR))],
        )
        for m, (value_PD, keys_NR) in enumerate(zip(values, keys_of, strict=True))
    ]
    return PromptLibrary.create(path, model, backbone, sources, mesh=tiny.one_device())


def configure(folder: pathlib.Path) -> ml_collections.ConfigDict:
    """Sixteen rows with two templates whose names and texts are hostile."""
    config = tiny_runs.config(folder, job="rospr_eval", prompt__length=0)
    entries = {
        f"{name} {HOSTILE}": {
            "name": f"{name} {HOSTILE}",
            "jinja": f"{text} {{{{ words }}}} ||| {{{{ answer_choices[label] }}}}",
        }
        for name, text in (("bare", ""), ("question", HOSTILE))
    }
    for entry in entries.values():
        entry["answer_choices"] = "animals ||| gadgets"
    path = folder / "templates" / "generated" / "words" / "templates.yaml"
    path.write_text(json.dumps({"templates": entries}))  # JSON is YAML
    config.rospr.update(library=str(folder / "library"), queries=6, top=4)
    return config


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, programs: dict[str, str]) -> pathlib.Path:
    """A library, and the workdir of an evaluation that is finished."""
    folder, model = tmp_path_factory.mktemp("page"), tiny.backbone()
    width = model.config.d_model
    keys_of = [np.random.default_rng(m).normal(size=(N, width)) for m in range(COUNT)]
    make_library(folder / "library", keys_of, keys.model(model), keys.model(model))
    jobs.run(configure(folder), str(folder / "run"))
    return folder


@pytest.fixture(scope="module")
def report(done: pathlib.Path) -> Elements:
    return Elements((done / "run" / "report.html").read_text(encoding="utf-8"))


def test_data_are_text_and_nothing_is_fetched(done: pathlib.Path, report: Elements) -> None:
    assert_fetches_nothing((done / "run" / "report.html").read_text(encoding="utf-8"))
    assert not report.texts("img")
    assert any(f"{HOSTILE} ø ?" in shown for shown in report.texts("blockquote"))


def test_every_source_prompt_is_a_point(report: Elements) -> None:
    """Twice, with all that is known of it, and it leads to its place in the list."""
    maps = [text for tag, a, text in report.elements if tag == "svg" and a.get("class") == "map"]
    titles = report.texts("title")[1:]
    assert len(maps) == 2 and len(titles) == 2 * COUNT and titles[:COUNT] == titles[COUNT:]
    for m, title in enumerate(titles[:COUNT]):
        assert title.count(HOSTILE) == (6 if m else 5)
        for shown in (f"source {m} ", f"data {m // 2} ", f"template {m} ", f"format {m % 2} ", f"{m / 8:.4f}"):
            assert shown in title
    targets = [a["href"][1:] for tag, a, _ in report.elements if tag == "a" and a["href"].startswith("#source-")]
    assert targets[-2 * COUNT :] == 2 * [f"source-{m}" for m in range(COUNT)]
    places = {a["id"] for _, a, _ in report.elements if "id" in a}
    assert {a["href"][1:] for tag, a, _ in report.elements if tag == "a"} <= places
    legend = [text for text in report.texts("li") if HOSTILE in text or text.startswith("not known")]
    assert [text.replace(HOSTILE, "").replace("  ", " ") for text in legend] == [
        *("family 0 (1)", "family 1 (2)", "family 2 (2)", "not known (1)"),
        *("format 0 (3)", "format 1 (3)"),
    ]


def test_every_task_is_explained(done: pathlib.Path, report: Elements) -> None:
    results = json.loads((done / "run" / "results.json").read_text())
    records = {r["target"]: r for r in (json.loads(p.read_text()) for p in (done / "run" / "targets").glob("*.json"))}
    folds = report.texts("details")
    assert len(folds) == len(results["targets"]) == 2
    for shown, target in zip(folds, results["targets"], strict=True):
        record = records[target["target"]]
        assert shown.startswith(record["template"]) and "6 queries of validation" in shown
        for method, score in record["scores"].items():
            assert f"{TITLES[method]}" in shown and f"{score:.4f}" in shown
        for candidate in record["candidates"]:
            assert f"{candidate['name']}{candidate['family']}" in shown and f"{candidate['similarity']:.3f}" in shown
        for one in record["nearest"]:
            assert one["query"].replace("\r", "\n") in shown and f"instance (key {one['key']})" in shown
        weights = [f"{part['weight']:.2f} {part['name']}" for part in record["chosen"]["inter"]]
        assert "INTER" + "".join(weights) in shown
    (dataset,) = results["datasets"].values()
    spread = dataset["scores"]["inter"]
    assert f"{spread['median']:.3f}{spread['q25']:.3f} to {spread['q75']:.3f}" in report.texts("td")


def test_the_command_writes_what_the_job_wrote(done: pathlib.Path, tmp_path: pathlib.Path) -> None:
    page.main([str(done / "library"), str(done / "run"), "--out", str(tmp_path / "again.html")])
    assert (tmp_path / "again.html").read_bytes() == (done / "run" / "report.html").read_bytes()
    page.main([str(done / "library"), "--out", str(tmp_path / "library.html")])
    alone = Elements((tmp_path / "library.html").read_text(encoding="utf-8"))
    assert alone.texts("h1") == ["Source Prompt Library"] and len(alone.texts("title")) == 1 + 2 * COUNT
    assert not alone.texts("details")


@pytest.mark.parametrize("wrong", ["unfinished", "another library", "no library"])
def test_what_does_not_fit_is_refused(
    wrong: str, done: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library, run = done / "library", done / "run"
    if wrong == "unfinished":
        run = tmp_path
    elif wrong == "no library":
        library = tmp_path / "library"
    else:
        library = tmp_path / "library"
        make_library(library, [np.eye(2)], Model("r", "0a", 2), Model("b", "0b", 2))
    with pytest.raises(SystemExit, match="2"):
        page.main([str(library), str(run), "--out", str(tmp_path / "page.html")])
    expected = {"unfinished": "no results.json", "another library": "another library", "no library": "does not exist"}
    assert expected[wrong] in capsys.readouterr().err and not (tmp_path / "page.html").exists()


def test_the_projection_by_hand() -> None:
    """Four means on a cross in the plane of two directions of five; each of two keys around it."""
    x, y = np.array([0, -0.6, 0, 0.8, 0]), np.array([0, 0, 1, 0, 0])
    means = np.stack([-3 * x, y, 3 * x, -y]) + 7
    off = np.random.default_rng(0).normal(size=(4, 5))
    keys_KR = np.concatenate([means + off, means - off]).astype(np.float32)
    places, shares = prompt_map.project(keys_KR, np.tile(np.arange(4), 2))
    np.testing.assert_allclose(places, [[-3, 0], [0, 1], [3, 0], [0, -1]], atol=1e-5)
    np.testing.assert_allclose(shares, [0.9, 0.1], atol=1e-5)
    mirrored, _ = prompt_map.project(-keys_KR, np.tile(np.arange(4), 2))
    np.testing.assert_allclose(mirrored, -places, atol=1e-5)


@pytest.mark.parametrize("keys_KR", [np.ones((1, 4)), np.full((3, 4), 0.1), np.array([[1.0], [2.0], [4.0]])])
def test_maps_of_next_to_nothing(keys_KR: np.ndarray) -> None:
    """One source prompt; several that are the same; keys of one number."""
    places, shares = prompt_map.project(keys_KR.astype(np.float32), np.arange(len(keys_KR)))
    pixels = prompt_map.pixels(places)
    assert pixels.shape == (len(keys_KR), 2) and np.isfinite(pixels).all() and np.isfinite(shares).all()
    np.testing.assert_array_equal(pixels[:, 1], prompt_map.HEIGHT / 2)
    if keys_KR.shape[1] > 1:
        np.testing.assert_array_equal(pixels[:, 0], prompt_map.WIDTH / 2)


def test_the_picture_keeps_distances() -> None:
    places = np.random.default_rng(0).normal(size=(20, 2))
    pixels = prompt_map.pixels(places)
    ratio = np.linalg.norm(pixels[1:] - pixels[0], axis=1) / np.linalg.norm(places[1:] - places[0], axis=1)
    np.testing.assert_allclose(ratio, ratio[0])
    assert (pixels >= prompt_map.MARGIN - 1e-9).all()
    assert (pixels <= np.array([prompt_map.WIDTH, prompt_map.HEIGHT]) - prompt_map.MARGIN + 1e-9).all()


def test_marks_tell_kinds_apart() -> None:
    kinds = [f"kind {i}" for i in range(30)]
    shown = Elements(prompt_map.figure("t", kinds, np.zeros((30, 2)), kinds))
    marks = [(a["d"], a["fill"]) for tag, a, _ in shown.elements if tag == "path"]
    assert len(set(marks[:30])) == 30 and marks[:30] != marks[30:] and sorted(marks[:30]) == sorted(marks[30:])


def test_the_heat_map_by_hand() -> None:
    report = {"sources": ["a", "b"], "targets": ["x", "y"], "share": [[1.0, 0.5], [0.0, 0.5]]}
    cells = [
        (a["style"], "".join(t)) for tag, a, t in Elements("".join(page.vote_shares(report))).elements if "style" in a
    ]
    half = "background:#80b8d8;color:#1a1a1a"
    assert cells == [
        ("background:#0072b2;color:#fff", "1.00"),
        (half, "0.50"),
        ("background:#ffffff;color:#1a1a1a", ""),
        (half, "0.50"),
    ]


MEASURE = """<!DOCTYPE html><meta charset="utf-8">
<iframe id="f" src="report.html" style="width:390px;height:800px;border:0"></iframe>
<script>window.onload = () => {
  const page = document.getElementById("f").contentDocument, root = page.documentElement;
  page.querySelectorAll("details").forEach(one => one.open = true);
  const boxes = [...page.querySelectorAll("svg.map")].map(map => {
    const frame = map.getBoundingClientRect();
    return [...map.querySelectorAll("path")].filter(point => {
      const box = point.getBoundingClientRect();
      return box.width > 2 && box.left >= frame.left && box.right <= frame.right && box.top >= frame.top
        && box.bottom <= frame.bottom;
    }).length;
  });
  document.body.dataset.found = JSON.stringify({points: boxes, title: page.title,
    sticks_out: root.scrollWidth - root.clientWidth,
    colour: getComputedStyle(page.querySelector("summary")).cursor, images: page.images.length + page.scripts.length});
};</script>"""


def test_in_a_browser(done: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """On a phone's width, all folds open: points lie in their maps, nothing sticks out, nothing has run."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium or google-chrome is installed")
    shutil.copy(done / "run" / "report.html", tmp_path)
    (tmp_path / "measure.html").write_text(MEASURE)
    options = ["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--allow-file-access-from-files"]
    options += ["--no-sandbox"] * (os.geteuid() == 0)  # which root cannot have
    options += ["--virtual-time-budget=5000", f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr"]
    command = [browser, *options, "--dump-dom", (tmp_path / "measure.html").as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    (body,) = (a for tag, a, _ in Elements(shown.stdout).elements if tag == "body")
    assert json.loads(body["data-found"] or "") == {
        "points": [COUNT, COUNT],
        "sticks_out": 0,
        "title": "Zero-shot evaluation with retrieved prompts",
        "colour": "pointer",
        "images": 0,
    }
    assert "CONSOLE" not in shown.stderr  # where a violation of the page's policy would stand
