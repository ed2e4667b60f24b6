"""The contact sheet as one HTML file that needs no other: pictures inside, no network, keys, light and dark."""

from __future__ import annotations

import base64
from html import escape

from panelhue.sheet import Head, Patch, Row, Thumbnail

HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --bg: #f4f2ee; --card: #fffdf9; --ink: #24211d; --soft: #6d675f; --line: #e0dbd2;
  --accent: #b3401f; --glow: 0 1px 2px rgb(60 50 30 / 8%), 0 8px 24px rgb(60 50 30 / 7%); }}
@media (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{ --bg: #161514; --card: #201f1d; --ink: #ece7df;
  --soft: #a09a90; --line: #36332f; --accent: #f0845e; --glow: 0 1px 2px rgb(0 0 0 / 40%); }} }}
:root[data-theme=dark] {{ --bg: #161514; --card: #201f1d; --ink: #ece7df; --soft: #a09a90; --line: #36332f;
  --accent: #f0845e; --glow: 0 1px 2px rgb(0 0 0 / 40%); }}
:root[data-theme=dark] {{ color-scheme: dark; }}
:root[data-theme=light] {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--bg); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }}
header {{ max-width: 90rem; margin: 0 auto; padding: 2.2rem 1.25rem .5rem; display: flex; flex-wrap: wrap;
  gap: 1rem 2rem; align-items: end; }}
h1 {{ font-size: clamp(1.5rem, 3vw, 2.2rem); line-height: 1.15; margin: 0; letter-spacing: -.02em;
  overflow-wrap: anywhere; }}
dl {{ display: flex; flex-wrap: wrap; gap: .35rem 1.4rem; margin: .5rem 0 0; }}
dl div {{ display: flex; gap: .4rem; }}
dt {{ color: var(--soft); }} dd {{ margin: 0; font-variant-numeric: tabular-nums; }}
.tools {{ margin-left: auto; display: flex; gap: .5rem; flex-wrap: wrap; }}
button {{ font: inherit; font-size: .9rem; color: var(--ink); background: var(--card); border: 1px solid var(--line);
  border-radius: 99px; padding: .4rem .95rem; cursor: pointer; }}
button[aria-pressed=true] {{ background: var(--ink); color: var(--bg); border-color: var(--ink); }}
kbd {{ font: .78rem ui-monospace, monospace; opacity: .65; margin-left: .3rem; }}
main {{ max-width: 90rem; margin: 0 auto; padding: 1rem 1.25rem 4rem; display: grid; gap: 1.5rem; }}
section {{ background: var(--card); border: 1px solid var(--line); border-radius: 14px; box-shadow: var(--glow);
  padding: 1.1rem; scroll-margin: 1rem; }}
section:focus-visible, button:focus-visible, a:focus-visible, input:focus-visible {{ outline: 3px solid var(--accent);
  outline-offset: 2px; }}
h2 {{ font-size: 1rem; margin: 0 0 .8rem; display: flex; flex-wrap: wrap; gap: .2rem 1rem; align-items: baseline;
  overflow-wrap: anywhere; }}
h2 small {{ font-weight: 400; color: var(--soft); font-variant-numeric: tabular-nums; }}
h3 {{ font-size: .85rem; font-weight: 600; color: var(--soft); margin: 0 0 .5rem; }}
.row {{ display: grid; gap: 1rem; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr) minmax(13rem, 19rem);
  align-items: start; }}
figure {{ margin: 0; }}
figcaption {{ font-size: .85rem; color: var(--soft); margin-top: .35rem; }}
img {{ display: block; max-width: 100%; height: auto; border-radius: 6px; background: #fff; }}
.pair {{ display: contents; }} .pair input {{ display: none; }}
.compare .row {{ grid-template-columns: minmax(0, 2fr) minmax(13rem, 19rem); }}
.compare .pair {{ display: block; position: relative; max-width: 52rem; }}
.compare .pair figcaption {{ display: none; }}
.compare .pair .result {{ position: absolute; inset: 0 0 auto 0; clip-path: inset(0 0 0 var(--cut, 50%)); }}
.compare .pair input {{ display: block; width: 100%; margin: .6rem 0 0; accent-color: var(--accent); }}
ol {{ list-style: none; margin: 0; padding: 0; display: grid; gap: .7rem;
  grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); }}
ol img, .none {{ width: 100%; aspect-ratio: 7 / 9; object-fit: cover; object-position: top; }}
.none {{ display: grid; place-items: center; border: 1px dashed var(--line); border-radius: 6px; color: var(--soft);
  font-size: .85rem; text-align: center; }}
.page-none {{ aspect-ratio: 7 / 10; }}
.score {{ height: 4px; border-radius: 4px; background: var(--line); margin-top: .4rem; overflow: hidden; }}
.score i {{ display: block; height: 100%; background: var(--accent); }}
.patch {{ font-size: .78rem; line-height: 1.35; color: var(--soft); font-variant-numeric: tabular-nums; }}
.patch b {{ color: var(--ink); }} .unused {{ opacity: .6; }}
footer {{ color: var(--soft); text-align: center; padding: 0 1rem 3rem; font-size: .85rem; }}
@media (max-width: 62rem) {{
  .row, .compare .row {{ grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }}
  .compare .row {{ grid-template-columns: minmax(0, 1fr); }}
  .references {{ grid-column: 1 / -1; }}
}}
@media (max-width: 34rem) {{
  .row {{ gap: .5rem; }} section {{ padding: .7rem; }} ol {{ grid-template-columns: repeat(3, 1fr); }}
}}
@media print {{ .tools {{ display: none; }} section {{ break-inside: avoid; box-shadow: none; }} }}
@media (prefers-reduced-motion: no-preference) {{ html {{ scroll-behavior: smooth; }} }}
</style>
</head>
<body>
<header>
<div><h1>{title}</h1><dl>{facts}</dl></div>
<div class="tools">
<button type="button" id="compare" aria-pressed="false">Compare<kbd>C</kbd></button>
<button type="button" id="theme">Light or dark<kbd>T</kbd></button>
</div>
</header>
<main>
"""

FOOT = """</main>
<footer>Keys: J and K go from page to page, C lays result over grey, T changes the light.</footer>
<script>
const pages = [...document.querySelectorAll("section")], root = document.documentElement;
const compare = document.getElementById("compare"), theme = document.getElementById("theme");
compare.onclick = () => {
  compare.setAttribute("aria-pressed", document.body.classList.toggle("compare"));
};
theme.onclick = () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
};
document.addEventListener("input", (event) => {
  const slider = event.target;
  if (slider.matches(".pair input")) slider.parentElement.style.setProperty("--cut", slider.value + "%");
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const at = pages.indexOf(document.activeElement.closest("section"));
  if (event.key === "j") pages[Math.min(at + 1, pages.length - 1)]?.focus();
  else if (event.key === "k") pages[Math.max(at - 1, 0)]?.focus();
  else if (event.key === "c") compare.click();
  else if (event.key === "t") theme.click();
});
</script>
</body>
</html>
"""


def head_of(head: Head) -> str:
    """The page's beginning; sections and `FOOT` follow it."""
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in head.facts)
    return HEAD.format(title=escape(head.title), facts=facts)


def section_of(number: int, row: Row) -> str:
    """One page of the book, which is the section of that number, from 1."""
    done, name = row.done, escape(row.done.page)
    facts = ["kept as it was, in colour" if done.already_colour else f"{done.seconds:.2f} s", f"depth {done.depth}"]
    facts += [f"confidence {done.confidence:.2f}"] if done.confidence is not None else []
    patches = "".join(_patch(patch) for patch in row.patches)
    return f"""<section id="page-{number}" tabindex="0" aria-label="{name}">
<h2>{name}<small>{escape(" · ".join(facts))}</small></h2>
<div class="row">
<div class="pair">
<figure>{_image(row.grey, f"{done.page}, grey", "page-none")}<figcaption>Grey</figcaption></figure>
<figure class="result">{_image(row.result, f"{done.page}, colour", "page-none")}<figcaption>Result</figcaption></figure>
<input type="range" min="0" max="100" value="50" aria-label="How much of {name} stays grey, percent">
</div>
<div class="references"><h3>References</h3>{f"<ol>{patches}</ol>" if patches else '<p class="patch">none</p>'}</div>
</div>
</section>
"""


def _patch(patch: Patch) -> str:
    hit = patch.hit
    width = max(0.0, min(1.0, hit.score)) * 100
    told = {True: "gave colour", False: "not used", None: hit.corner.replace("_", " ")}[hit.used]
    return f"""<li class="patch{" unused" if hit.used is False else ""}">{_image(patch.picture, patch.caption, "")}
<div class="score" aria-hidden="true"><i style="width:{width:.0f}%"></i></div>
<b>{hit.score:.3f}</b> {escape(patch.caption)}<br>{escape(told)}</li>"""


def _image(image: Thumbnail, alt: str, kind: str) -> str:
    if image is None:
        return f'<div class="none {kind}" role="img" aria-label="{escape(alt)}: not available">not available</div>'
    data = base64.b64encode(image.data).decode()
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img alt="{escape(alt)}" {size} loading="lazy" src="data:image/jpeg;base64,{data}">'
