"""A report as blocks, and the blocks as one self-contained HTML page or as Markdown."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from pocketgenie.export.style import STYLE

VERDICTS = {"passed": "good", "falls short": "bad", "not run": "none"}


@dataclass(frozen=True)
class Text:
    """A paragraph; **bold** and `code` are its only markup."""

    text: str


@dataclass(frozen=True)
class Table:
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Tiles:
    """Figures to be seen first: value, what it is, a remark."""

    tiles: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Image:
    """A picture that is also a file beside the report."""

    file: str
    data: bytes
    alt: str


@dataclass(frozen=True)
class Strip:
    """Small pictures in rows, each with its caption; HTML only."""

    rows: Sequence[tuple[str, Sequence[tuple[str, bytes]]]]


@dataclass(frozen=True)
class Charts:
    """Titles and SVGs; HTML only (the tables hold the figures)."""

    charts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Code:
    text: str


Block = Text | Table | Tiles | Image | Strip | Charts | Code


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]
    folded: bool = False


@dataclass(frozen=True)
class Page:
    title: str
    lead: str
    verdict: str
    sections: Sequence[Section]


def to_markdown(page: Page) -> str:
    """GitHub's Markdown; pictures are links to the files beside it."""
    parts = [f"# {_plain(page.title)}", f"**{page.verdict}.** {page.lead}"]
    for section in page.sections:
        blocks = [text for block in section.blocks if (text := _markdown(block))]
        parts += [f"## {section.title}"] * bool(section.title and blocks) + blocks
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Text(text):
            return text
        case Table(head, rows):
            lines = [head, ["---"] * len(head), *rows]
            return "\n".join("| " + " | ".join(map(_plain, line)) + " |" for line in lines)
        case Tiles(tiles):
            return "\n".join(f"- **{value}** {label} ({remark})" for value, label, remark in tiles)
        case Image(file, _, alt):
            return f"![{_plain(alt)}]({file})"
        case Code(text):
            return f"```\n{text}\n```"
        case Strip() | Charts():
            return ""


def _plain(text: str) -> str:
    """For a cell or a title: one line, no column ends."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def to_html(page: Page) -> str:
    """One file, nothing loaded from elsewhere, light or dark as the reader's system is."""
    kind = VERDICTS[page.verdict]
    body = [
        f'<header><p class="verdict {kind}">{escape(page.verdict)}</p>',
        f"<h1>{_inline(page.title)}</h1><p class=lead>{_inline(page.lead)}</p></header>",
    ]
    for section in page.sections:
        blocks = "".join(block_html(block) for block in section.blocks)
        if section.folded:
            body.append(
                f"<section><details><summary><h2>{escape(section.title)}</h2></summary>{blocks}</details></section>"
            )
        else:
            heading = f"<h2>{escape(section.title)}</h2>" if section.title else ""
            body.append(f"<section>{heading}{blocks}</section>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(page.title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def block_html(block: Block) -> str:
    """One block for a page that has the style of export/style.py."""
    match block:
        case Text(text):
            return f"<p>{_inline(text)}</p>"
        case Table(head, rows):
            top = "".join(f"<th>{_inline(cell)}</th>" for cell in head)
            body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
            return f"<div class=wide><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
        case Tiles(tiles):
            return f"<div class=tiles>{''.join(map(_tile, tiles))}</div>"
        case Image(_, data, alt):
            return f'<img class=screen src="{_uri(data)}" alt="{escape(alt, quote=True)}">'
        case Strip(rows):
            return f"<div class=wide>{''.join(map(_strip_row, rows))}</div>"
        case Charts(charts):
            shown = (
                f"<figure><figcaption>{_inline(name)}</figcaption>{svg}</figure>" for name, svg in charts
            )
            return f"<div class=charts>{''.join(shown)}</div>"
        case Code(text):
            return f"<pre>{escape(text)}</pre>"


def _tile(tile: tuple[str, str, str]) -> str:
    value, label, remark = tile
    return f"<div><b>{escape(value)}</b><span>{_inline(label)}</span><small>{_inline(remark)}</small></div>"


def _strip_row(row: tuple[str, Sequence[tuple[str, bytes]]]) -> str:
    name, images = row
    cells = "".join(
        f'<figure><img src="{_uri(data)}" alt=""><figcaption>{_inline(caption)}</figcaption></figure>'
        for caption, data in images
    )
    return f"<div class=strip><b>{_inline(name)}</b>{cells}</div>"


def _cell(text: str) -> str:
    return f'<td class="{VERDICTS[text]}">{text}</td>' if text in VERDICTS else f"<td>{_inline(text)}</td>"


def _inline(text: str) -> str:
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", safe)


def _uri(data: bytes) -> str:
    kind = "gif" if data.startswith(b"GIF8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
