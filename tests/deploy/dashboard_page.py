"""Draws panels of a dashboard with the data that Prometheus gave for them, as an HTML page: what there is without Grafana to look
at. dashboard.py calls it."""

import html
import math
import re

COLOURS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffa6b0"]
CELL = 56
HEIGHT = 34


def written(value, unit):
    """A figure as Grafana would write it in that unit."""
    if unit == "s":
        return f"{value * 1000:.2f} ms" if value < 1 else f"{value:.2f} s"
    if unit == "bytes":
        return f"{value / 2**20:.1f} MiB"
    if unit == "percentunit":
        return f"{value:.1%}"
    if unit == "percent":
        return f"{value:.1f} %"
    return f"{value:.3g} {unit if unit not in (None, 'short', 'none') else ''}".strip()


def draw(drawn):
    """One page of every panel: [(panel, legend, series of a range query)], in the dashboard's own layout."""
    panels = {}
    for panel, legend, series in drawn:
        panels.setdefault(panel["id"], (panel, []))[1].extend(
            (re.sub(r"\{\{(\w+)\}\}", lambda match, one=one: one["metric"].get(match.group(1), ""), legend), one["values"]) for one in series
        )
    return (
        "<!doctype html><meta charset=utf-8><title>dashboard</title><style>body{background:#111217;color:#ccccdc;margin:0;"
        "font:12px sans-serif;position:relative}.p{position:absolute;background:#181b1f;border:1px solid #2c3235;box-sizing:"
        "border-box;overflow:hidden;padding:6px}b{font-size:13px}.l{white-space:nowrap}</style>"
        + "".join(box(panel, series) for panel, series in panels.values())
    )


def box(panel, series):
    at = panel["gridPos"]
    width, height = at["w"] * CELL, at["h"] * HEIGHT
    unit = panel["fieldConfig"]["defaults"].get("unit")
    plot_width, plot_height = width - 80, height - 70
    points = [(float(t), float(v)) for _, values in series for t, v in values if not math.isnan(float(v))]
    lines, legend = [], []
    if points:
        left, right = min(t for t, _ in points), max(t for t, _ in points)
        top = max(v for _, v in points) * 1.1 or 1
        for number, (name, values) in enumerate(series):
            colour = COLOURS[number % len(COLOURS)]
            path = " ".join(
                f"{60 + (float(t) - left) / ((right - left) or 1) * plot_width:.1f},{plot_height - float(v) / top * (plot_height - 5):.1f}"
                for t, v in values
                if not math.isnan(float(v))
            )
            lines.append(f'<polyline fill="none" stroke="{colour}" points="{path}"/>')
            legend.append(f'<span class=l style="color:{colour}">&#9644; {html.escape(name)} {written(float(values[-1][1]), unit)}</span>')
        for share in (0, 0.5, 1):
            lines.append(f'<text x="0" y="{plot_height - share * (plot_height - 12):.0f}" fill="#8e8e99" font-size="10">{written(top * share, unit)}</text>')
    else:
        lines.append('<text x="80" y="60" fill="#f2495c" font-size="16">No data</text>')
    return (
        f'<div class=p style="left:{at["x"] * CELL}px;top:{at["y"] * HEIGHT}px;width:{width}px;height:{height}px"><b>{html.escape(panel["title"])}</b>'
        f'<svg width="{width - 14}" height="{plot_height + 4}">{"".join(lines)}</svg><div>{" ".join(legend)}</div></div>'
    )
