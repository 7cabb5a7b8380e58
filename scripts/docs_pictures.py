"""Draws the pictures of the documentation: docs/images/architecture.svg, rein_block.svg and speed.svg.

    python scripts/docs_pictures.py
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
INK, FROZEN, TRAINED, PLAIN, EDGE = "#1b2a33", "#cfe3ee", "#ffd9a8", "#ffffff", "#5b7480"
STYLE = f"text{{font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:{INK};text-anchor:middle}}"
ARROWHEAD = (f'<marker id="to" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
             f'<path d="M0 0L8 4L0 8z" fill="{EDGE}"/></marker>')


class Picture:
    """An SVG picture that is put together from boxes, arrows and text."""

    def __init__(self, width: int, height: int, title: str):
        self.size, self.title, self.parts = (width, height), title, []

    def box(self, x: float, y: float, w: float, h: float, text: str = "", fill: str = PLAIN, *, size: int = 15,
            dashed: bool = False) -> None:
        """A rounded box with centred lines of text."""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        at = 0 if dashed else len(self.parts)  # what holds other boxes lies below them
        self.parts.insert(at, f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="7" fill="{fill}" stroke="{EDGE}"{dash}/>')
        lines = text.split("\n") if text else []
        for i, line in enumerate(lines):
            self.text(x + w / 2, y + h / 2 + (i - (len(lines) - 1) / 2) * size * 1.25 + size * 0.35, line, size=size)

    def text(self, x: float, y: float, text: str, *, size: int = 15, anchor: str = "middle", bold: bool = False) -> None:
        """A line of text; y is its base line."""
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(f'<text x="{x:g}" y="{y:g}" font-size="{size}"{weight} style="text-anchor:{anchor}">{escape(text)}</text>')

    def line(self, *points: tuple[float, float], end: str = "") -> None:
        """A line through points."""
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
        self.parts.append(f'<path d="{path}" fill="none" stroke="{EDGE}" stroke-width="1.6"{end}/>')

    def arrow(self, *points: tuple[float, float]) -> None:
        """A line through points that ends in an arrowhead."""
        self.line(*points, end=' marker-end="url(#to)"')

    def plus(self, x: float, y: float, sign: str = "+") -> None:
        """A circle with a sign in it."""
        self.parts.append(f'<circle cx="{x}" cy="{y}" r="11" fill="{PLAIN}" stroke="{EDGE}"/>')
        self.text(x, y + 5, sign)

    def svg(self) -> str:
        """The file."""
        w, h = self.size
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img">'
        paper = f'<rect width="{w}" height="{h}" rx="10" fill="#fbfcfd"/>'
        defs = f"<title>{escape(self.title)}</title><style>{STYLE}</style><defs>{ARROWHEAD}</defs>"
        return "\n".join([head, defs, paper, *self.parts, "</svg>", ""])


def architecture() -> str:
    """The whole model, from the image to the loss."""
    p = Picture(640, 750, "A frozen backbone with an adapter behind its blocks, a pyramid of four maps, a Mask2Former head and its loss")
    p.box(125, 16, 220, 36, "image  [B, H, W, 3]")
    p.arrow((235, 52), (235, 104))
    p.box(20, 76, 430, 318, dashed=True)
    p.text(32, 97, "backbone, frozen", anchor="start", bold=True)
    p.box(125, 104, 220, 34, "patch embedding", FROZEN)
    p.text(72, 240, "ViT-L,", size=13)
    p.text(72, 258, "width 1024;", size=13)
    p.text(72, 276, "an adapter", size=13)
    p.text(72, 294, "in every block", size=13)
    p.text(556, 122, "pyramid", bold=True)
    for i, name in enumerate(("blocks 1 to 8", "blocks 9 to 12", "blocks 13 to 16", "blocks 17 to 24")):
        y = 156 + 58 * i
        p.arrow((235, y - 18) if i == 0 else (235, y - 12), (235, y))
        p.box(125, y, 125, 38, name, FROZEN)
        p.box(270, y, 75, 38, "adapter", TRAINED)
        p.arrow((250, y + 19), (270, y + 19))
        p.arrow((345, y + 19), (492, y + 19))
        p.box(492, y - 2, 128, 42, f"stride {4 * 2**i}")
        if i != 3:
            p.line((307, y + 38), (307, y + 46), (235, y + 46))
    p.arrow((556, 370), (556, 460))
    p.box(20, 428, 600, 166, dashed=True)
    p.text(104, 448, "decode head: Mask2Former, trained", anchor="start", bold=True)
    p.box(300, 460, 300, 48, "pixel decoder\n6 layers of deformable attention", TRAINED, size=14)
    p.box(40, 528, 560, 50, "query decoder: 100 queries, 9 layers of masked attention", TRAINED)
    p.arrow((450, 508), (450, 528))
    p.arrow((307, 368), (307, 410), (80, 410), (80, 528))
    p.text(94, 492, "Rein's tokens as queries", anchor="start", size=13)
    p.arrow((320, 578), (320, 618))
    p.box(60, 618, 520, 36, "class scores and a mask of each query")
    p.arrow((180, 654), (180, 676))
    p.arrow((460, 654), (460, 676))
    p.box(60, 676, 240, 36, "scores of every pixel")
    p.box(340, 676, 240, 36, "matching and loss")
    legend(p, 60, 738)
    return p.svg()


def rein_block() -> str:
    """How Rein refines the features behind a block."""
    p = Picture(640, 640, "Rein behind a block: similarity to the tokens, values of the tokens, and a linear map refine the features")
    p.arrow((150, 8), (150, 52))
    p.text(166, 26, "features [N, d]: class token and patches", anchor="start", size=14)
    p.box(30, 40, 240, 172, dashed=True)
    p.text(290, 62, "block i of the backbone, frozen", anchor="start", bold=True)
    p.box(60, 54, 180, 34, "LayerNorm, attention", FROZEN)
    p.plus(150, 112)
    p.arrow((150, 88), (150, 101))
    p.arrow((150, 34), (44, 34), (44, 112), (139, 112))
    p.box(60, 138, 180, 34, "LayerNorm, MLP", FROZEN)
    p.arrow((150, 123), (150, 138))
    p.plus(150, 194)
    p.arrow((150, 172), (150, 183))
    p.arrow((150, 130), (44, 130), (44, 194), (139, 194))
    p.box(14, 226, 612, 324, dashed=True)
    p.text(612, 248, "Rein, trained", anchor="end", bold=True)
    p.arrow((150, 205), (150, 288))
    p.text(160, 264, "f  (patches)", anchor="start", size=14)
    p.box(60, 288, 230, 42, "S = softmax( f Tᵀ / √d )")
    p.box(400, 262, 210, 58, "tokens of this layer\nT = A B   [m, d], rank r", TRAINED)
    p.arrow((400, 309), (290, 309))
    p.box(400, 350, 210, 42, "V = linear(T), shared", TRAINED)
    p.arrow((505, 320), (505, 350))
    p.box(60, 356, 230, 42, "S V, without the first token")
    p.arrow((175, 330), (175, 356))
    p.arrow((400, 377), (290, 377))
    p.plus(175, 426)
    p.arrow((175, 398), (175, 415))
    p.arrow((150, 276), (34, 276), (34, 426), (164, 426))
    p.box(60, 454, 230, 36, "linear, shared; times scale", TRAINED)
    p.arrow((175, 437), (175, 454))
    p.plus(175, 520)
    p.arrow((175, 490), (175, 509))
    p.arrow((150, 276), (24, 276), (24, 520), (164, 520))
    p.arrow((175, 531), (175, 590))
    p.text(190, 578, "to block i + 1; the class token passes unchanged", anchor="start", size=14)
    queries = "queries of the head:\nlinear(T) of all layers; their maximum,\nmean and last joined by one more linear"
    p.box(330, 434, 280, 76, queries, TRAINED, size=13)
    p.arrow((610, 291), (619, 291), (619, 412), (470, 412), (470, 434))
    legend(p, 30, 620)
    return p.svg()


def legend(p: Picture, x: float, y: float) -> None:
    """What the colours mean."""
    for fill, text, at in ((FROZEN, "frozen", x), (TRAINED, "trained", x + 110), (PLAIN, "no parameters", x + 225)):
        p.box(at, y - 12, 18, 14, fill=fill)
        p.text(at + 25, y, text, anchor="start", size=14)


def speed() -> str:
    """How many times as fast as PyTorch, from the benchmarks' files."""
    cpu, gpu = "2 CPU cores", "H100, batch 4"
    rows = [("ViT-S forward", cpu, "twin_s", "forward"), ("ViT-S training step", cpu, "twin_s", "step"),
            ("ViT-B forward", cpu, "twin_b_forward", "forward"), ("ViT-B training step", cpu, "twin_b", "step"),
            ("ViT-L forward", gpu, "gpu_twin_l", "forward"), ("ViT-L training step", gpu, "gpu_twin_l", "step")]  # fmt: skip
    p = Picture(640, 96 + 50 * len(rows), "Times as fast as PyTorch")
    left, scale = 190, 85
    p.text(20, 30, "Times as fast as PyTorch (eager), Rein + Mask2Former, crop 512", anchor="start", bold=True)
    bottom = 52 + 50 * len(rows)
    for tick in range(5):
        x = left + tick * scale
        dash = "" if tick == 1 else ' stroke-dasharray="2 4"'
        p.parts.append(f'<path d="M{x} 46V{bottom}" stroke="{EDGE}"{dash}/>')
        p.text(x, bottom + 18, str(tick), size=13)
    p.text(left + scale, bottom + 36, "PyTorch", size=13)
    for i, (name, machine, file, mode) in enumerate(rows):
        result = json.loads((ROOT / f"benchmarks/{file}.json").read_text(encoding="utf-8"))["result"][mode]
        ours, torch = result["ours"]["seconds"], result["torch"]["seconds"]
        y, length = 56 + 50 * i, scale * torch / ours
        p.text(left - 12, y + 14, name, anchor="end")
        p.text(left - 12, y + 31, machine, anchor="end", size=12)
        p.parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="34" rx="3" fill="#2f8f83"/>')
        p.parts.append(f'<text x="{left + length - 8:.1f}" y="{y + 22}" font-size="15" style="text-anchor:end;fill:#fff">'
                       f"{torch / ours:.2f}</text>")
        p.text(max(left + length, left + scale) + 8, y + 22, f"{_time(ours)} / {_time(torch)}", anchor="start", size=13)
    return p.svg()


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1e3 * seconds:.0f} ms"


PICTURES = {"architecture.svg": architecture, "rein_block.svg": rein_block, "speed.svg": speed}

if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        (IMAGES / name).write_text(draw(), encoding="utf-8")
