"""The picture of which folder imports which, docs/folders.svg, from the plan of test_layout.py.

``python -m tests.pages.folder_graph`` draws it; ``test_folder_graph.py`` holds it.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tests.test_layout import MAY_IMPORT

FILE = Path(__file__).parents[2] / "docs" / "folders.svg"
FIRST_COLUMN = {"zoo": 0, "baselines": 0, "datasets": 1, "reports": 3}
MIDDLE = ("zoo/runs", "zoo/conformance", "zoo/commands")  # they import from all columns
COLUMN, LEVEL, WIDTH, HEIGHT = 122, 74, 104, 40  # distances between boxes, and a box's sides
STYLE = """
rect { fill: #eef3f8; stroke: #5b7a99; }
path { fill: none; stroke: #8a97a5; stroke-width: 1.3; }
marker path { fill: #8a97a5; stroke: none; }
text { font: 14px sans-serif; text-anchor: middle; fill: #16212c; }
.parent { font-size: 11px; fill: #4a5a6a; }
"""


def reduced(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The graph without arrows that follow from two or more others."""

    def reached(folder: str) -> set[str]:
        return {folder}.union(*(reached(below) for below in graph[folder]))

    return {
        folder: {
            below
            for below in belows
            if not any(below in reached(other) for other in belows - {below})
        }
        for folder, belows in graph.items()
    }


def levels(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """How many folders lie below each, one on the other."""

    def level(folder: str) -> int:
        return max((1 + level(below) for below in graph[folder]), default=0)

    return {folder: level(folder) for folder in graph}


def places(graph: Mapping[str, set[str]]) -> dict[str, tuple[int, int]]:
    """The middle of each folder's box."""
    taken: Counter[tuple[str, int]] = Counter()
    found, heights = {}, levels(graph)
    for folder, level in heights.items():
        top = folder.partition("/")[0]
        column = 2 if folder in MIDDLE else FIRST_COLUMN[top] + taken[top, level]
        taken[top, level] += 1
        row = max(heights.values()) - level
        found[folder] = (WIDTH // 2 + 8 + COLUMN * column, HEIGHT // 2 + 8 + LEVEL * row)
    return found


def arrow(begin: tuple[int, int], end: tuple[int, int]) -> str:
    """From the lower side of a box to the upper side of another."""
    line = f"M{begin[0]} {begin[1] + HEIGHT // 2} L{end[0]} {end[1] - HEIGHT // 2 - 3}"
    return f'<path d="{line}" marker-end="url(#head)"/>'


def picture(graph: Mapping[str, set[str]]) -> str:
    """The graph as SVG: what imports stands above what it imports."""
    where = places(graph)
    width = max(x for x, _ in where.values()) + WIDTH // 2 + 8
    height = max(y for _, y in where.values()) + HEIGHT // 2 + 8
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">',
        f"<style>{STYLE}</style>",
        '<marker id="head" markerWidth="8" markerHeight="8" refX="4" refY="4" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z"/></marker>',
    ]
    for folder, belows in reduced(graph).items():
        lines += [arrow(where[folder], where[below]) for below in sorted(belows)]
    for folder, (x, y) in where.items():
        parent, _, name = folder.rpartition("/")
        corner = f'x="{x - WIDTH // 2}" y="{y - HEIGHT // 2}"'
        lines.append(f'<rect {corner} width="{WIDTH}" height="{HEIGHT}" rx="5"/>')
        if parent:
            lines.append(f'<text class="parent" x="{x}" y="{y - 6}">{parent}/</text>')
        lines.append(f'<text x="{x}" y="{y + (11 if parent else 5)}">{name}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    FILE.write_text(picture(MAY_IMPORT), encoding="utf-8")
