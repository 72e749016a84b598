"""The cluster, the queue and a decision as HTML: a cell per node, a bar per resource, a square per GPU.

Plain strings, so that a test can read them. Colours of text come from the page (`currentColor`), so that the same cells
suit a light and a dark theme; the grid takes as many columns as the page is wide.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from extender.placement import CPU, GPU, MEMORY, WHOLE_DEVICE_MILLI, shares_device
from training.demo.live import Decision, LiveCluster, WaitingPod, asked
from training.replay.manifests import node_name
from training.workloads.base import FloatArray

COLOURS = {"cpu": "#5b84b1", "memory": "#6f9f8d", "gpu": "#cf8f3f", "taken": "#2f7f9f"}
MINUS = "\N{MINUS SIGN}"
FEATURES_SHOWN = 8
QUEUE_SHOWN = 6
STYLE = """<style>
.sw-grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(76px,1fr));gap:6px}
.sw-node{border:1px solid color-mix(in srgb,currentColor 18%,transparent);border-radius:6px;padding:5px 6px 6px;
 font-size:11px;line-height:1.2;min-width:0}
.sw-node.sw-no{opacity:.38}
.sw-node.sw-best{border-color:#2f7f9f;box-shadow:0 0 0 2px #2f7f9f}
.sw-head{display:flex;justify-content:space-between;font-variant-numeric:tabular-nums;margin-bottom:4px}
.sw-head b{font-weight:600}
.sw-bar{height:5px;border-radius:2px;margin-bottom:3px}
.sw-gpus{display:flex;gap:2px;height:11px;margin-top:4px}
.sw-gpus i{flex:1;max-width:11px;border-radius:2px}
.sw-key{display:flex;flex-wrap:wrap;gap:4px 14px;font-size:12px;opacity:.85;margin:2px 0 8px}
.sw-key span::before{content:"";display:inline-block;width:9px;height:9px;border-radius:2px;margin-right:5px;
 background:var(--c)}
.sw-rows{display:grid;gap:5px 10px;align-items:center;font-size:13px;font-variant-numeric:tabular-nums}
.sw-rows .sw-number{text-align:right}
.sw-rows .sw-dim,.sw-dim{opacity:.7}
.sw-rows .sw-title{font-size:11px;opacity:.7;border-bottom:1px solid color-mix(in srgb,currentColor 18%,transparent);
 padding-bottom:3px}
.sw-part{position:relative;height:12px;background:linear-gradient(to right,transparent calc(50% - .5px),
 color-mix(in srgb,currentColor 35%,transparent) calc(50% - .5px) calc(50% + .5px),transparent calc(50% + .5px))}
.sw-part i{position:absolute;top:1px;bottom:1px;border-radius:2px}
.sw-name{overflow-wrap:anywhere}
.sw-facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(105px,1fr));gap:8px 12px;margin:2px 0 10px}
.sw-facts div{border-left:2px solid color-mix(in srgb,currentColor 22%,transparent);padding-left:9px}
.sw-facts b{display:block;font-size:20px;font-weight:600;font-variant-numeric:tabular-nums;line-height:1.25}
.sw-facts span{font-size:12px;opacity:.75}
</style>"""
TRACK = "color-mix(in srgb,currentColor 13%,transparent)"
FOR_IT, AGAINST_IT = "#3b8f86", "#bf6750"


def cluster(live: LiveCluster) -> str:
    """Every node as a cell; those where the pod that is being decided on does not fit are pale."""
    used, devices, pods = live.used_shares(), live.device_free_milli(), live.pods_on_nodes()
    decision = live.decision
    fits = set(decision.candidates.rows.tolist()) if decision else set(range(len(used)))
    priority = (
        dict(zip(decision.ranking.rows.tolist(), decision.ranking.priorities.tolist(), strict=True)) if decision else {}
    )
    taken = _taken(live, decision)
    best = int(decision.ranking.rows[0]) if decision else -1
    cells = []
    for row in range(len(used)):
        kind = "" if row in fits else " sw-no"
        kind += " sw-best" if row == best else ""
        extra = taken if row == best else np.zeros(used.shape[1])
        model = live.workload.models[live.workload.model[row]]
        shares = ", ".join(
            f"{name} {100 * used[row, at]:.0f} %" for at, name in enumerate(live.workload.resources) if at <= GPU
        )
        hint = f"{node_name(row)}: {shares} in use, {pods[row]} pods" + (f", {model}" if model else "")
        cells.append(
            f'<div class="sw-node{kind}" title="{escape(hint)}"><div class="sw-head"><span>{row}</span>'
            f"<b>{priority.get(row, '')}</b></div>"
            + _bar("cpu", used[row, CPU], extra[CPU])
            + _bar("memory", used[row, MEMORY], extra[MEMORY])
            + _gpus(devices[row], _devices_taken(devices[row], decision) if row == best else {})
            + "</div>"
        )
    names = {"cpu": "CPU in use", "memory": "memory in use", "gpu": "GPU in use", "taken": "what the pod would take"}
    key = "".join(f'<span style="--c:{COLOURS[name]}">{text}</span>' for name, text in names.items())
    return (
        f'{STYLE}<div class="sw-key">{key}</div><div class="sw-grid" role="img" aria-label="{len(used)} nodes with '
        f'what is in use of each">{"".join(cells)}</div>'
    )


def facts(figures: Mapping[str, str]) -> str:
    """A few figures in a row, each with its name."""
    each = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in figures.items())
    return f'{STYLE}<div class="sw-facts">{each}</div>'


def queue(pods: Sequence[WaitingPod]) -> str:
    """Who waits, the longest wait first."""
    if not pods:
        return f'{STYLE}<p class="sw-dim">No pod waits.</p>'
    rows = [(str(each.pod), each.asks_for, f"{each.seconds:,.0f}") for each in pods[:QUEUE_SHOWN]]
    rest = len(pods) - QUEUE_SHOWN
    more = f'<p class="sw-dim">and {rest:,} more</p>' if rest > 0 else ""
    return table(("pod", "asks for", "has waited, s"), rows, numbers=1) + more


def ranking(decision: Decision) -> str:
    """The nodes as kube-scheduler would be told them."""
    usual = node_name(decision.usual_row)
    rows = []
    for node in decision.explanation["nodes"]:
        name = node["name"] + (" · kube-scheduler's own choice" if node["name"] == usual else "")
        rows.append((str(node["priority"]), name, f"{node['score']:.4g}".replace("-", MINUS)))
    return table(("priority", "node", "score"), rows, numbers=1)


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], numbers: int, wide: int = 1) -> str:
    """A table that breaks its texts rather than being wider than a phone.

    Args:
        titles: of the columns.
        rows: as many cells each.
        numbers: how many of the last columns are aligned to the right.
        wide: the column that takes what is left.
    """
    first_number = len(titles) - numbers
    kinds = ["sw-name" if at < first_number else "sw-number" for at in range(len(titles))]
    cells = [f'<span class="sw-title {kind}">{escape(title)}</span>' for kind, title in zip(kinds, titles, strict=True)]
    for row in rows:
        cells += [f'<span class="{kind}">{escape(text)}</span>' for kind, text in zip(kinds, row, strict=True)]
    columns = " ".join("minmax(6em,1fr)" if at == wide else "auto" for at in range(len(titles)))
    return f'{STYLE}<div class="sw-rows" style="grid-template-columns:{columns}">{"".join(cells)}</div>'


def contributions(node: Mapping[str, Any]) -> str:
    """What each feature has to do with the score of a node of `Decision.explanation`, the largest parts first."""
    widest = max((abs(feature["contribution"]) for feature in node["features"]), default=0.0)
    rows = [_title("feature", "value", "part in the score", "")]
    for feature in node["features"][:FEATURES_SHOWN]:
        part, value = feature["contribution"], f"{feature['value']:.3g}".replace("-", MINUS)
        width = 50 * abs(part) / widest if widest else 0.0
        side = f"left:50%;background:{FOR_IT}" if part >= 0 else f"right:50%;background:{AGAINST_IT}"
        rows.append(
            f'<span class="sw-name">{escape(feature["name"])}</span>'
            f'<span class="sw-number sw-dim">{value}</span>'
            f'<div class="sw-part"><i style="{side};width:{width:.1f}%"></i></div>'
            f'<span class="sw-number">{signed(part)}</span>'
        )
    columns = "minmax(0,1.3fr) auto minmax(70px,1fr) auto"
    return f'{STYLE}<div class="sw-rows" style="grid-template-columns:{columns}">{"".join(rows)}</div>'


def headline(decision: Decision) -> str:
    """The pod and where it goes, in one sentence."""
    count = len(np.unique(decision.candidates.rows))
    best = decision.explanation["nodes"][0]["name"]
    return f"Pod {decision.pod} asks for {asked(decision.request)}. It fits on {count} nodes and goes to {best}."


def signed(part: float) -> str:
    """A part of a score with its sign.

    Example:
        >>> signed(0.5)
        '+0.500'
    """
    return f"{part:+.3f}".replace("-", MINUS)


def _title(*names: str) -> str:
    return "".join(f'<span class="sw-title">{escape(name) or "&nbsp;"}</span>' for name in names)


def _bar(name: str, used: float, taken: float) -> str:
    first, second = 100 * min(used, 1.0), 100 * min(used + taken, 1.0)
    return (
        f'<div class="sw-bar" style="background:linear-gradient(to right,{COLOURS[name]} {first:.1f}%,'
        f'{COLOURS["taken"]} {first:.1f}% {second:.1f}%,{TRACK} {second:.1f}%)"></div>'
    )


def _gpus(free: Any, taken: Mapping[int, int]) -> str:
    squares = []
    for device, milli in enumerate(free.tolist()):
        if milli < 0:
            continue
        first = 100 * (1 - milli / WHOLE_DEVICE_MILLI)
        second = first + 100 * taken.get(device, 0) / WHOLE_DEVICE_MILLI
        squares.append(
            f'<i style="background:linear-gradient(to top,{COLOURS["gpu"]} {first:.1f}%,'
            f'{COLOURS["taken"]} {first:.1f}% {second:.1f}%,{TRACK} {second:.1f}%)"></i>'
        )
    return f'<div class="sw-gpus">{"".join(squares)}</div>'


def _taken(live: LiveCluster, decision: Decision | None) -> FloatArray:
    if decision is None:
        return np.zeros(len(live.workload.resources))
    capacity = live.workload.allocatable[decision.ranking.rows[0]]
    return np.asarray(decision.request.request / np.maximum(capacity, 1), np.float64)


def _devices_taken(free: Any, decision: Decision | None) -> dict[int, int]:
    """Thousandths of each device that the pod would take on its best node, as `placement.occupy` takes them."""
    if decision is None or decision.request.gpu_count == 0:
        return {}
    request = decision.request
    if shares_device(request):
        return {int(decision.ranking.devices[0]): request.gpu_milli}
    enough = [device for device, milli in enumerate(free.tolist()) if milli >= request.gpu_milli]
    return dict.fromkeys(enough[: request.gpu_count], request.gpu_milli)
