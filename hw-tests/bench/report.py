"""Results as JSON for machines and as a Markdown table for people."""
import json
import os


def number(value):
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def short(figures, measured):
    return "; ".join(f"{figures[key][0]} {number(value)} {figures[key][1]}".rstrip() for key, value in measured.items() if key in figures)


def ratio(ours, peer, better):
    """How many times better ours is: above 1 is ours."""
    if not ours or not peer:
        return "-"
    times = ours / peer if better.startswith("more") else peer / ours
    return f"**{times:.1f} x**" if times >= 1 else f"{times:.2f} x"


def table(outcome, cases):
    lines = ["| | Postfix + Dovecot | Twinpost | Twinpost is better by |", "|---|---:|---:|---:|"]
    for name, sides in outcome["cases"].items():
        title, _, figures, _ = cases[name]
        measured = {side: sides.get(side, {}).get("figures", {}) for side in ("peer", "ours")}
        lines.append(f"| **{title}** (`{name}`) | | | |")
        for side in ("peer", "ours"):
            fault = sides.get(side, {}).get("fault")
            if fault:
                lines.append(f"| not measured, {'Twinpost' if side == 'ours' else 'Postfix + Dovecot'}: {fault.replace('|', '/')[:200]} | | | |")
        for key, (label, unit, better) in figures.items():
            ours, peer = measured["ours"].get(key), measured["peer"].get(key)
            if ours is None and peer is None:
                continue
            lines.append(f"| {label}{', ' + unit if unit else ''} | {number(peer)} | {number(ours)} | {ratio(ours, peer, better)} |")
    return "\n".join(lines) + "\n"


def write(folder, outcome, cases):
    head = f"Begun {outcome['begun']}, {outcome['processors']} processors, kernel {outcome['kernel']}"
    head += ", a tenth of the messages (--quick)" if outcome["quick"] else ""
    for name, text in (("results.json", json.dumps(outcome, indent=1) + "\n"), ("results.md", head + ".\n\n" + table(outcome, cases))):
        new = folder / (name + ".new")
        new.write_text(text)
        os.replace(new, folder / name)
