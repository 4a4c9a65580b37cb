"""A chain as a page: one HTML file that needs no network, with its equations set, its residuals drawn, its mistakes refuted."""

import io
import re
from html import escape

import numpy as np

from ..files import write_whole
from .chain import SIDES, shown

ACRONYMS = {"cd", "ddim", "ddpm", "elbo", "gan", "iwae", "kid", "kl", "mcmc", "r1", "sde", "ve", "vp"}
SHORT, LONG = re.compile(r"\\(le|ge|ne)(?![A-Za-z])"), r"\\\1q"  # matplotlib knows only \leq, \geq, \neq
STYLE = """
body { font: 17px/1.55 Georgia, "Times New Roman", serif; color: #222; background: #fff; max-width: 46rem; margin: 2.5rem auto;
  padding: 0 1.2rem; }
h1 { font-weight: normal; font-size: 2rem; margin-bottom: 0.2rem; }
h2 { font-weight: normal; font-size: 1.2rem; margin: 2.6rem 0 0.2rem; border-top: 1px solid #ddd; padding-top: 1.2rem; }
h2 small, .source { color: #666; font-size: 0.9rem; }
.equation { overflow-x: auto; margin: 0.9rem 0; background:
  linear-gradient(to right, #fff 40%, #fff0) left / 3rem 100% no-repeat local,
  linear-gradient(to left, #fff 40%, #fff0) right / 3rem 100% no-repeat local,
  linear-gradient(to right, #0004, #0000) left / 1rem 100% no-repeat scroll,
  linear-gradient(to left, #0004, #0000) right / 1rem 100% no-repeat scroll; }
.equation svg { height: auto; vertical-align: middle; }
.residuals svg { max-width: 100%; height: auto; }
.because { margin: 0.4rem 0; }
.values { font: 0.85rem/1.5 ui-monospace, Menlo, Consolas, monospace; color: #333; overflow-x: auto; white-space: pre-wrap; }
.wrong { border-left: 3px solid #d55e00; padding: 0.1rem 0 0.1rem 0.8rem; margin: 0.7rem 0; }
.wrong b { color: #b34700; font-weight: normal; }
details { font-size: 0.85rem; color: #555; }
nav { margin: 1rem 0; }
a { color: #0072b2; }
"""


def write_pages(chains, folder, draws):
    """Write FOLDER/NAME.html for each chain, and FOLDER/index.html with links to them."""
    for chain in chains:
        write_whole(folder / f"{chain.name}.html", page(chain, draws).encode())
    rows = "".join(
        f'<h2><a href="{chain.name}.html">{_words(chain.name)}</a> <small>{len(chain.steps)} steps</small></h2>'
        f"<p>{escape(chain.about)}</p>"
        for chain in chains
    )
    about = "<p>Each line of these derivations is run on many instances, and its wrong siblings are refuted.</p>"
    write_whole(folder / "index.html", _document("Derivations that run", about + rows).encode())


def page(chain, draws):
    """The page of a chain, as text."""
    steps = "".join(_step(number, step, draws) for number, step in enumerate(chain.steps, start=1))
    head = f'<p>{escape(chain.about)}</p><p class="source">{escape(chain.source)}</p>'
    return _document(_words(chain.name), f'<nav><a href="index.html">All derivations</a></nav>{head}{steps}')


def _step(number, step, draws):
    instances = step.examples(draws)
    residuals = [step.residual(instance) for instance in instances]
    left, right, _ = step.values(instances[-1])
    source = f'<p class="source">{escape(step.source)}</p>' if step.source != step.chain.source else ""
    what = f" ({SIDES[step.kind]})" if step.kind in SIDES else ""
    sign = "&le;" if step.kind == "at_most" else "="
    verdict = "holds" if max(residuals) <= 1 else "does not hold"
    return (
        f"<h2>{number}. {_words(step.name)} <small>{verdict} for {len(instances)} instances</small></h2>"
        f'<div class="equation">{equation(step.latex, step.name)}</div>'
        f'<p class="because">Because: {escape(step.because)}.</p>{source}'
        f'<p class="values">on one of them{what}: {shown(left)} {sign} {shown(right)}</p>'
        f'<div class="residuals">{_strip(residuals, step.name)}</div>'
        + "".join(_sibling(step, mistake, draws) for mistake in step.siblings)
    )


def _sibling(step, mistake, draws):
    instance = step.refutation(mistake, draws)
    if instance is None:
        return f'<div class="wrong"><b>Wrong, and not refuted: {escape(mistake)}</b></div>'
    left, right, _ = step.values(instance, mistake)
    kind = "Wrong, and published" if mistake in step.published else "Wrong"
    sign = "\N{NOT EQUAL TO}" if step.kind != "at_most" else "&gt;"
    with np.printoptions(precision=4, suppress=True, threshold=40):
        seen = re.sub(r"\s+", " ", repr(instance))
    return (
        f'<div class="wrong"><b>{kind}: {escape(mistake)}.</b>'
        f'<div class="values">{shown(left)} {sign} {shown(right)}</div>'
        f'<details><summary>the instance that refutes it</summary><div class="values">{escape(seen[:1500])}</div></details>'
        "</div>"
    )


def equation(latex, name):
    """LaTeX, in the subset that matplotlib knows, as an SVG of outlines, whose identifiers begin with a name of their own."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"mathtext.fontset": "stix", "font.family": "STIXGeneral", "svg.fonttype": "path", "svg.hashsalt": latex}):
        figure = Figure()
        figure.text(0, 0, f"${SHORT.sub(LONG, latex)}$", fontsize=15)
        file = io.BytesIO()
        figure.savefig(file, format="svg", bbox_inches="tight", pad_inches=0.04, transparent=True, metadata={"Date": None})
    return _inline(file, latex, f"{name}-equation-")


def _strip(residuals, name):
    """The residuals of all instances, on a logarithmic line that ends at 1, what rounding allows."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.family": "STIXGeneral", "svg.fonttype": "path", "svg.hashsalt": "strip", "font.size": 9}):
        figure = Figure(figsize=(5.2, 0.62))
        axes = figure.add_axes((0.02, 0.62, 0.96, 0.3))
        values = np.clip(residuals, 1e-9, 10)
        axes.scatter(values, np.zeros(len(values)), s=16, color="#0072B2", alpha=0.3, linewidths=0, clip_on=False)
        axes.axvline(1, color="#D55E00", linewidth=1.2)
        axes.set(xscale="log", xlim=(1e-9, 3), ylim=(-1, 1), yticks=[], xticks=[1e-9, 1e-6, 1e-3, 1])
        axes.set_xticklabels(["exact", "a millionth", "a thousandth", "all that rounding allows"], ha="center")
        axes.xaxis.get_ticklabels()[0].set_ha("left")
        axes.xaxis.get_ticklabels()[-1].set_ha("right")
        axes.minorticks_off()
        for side in ("left", "top", "right"):
            axes.spines[side].set_visible(False)
        file = io.BytesIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _inline(file, "how far from true each instance is", f"{name}-residuals-")


def _inline(file, label, own):
    """The <svg> element of a file, with identifiers of its own: a page has many."""
    svg = file.getvalue().decode()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{own}', svg)
    svg = re.sub(r'(href="|url\()#', rf"\g<1>#{own}", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label, quote=True)}"', 1)


def _words(name):
    """A name as a title: "model_elbo" is "Model ELBO"."""
    first, *rest = (word.upper() if word in ACRONYMS else word for word in name.split("_"))
    return escape(" ".join([first[0].upper() + first[1:], *rest]))


def _document(title, body):
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>"
    )
