"""The page: what stands where, and which handler answers what. Laid out with gradio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

# The page's element and gradio's `trigger` go to studio.js; the names in quotes tell gradio which events there are.
SCRIPT = '<script src="ph-studio/assets/studio.js"></script>'
NOTICE_JS = "panelhueStudio.notice(element, trigger, watch, props)"
STRIP_JS = "panelhueStudio.strip(element, trigger, watch, ['pick'])"
VIEWER_JS = "panelhueStudio.viewer(element, trigger, watch, ['act', 'hint', 'recolour'])"
WALL_JS = "panelhueStudio.wall(element, trigger, ['remove'])"
PALETTE_JS = "panelhueStudio.palette(element, trigger, ['save'])"

# A stored token brings a tab back to its desk when it is loaded again; sessionStorage is the tab's own.
RECALL_JS = "() => [sessionStorage.getItem('panelhue-desk') || '', sessionStorage.getItem('panelhue-series') || '']"
REMEMBER_JS = "(token) => { sessionStorage.setItem('panelhue-desk', token); }"
REMEMBER_SERIES_JS = "(series) => { sessionStorage.setItem('panelhue-series', series || ''); }"

HEAD = """
<link rel="icon" href="ph-studio/assets/icon.svg">
<meta name="color-scheme" content="light dark">
"""
KEYS = """<p class="ph-keys">Keys: <kbd>j</kbd> next page, <kbd>k</kbd> previous, <kbd>a</kbd> approve, <kbd>x</kbd>
reject, <kbd>r</kbd> recolour, <kbd>h</kbd> place hints, <kbd>c</kbd> grey or colour. On the page itself, arrows move
the cross and Enter sets a hint.</p>"""


@dataclass
class Page:
    """Everything on the page that a handler reads or writes."""

    blocks: gr.Blocks
    token: gr.State
    stored: gr.Textbox
    stored_series: gr.Textbox
    head: gr.HTML
    notice: gr.HTML
    series: gr.Dropdown
    reload: gr.Button
    new_series: gr.Textbox
    create: gr.Button
    pool_files: gr.File
    pool_chapter: gr.Textbox
    add: gr.Button
    wall_chapters: gr.Textbox
    wall_origin: gr.Radio
    wall: gr.HTML
    chapter_files: gr.File
    chapter: gr.Textbox
    backend: gr.Dropdown
    earlier: gr.Checkbox
    given: gr.Checkbox
    seed: gr.Number
    colour: gr.Button
    stop: gr.Button
    progress: gr.HTML
    strip: gr.HTML
    viewer: gr.HTML
    approve_all: gr.Button
    download: gr.HTML
    palette: gr.HTML
    alike: gr.Slider
    measure: gr.Button
    drift: gr.HTML


def build() -> Page:
    """The page without its handlers."""
    parts: dict[str, Any] = {}
    with gr.Blocks(
        title="Panelhue Studio", analytics_enabled=False, delete_cache=(600, 3600), fill_width=True
    ) as blocks:
        parts["token"] = gr.State("")
        parts["stored"] = gr.Textbox(visible="hidden")
        parts["stored_series"] = gr.Textbox(visible="hidden")
        parts["head"] = gr.HTML(head=SCRIPT, js_on_load=None, apply_default_css=False)
        parts["notice"] = gr.HTML(head=SCRIPT, js_on_load=NOTICE_JS, apply_default_css=False, elem_id="ph-notice")
        parts |= _series_row()
        with gr.Tabs():
            with gr.Tab("Pool", id="pool"):
                parts |= _pool_tab()
            with gr.Tab("Colourise", id="colourise"):
                parts |= _chapter_tab()
            with gr.Tab("Palette", id="palette"):
                gr.HTML(
                    '<p class="ph-soft">Named colours of the series. Back-ends that know palettes keep to them, and'
                    " each is offered for hints.</p>",
                    js_on_load=None,
                    apply_default_css=False,
                )
                parts["palette"] = gr.HTML(
                    head=SCRIPT, js_on_load=PALETTE_JS, apply_default_css=False, elem_id="ph-palette"
                )
            with gr.Tab("Drift", id="drift"):
                parts |= _drift_tab()
    return Page(blocks=blocks, **parts)


def _line(label: str, placeholder: str, most: int, **layout: Any) -> gr.Textbox:
    """A box for one line of at most so many characters."""
    return gr.Textbox(label=label, placeholder=placeholder, max_lines=1, max_length=most, **layout)


def _files(label: str, **layout: Any) -> gr.File:
    """A place to drop files onto."""
    return gr.File(label=label, file_count="multiple", scale=3, **layout)


def _series_row() -> dict[str, Any]:
    with gr.Row(elem_classes="ph-row"):
        series = gr.Dropdown(label="Series", choices=[], scale=4, min_width=200, elem_id="ph-series")
        reload = gr.Button("Reload", scale=0, min_width=110, elem_id="ph-reload")
        new = _line("New series", "such as: tale", 120, scale=3, min_width=160, elem_id="ph-new")
        create = gr.Button("Create", scale=0, min_width=110, elem_id="ph-create")
    return {"series": series, "reload": reload, "new_series": new, "create": create}


def _pool_tab() -> dict[str, Any]:
    with gr.Row():
        files = _files("References: colour pictures, or books of them", height=150, elem_id="ph-pool-files")
        with gr.Column(scale=2, min_width=240):
            hint = "such as 12 or 10.5; empty: as the books tell"
            chapter = _line("Their chapter", hint, 16, elem_id="ph-pool-chapter")
            add = gr.Button("Add to the pool", variant="primary", elem_id="ph-add")
    with gr.Row():
        hint = "all; such as 12 or 3-10"
        chapters = _line("Show chapters", hint, 40, scale=1, min_width=160, elem_id="ph-wall-chapters")
        origin = gr.Radio(
            ["all", "given"], value="all", label="Show colour that is", scale=2, min_width=200, elem_id="ph-wall-origin"
        )
    wall = gr.HTML(head=SCRIPT, js_on_load=WALL_JS, apply_default_css=False, elem_id="ph-wall")
    return {
        "pool_files": files,
        "pool_chapter": chapter,
        "add": add,
        "wall_chapters": chapters,
        "wall_origin": origin,
        "wall": wall,
    }


def _chapter_tab() -> dict[str, Any]:
    with gr.Row():
        files = _files("The chapter: pictures, or a book such as a CBZ", height=170, elem_id="ph-chapter-files")
        with gr.Column(scale=3, min_width=260):
            with gr.Row():
                chapter = _line("Chapter", "such as 12", 16, scale=1, min_width=100, elem_id="ph-chapter")
                backend = gr.Dropdown(
                    label="Back-end",
                    choices=[("the server's default", "")],
                    value="",
                    scale=2,
                    min_width=160,
                    elem_id="ph-backend",
                )
            with gr.Row():
                colour = gr.Button("Colourise", variant="primary", min_width=120, elem_id="ph-colour")
                stop = gr.Button("Stop", min_width=80, interactive=False, elem_id="ph-stop")
            with gr.Accordion("References that may answer, and the seed", open=False):
                earlier = gr.Checkbox(True, label="None of later chapters", elem_id="ph-earlier")
                given = gr.Checkbox(False, label="Given colour only, nothing generated", elem_id="ph-given")
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**53, elem_id="ph-seed")
    progress = gr.HTML(js_on_load=None, apply_default_css=False, elem_id="ph-progress")
    strip = gr.HTML(head=SCRIPT, js_on_load=STRIP_JS, apply_default_css=False, elem_id="ph-strip")
    viewer = gr.HTML(head=SCRIPT, js_on_load=VIEWER_JS, apply_default_css=False, elem_id="ph-viewer")
    with gr.Row(elem_classes="ph-ends"):
        approve_all = gr.Button("Approve all that are left", min_width=230, scale=0, elem_id="ph-approve-all")
        download = gr.HTML(js_on_load=None, apply_default_css=False, min_width=260, elem_id="ph-download")
    gr.HTML(KEYS, js_on_load=None, apply_default_css=False)
    return {
        "chapter_files": files,
        "chapter": chapter,
        "backend": backend,
        "earlier": earlier,
        "given": given,
        "seed": seed,
        "colour": colour,
        "stop": stop,
        "progress": progress,
        "strip": strip,
        "viewer": viewer,
        "approve_all": approve_all,
        "download": download,
    }


def _drift_tab() -> dict[str, Any]:
    gr.HTML(
        '<p class="ph-soft">How far the colour of the same things differs from chapter to chapter, as CIEDE2000: 1 is'
        " just seen side by side, 5 is seen without looking for it.</p>",
        js_on_load=None,
        apply_default_css=False,
    )
    alike = gr.Slider(
        0.5,
        1.0,
        value=0.9,
        step=0.01,
        label="Patches show the same thing from a similarity of",
        elem_id="ph-alike",
    )
    measure = gr.Button("Measure the drift", variant="primary", elem_id="ph-measure")
    drift = gr.HTML(js_on_load=None, apply_default_css=False, elem_id="ph-drift")
    return {"alike": alike, "measure": measure, "drift": drift}
