"""The drawn figures of the documents: `python docs/figures/draw.py` writes this folder's SVG files.

A figure is a list of boxes, arrows and words in pixels. It has its own background, and its colours follow the reader's
scheme, so that it is readable on a light and on a dark page. Text stays text.
"""

from __future__ import annotations

import pathlib
from html import escape

FOLDER = pathlib.Path(__file__).parent
STYLE = """
  svg { --page: #ffffff; --ink: #1f2933; --soft: #5b6875; --line: #7b8794; --plain: #eef1f4; --frozen: #dbe7f5;
        --trained: #fbe3cf; --made: #dcefe3; }
  @media (prefers-color-scheme: dark) {
    svg { --page: #15191e; --ink: #e6e9ec; --soft: #a5afb9; --line: #8b96a1; --plain: #262c33; --frozen: #1e3a5c;
          --trained: #5c3819; --made: #1d4a33; }
  }
  text { font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); }
  .title { font-weight: 600; }
  .small { font-size: 12px; fill: var(--soft); }
  .page { fill: var(--page); }
  .plain { fill: var(--plain); } .frozen { fill: var(--frozen); }
  .trained { fill: var(--trained); } .made { fill: var(--made); }
  rect { stroke: var(--line); stroke-width: 1; } .page, .key { stroke: none; }
  .none { fill: none; }
  .arrow { fill: none; stroke: var(--line); stroke-width: 1.6; }
  .back { stroke-dasharray: 5 4; }
  .head { fill: var(--line); }
"""


def words(x: float, y: float, text: str, kind: str = "", anchor: str = "middle") -> str:
    """A line of text; y is its base line."""
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str, title: str, *lines: str) -> str:
    """A box of a kind (plain, frozen, trained, made) with a title and small lines, centred."""
    first = y + height / 2 + 5 - 9 * len(lines)
    small = [words(x + width / 2, first + 18 * (i + 1), line, "small") for i, line in enumerate(lines)]
    shape = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" class="{kind}"/>'
    return "\n".join([shape, words(x + width / 2, first, title, "title"), *small])


def arrow(*points: tuple[float, float], kind: str = "") -> str:
    """A line through the points with a head at the last; kind `back` is dashed."""
    path = " L".join(f"{x} {y}" for x, y in points)
    return f'<path d="M{path}" class="arrow {kind}" marker-end="url(#head)"/>'


def key(x: float, y: float, *kinds: tuple[str, str]) -> str:
    """What the colours mean, from left to right."""
    parts = []
    for kind, text in kinds:
        parts += [f'<rect x="{x}" y="{y - 11}" width="14" height="14" rx="3" class="{kind} key"/>']
        parts += [words(x + 20, y, text, "small", "start")]
        x += 36 + 6 * len(text)
    return "\n".join(parts)


def figure(width: int, height: int, title: str, *parts: str) -> str:
    """The file of a figure; its title is what a screen reader reads."""
    head = '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<defs>{head}<path d="M0 0 L8 4 L0 8 z" class="head"/></marker></defs>',
            f'<rect width="{width}" height="{height}" rx="10" class="page"/>',
            *parts,
            "</svg>\n",
        ]
    )


TRAINED, FROZEN, MADE = ("trained", "trained"), ("frozen", "frozen"), ("made", "written to disk")


def system() -> str:
    return figure(
        900,
        440,
        "A template turns rows into tokens; soft prompts before them enter a frozen T5; its scores become a loss, "
        "whose gradient reaches only prompts and critics. Saved prompts, or those of a library, make predictions.",
        box(24, 24, 180, 62, "plain", "rows of a data set", "files, TFDS, seqio"),
        arrow((204, 55), (260, 55)),
        box(262, 24, 190, 62, "plain", "template", "input, target, answer choices"),
        arrow((357, 86), (357, 150)),
        words(367, 112, "tokens x", "", "start"),
        words(367, 130, "[B, L]", "small", "start"),
        box(
            24,
            152,
            180,
            98,
            "trained",
            "fleet of soft prompts",
            "P₁ … P_M",
            "one for each member:",
            "a task, a seed, γ and β",
        ),
        arrow((204, 201), (260, 201)),
        words(232, 190, "[P; x]", "small"),
        box(
            262,
            152,
            190,
            98,
            "frozen",
            "frozen T5",
            "encoder and decoder,",
            "one copy, split over",
            "data × fsdp × model",
        ),
        arrow((452, 201), (508, 201)),
        words(480, 190, "Z", "small"),
        box(510, 152, 150, 98, "plain", "scores", "log p of each", "answer choice, or", "generated text"),
        arrow((585, 152), (585, 88)),
        box(510, 24, 150, 62, "made", "metrics", "table, curves, report"),
        arrow((660, 201), (720, 201)),
        box(722, 152, 154, 98, "plain", "loss", "task", "− γ · I(P; head)", "− β · I(P; Z)"),
        box(722, 24, 154, 62, "trained", "critics", "for InfoPrompt's terms"),
        arrow((799, 86), (799, 150)),
        arrow((799, 250), (799, 290), (150, 290), (150, 252), kind="back"),
        words(480, 283, "gradient: to prompts and critics, never to the T5", "small"),
        arrow((78, 250), (78, 326)),
        box(24, 328, 180, 62, "made", "saved prompts", "and PEFT, .npy, hub"),
        arrow((204, 359), (260, 359)),
        box(262, 328, 190, 62, "plain", "predictions", "a file, Python, HTTP"),
        box(510, 328, 150, 62, "made", "library (RoSPr)", "prompts with keys"),
        arrow((510, 359), (454, 359)),
        arrow((78, 390), (78, 412), (585, 412), (585, 392)),
        words(676, 350, "an unseen task", "small", "start"),
        words(676, 368, "retrieves its prompt", "small", "start"),
        key(676, 420, TRAINED, FROZEN, ("made", "written")),
    )


def infoprompt() -> str:
    return figure(
        900,
        440,
        "InfoPrompt: the loss has the task's loss and two information terms. The head term compares the prompt with "
        "rows of the LM head, the representation term with the row's states with and without the prompt.",
        box(24, 140, 150, 72, "trained", "soft prompt P", "[P, D]"),
        box(24, 268, 150, 72, "plain", "input x", "a row in its template"),
        box(230, 24, 180, 72, "frozen", "LM head", "rows θ of the answers"),
        box(230, 140, 180, 72, "frozen", "T5 with the prompt", "[P; x]"),
        box(230, 268, 180, 72, "frozen", "T5 without it", "once, then cached"),
        box(470, 24, 190, 72, "trained", "head critic", "together: P̄, W₁θ̄", "apart: embeddings of x, W₁θ̄"),
        box(470, 140, 190, 72, "plain", "z with the prompt", "the decoder's first state"),
        box(470, 268, 190, 72, "trained", "representation critic", "together: c(P), z", "apart: c(P), z₀ + noise"),
        box(720, 24, 156, 72, "plain", "I(P; head)", "a bound, in nats"),
        box(720, 140, 156, 72, "plain", "task loss", "of the answer"),
        box(720, 268, 156, 72, "plain", "I(P; Z)", "a bound, in nats"),
        arrow((174, 165), (228, 165)),
        arrow((174, 304), (228, 304)),
        arrow((174, 290), (202, 290), (202, 190), (228, 190)),
        arrow((410, 60), (468, 60)),
        arrow((99, 140), (99, 116), (440, 116), (440, 80), (468, 80)),
        arrow((410, 176), (468, 176)),
        arrow((410, 304), (468, 304)),
        words(439, 297, "z₀", "small"),
        arrow((565, 212), (565, 266)),
        words(575, 244, "z", "small", "start"),
        arrow((24, 176), (10, 176), (10, 366), (565, 366), (565, 342)),
        words(300, 360, "P, its gradient stopped", "small"),
        arrow((660, 60), (718, 60)),
        arrow((660, 176), (718, 176)),
        arrow((660, 304), (718, 304)),
        words(24, 414, "loss = task loss − λ(t) · ( γ · I(P; head) + β · I(P; Z) )", "", "start"),
        words(470, 414, "pairs: those of the released code", "small", "start"),
        key(740, 414, TRAINED, FROZEN),
    )


def rospr() -> str:
    return figure(
        900,
        420,
        "RoSPr: source tasks give a library of prompts and keys. The queries of an unseen task find the nearest keys, "
        "which vote for a prompt; the frozen T5 answers the task's rows with it.",
        box(24, 24, 170, 72, "plain", "source tasks", "a data set, a template"),
        box(240, 24, 170, 72, "trained", "prompt tuning", "one prompt for each"),
        box(456, 24, 190, 72, "made", "library", "source prompts, and keys", "of 100 instances each"),
        box(240, 150, 170, 72, "frozen", "retriever", "mean of the encoder's", "last layer"),
        box(456, 150, 190, 72, "plain", "exact search", "the 10 nearest keys", "of each query"),
        box(712, 150, 164, 72, "plain", "votes", "each hit, for the prompt", "that owns the key"),
        box(24, 284, 170, 84, "plain", "unseen task", "its rows; labels are", "not used"),
        box(240, 284, 170, 84, "plain", "predictions", "by rank"),
        box(456, 284, 190, 84, "frozen", "frozen T5", "[P; x]"),
        box(
            712,
            284,
            164,
            84,
            "plain",
            "its prompt P",
            "RoSPr: most votes",
            "INTER: a weighted mean",
            "VAR: votes over bias",
        ),
        arrow((194, 60), (238, 60)),
        arrow((410, 60), (454, 60)),
        arrow((109, 96), (109, 174), (238, 174)),
        words(120, 166, "instances", "small", "start"),
        arrow((109, 284), (109, 198), (238, 198)),
        words(120, 216, "32 queries", "small", "start"),
        arrow((325, 150), (325, 124), (500, 124), (500, 98)),
        words(412, 118, "keys", "small"),
        arrow((600, 96), (600, 148)),
        arrow((410, 186), (454, 186)),
        arrow((646, 186), (710, 186)),
        arrow((794, 222), (794, 282)),
        arrow((712, 326), (648, 326)),
        arrow((456, 326), (412, 326)),
        arrow((109, 368), (109, 394), (551, 394), (551, 370)),
        words(325, 388, "every row x, in its template", "small"),
        key(668, 64, TRAINED, FROZEN, ("made", "written")),
    )


def mesh() -> str:
    """Eight devices, 2 × 2 × 2, a batch of eight rows and one weight matrix."""
    quarters = {(0, 0): "upper left", (0, 1): "upper right", (1, 0): "lower left", (1, 1): "lower right"}
    parts = []
    for data in (0, 1):
        left = 24 + data * 436
        parts += [f'<rect x="{left}" y="54" width="416" height="252" rx="9" class="none"/>']
        parts += [words(left + 208, 40, f"data = {data}: one copy of the weights", "title")]
        parts += [words(left + 150 + 172 * model, 78, f"model = {model}", "small") for model in (0, 1)]
        for fsdp in (0, 1):
            top, first = 90 + 106 * fsdp, 4 * data + 2 * fsdp
            parts += [words(left + 10, top + 51, f"fsdp = {fsdp}", "small", "start")]
            for model in (0, 1):
                number = 4 * data + 2 * fsdp + model
                lines = (f"rows {first} and {first + 1}", f"weights: {quarters[fsdp, model]}", "the prompt, whole")
                parts += [box(left + 68 + 172 * model, top, 164, 94, "frozen", f"device {number}", *lines)]
    notes = (
        ("data", "splits the rows; a step exchanges the prompt's gradient"),
        ("fsdp", "splits the rows, and one copy of the weights; each layer's are gathered where they are used"),
        ("model", "splits one copy of the weights and the products with them; one all-reduce a block"),
    )
    for line, (axis, text) in enumerate(notes):
        y = 338 + 24 * line
        parts += [words(24, y, axis, "title", "start"), words(84, y, text, "", "start")]
    title = "A mesh of eight devices: data, fsdp and model split a batch of eight rows and a weight matrix."
    return figure(900, 404, title, *parts)


FIGURES = {"system": system, "infoprompt": infoprompt, "rospr": rospr, "mesh": mesh}

if __name__ == "__main__":
    for name, draw in FIGURES.items():
        (FOLDER / f"{name}.svg").write_text(draw(), encoding="utf-8")
