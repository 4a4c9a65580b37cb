"""A report is a list of blocks, written once and rendered twice: as Markdown, and as one HTML page that needs nothing else.

    "# Title", "## Section", "- an item", and other texts as paragraphs; `code` between backticks
    Table(columns, rows)       cells with a measured text and, beside it, what is claimed and whether that agrees
    Pictures({name: path})     side by side, with their names

The page holds its pictures itself, and its tables become cards where the window is narrow.
"""

import base64
import os
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

VERDICTS = {
    True: "agrees\N{NO-BREAK SPACE}\N{CHECK MARK}",
    False: "disagrees\N{NO-BREAK SPACE}\N{BALLOT X}",
    None: "not measured",
}
KINDS = {True: "agrees", False: "disagrees", None: "open"}


@dataclass(frozen=True)
class Cell:
    """What was measured, and, where somebody claims something about it, the claim and whether it agrees."""

    text: str
    claim: str = None
    agrees: bool = None


@dataclass(frozen=True)
class Table:
    """columns: texts. rows: a tuple of cells, as many as columns, by the name of the row."""

    columns: tuple
    rows: dict

    def __post_init__(self):
        for name, cells in self.rows.items():
            if len(cells) != len(self.columns):
                raise ValueError(f"Table: row {name!r} has {len(cells)} cells for {len(self.columns)} columns")


@dataclass(frozen=True)
class Pictures:
    """Paths of PNG or SVG files by their names; `least` is the width in pixels below which one is not shrunk, but scrolled."""

    paths: dict
    least: int = 0


def markdown(blocks, folder):
    """The blocks as Markdown, for a file in `folder`: pictures are referred to from there."""

    def cell(cell):
        if cell.claim is None:
            return cell.text
        return f"{cell.text}<br>*{cell.claim}*: {VERDICTS[cell.agrees]}"

    def table(block):
        lines = [["", *block.columns], ["---"] * (1 + len(block.columns))]
        lines += [[f"**{name}**", *map(cell, cells)] for name, cells in block.rows.items()]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def pictures(block):
        links = [f"![{name}]({Path(os.path.relpath(path, folder)).as_posix()})" for name, path in block.paths.items()]
        if len(links) == 1:
            return links[0]
        return "\n".join(f"| {' | '.join(line)} |" for line in (block.paths, ["---"] * len(links), links))

    return _joined(blocks, {Table: table, Pictures: pictures, str: lambda text: text}) + "\n"


def html(blocks):
    """The blocks as a page; the first of them is its title."""

    def table(block):
        head = "".join(f"<th scope=col>{_inline(name)}</th>" for name in ("", *block.columns))
        rows = []
        for name, cells in block.rows.items():
            columns = zip(block.columns, cells)
            row = "".join(
                f'<td{" class=empty" * (not cell.text)} data-column="{escape(column)}">{_cell(cell)}</td>'
                for column, cell in columns
            )
            rows.append(f"<tr><th scope=row>{_inline(name)}</th>{row}</tr>")
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"

    def pictures(block):
        kind = "wide" if len(block.paths) == 1 else "several"
        figures = [
            f'<figure><img src="{_data(path)}" alt="{escape(name)}" style="min-width:{block.least}px">'
            f"<figcaption>{'' if kind == 'wide' else _inline(name)}</figcaption></figure>"
            for name, path in block.paths.items()
        ]
        return f"<div class={kind}>{''.join(figures)}</div>"

    def text(block):
        for mark, tag in (("# ", "h1"), ("## ", "h2"), ("- ", "li")):
            if block.startswith(mark):
                return f"<{tag}>{_inline(block.removeprefix(mark))}</{tag}>"
        return f"<p>{_inline(block)}</p>"

    body = _joined(blocks, {Table: table, Pictures: pictures, str: text})
    return PAGE.format(title=escape(blocks[0].removeprefix("# ")), style=STYLE, body=body)


def _joined(blocks, render):
    return "\n\n".join(render[type(block)](block) for block in blocks)


def _cell(cell):
    text = f"<b>{_inline(cell.text)}</b>"
    if cell.claim is None:
        return text
    return f"{text}<span class={KINDS[cell.agrees]}>{_inline(cell.claim)}: {VERDICTS[cell.agrees]}</span>"


def _inline(text):
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text)).replace(" +- ", "&nbsp;+-&nbsp;")


def _data(path):
    path = Path(path)
    kind = {".png": "image/png", ".svg": "image/svg+xml"}[path.suffix]
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


STYLE = """
body { max-width: 76rem; margin: 0 auto; padding: 1.5rem; color: #222; background: #fff; line-height: 1.45;
       font-family: Georgia, "Times New Roman", serif; -webkit-text-size-adjust: 100% }
h1 { font-weight: normal; font-size: 1.9rem; line-height: 1.2; margin: .5rem 0 1rem }
h2 { font-weight: normal; font-size: 1.35rem; margin: 2.2rem 0 .6rem }
p, li { max-width: 46rem } li { margin: .3rem 0 .3rem 1.2rem }
code { font-size: .9em; background: #f3f3f3; padding: 0 .2em; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100%; font-size: .85rem; margin: .8rem 0 }
th, td { text-align: left; vertical-align: top; padding: .45rem .35rem; border-top: 1px solid #ddd }
thead th { font-weight: normal; color: #555; border-top: 0; vertical-align: bottom }
tbody tr:last-child > * { border-bottom: 1px solid #ddd }
td b { display: block; font-weight: normal } td span { display: block; font-size: .88em; color: #666 }
td .agrees { color: #00664b } td .disagrees { color: #b34700 }
.wide { overflow-x: auto } .wide figure { margin: 0 } .wide img { width: 100%; max-width: 60rem }
.several { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem }
.several figure { margin: 0 } .several img { width: 100%; image-rendering: pixelated }
figcaption { color: #555; font-size: .9rem }
@media (max-width: 60rem) {
  thead { display: none } table, tbody, tr, th, td { display: block }
  tr { margin: 0 0 1.2rem } tbody th { font-size: 1.15rem; border-bottom: 0 }
  td { display: grid; grid-template-columns: 38% 22% 1fr; gap: .6rem; padding: .3rem .35rem }
  td::before { content: attr(data-column); color: #555 } td.empty { display: none }
}
@media (max-width: 43rem) { .wide::before { content: "Scroll this sideways."; color: #555; font-size: .9rem } }
@media (max-width: 30rem) { body { padding: 1rem } .several { grid-template-columns: 1fr 1fr } }
"""

PAGE = """<!doctype html>
<html lang=en>
<head><meta charset=utf-8><meta name=viewport content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body>
{body}
</body>
</html>
"""
