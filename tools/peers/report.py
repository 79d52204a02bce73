"""The Markdown of a run."""

from __future__ import annotations

from collections.abc import Sequence

from peers.base import CHECKED_TOKENS
from peers.catalogue import CONTENDERS, OURS, Contender
from peers.figures import FIGURES, Figure, Group, Spread, advantage, spread


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(group: Group) -> str:
    """All that a group says: its figures, our ratios to the others, and who did not take part."""
    bandwidth = spread(group.bandwidth_gb_s)
    read = f", memory read {shown(bandwidth, 1)} GB/s" if bandwidth else ""
    parts = [
        f"## {group.model}: {group.title}, random weights, {group.threads} "
        f"thread{'s' if group.threads > 1 else ''}{read}",
        _figures(group),
    ]
    parts += [text for figure in FIGURES.values() if (text := _ratios(group, figure))]
    if disturbed := _disturbed(group):
        parts.append(disturbed)
    if group.skipped:
        parts.append("Not there:\n" + "\n".join(f"- {name}: {why}" for name, why in group.skipped.items()))
    return "\n\n".join(parts)


def _taking_part(group: Group) -> list[Contender]:
    return [each for each in CONTENDERS if any(map(spread, group.figures.get(each.name, {}).values()))]


def _measured(group: Group) -> list[Figure]:
    return [
        figure
        for figure in FIGURES.values()
        if any(spread(each.get(figure.name, ())) for each in group.figures.values())
    ]


def shown(value: Spread | None, digits: int) -> str:
    """The median, with its range where there are several values."""
    if value is None:
        return "-"
    median, low, high = (f"{each:.{digits}f}" for each in (value.median, value.low, value.high))
    return median if low == high else f"{median} ({low}-{high})"


def _figures(group: Group) -> str:
    """Medians with their range; the share of memory's bandwidth that the weights alone take in decode."""
    columns = _measured(group)
    bandwidth = any(group.bandwidth_gb_s)
    head = [
        "engine",
        *(figure.title for figure in columns),
        *(["% of memory"] if bandwidth else []),
        "first tokens",
    ]
    rows = []
    for each in _taking_part(group):
        figures = group.figures[each.name]
        row = [each.name, *(shown(spread(figures.get(column.name, ())), column.digits) for column in columns)]
        if bandwidth:
            row.append(_share(group, each.name))
        rows.append([*row, _agreement(group, each)])
    title = f"Medians (smallest-largest) of the rounds. Decode: {group.tokens} tokens after 16"
    title += (
        f", {group.batch_tokens} in a batch; prefill: {group.prefill} tokens. Greedy. First tokens: how many"
    )
    title += " are those of the first float32 engine."
    return f"{title}\n\n{table(head, rows)}"


def _share(group: Group, name: str) -> str:
    size = group.weight_bytes.get(name)
    speeds = group.figures[name].get("decode", ())
    shares: list[float | None] = [
        100 * speed * size / 1e9 / read if speed and size and read else None
        for speed, read in zip(speeds, group.bandwidth_gb_s, strict=False)
    ]
    return shown(spread(shares), 0)


DISTURBED = 0.1  # of the processors


def _disturbed(group: Group) -> str:
    """How much of the processors others had. It matters: an engine whose threads spin suffers most."""
    worst = {name: shares.high for name, each in group.others.items() if (shares := spread(each))}
    if not worst:
        return ""
    name = max(worst, key=lambda each: worst[each])
    text = f"Other processes and the host took at most {100 * worst[name]:.0f} % of the processors ({name})"
    many = sum(share > DISTURBED for share in worst.values())
    if not many:
        return f"{text}."
    return f"**{text}, and more than {100 * DISTURBED:.0f} % beside {many} engines: distrust these ratios.**"


def _agreement(group: Group, contender: Contender) -> str:
    if contender.name not in group.agreement:
        return "-"
    agreed = group.agreement[contender.name]
    return f"{agreed}, DIFFERS" if contender.exact and agreed < CHECKED_TOKENS else str(agreed)


def _ratios(group: Group, figure: Figure) -> str:
    """pygpt's formats against everyone: how many times better, and bold where both have as many bits."""
    part = [each for each in _taking_part(group) if spread(group.figures[each.name].get(figure.name, ()))]
    ours = [each for each in part if each.engine == OURS]
    theirs = [each for each in part if each.engine != OURS]
    if not ours or not theirs:
        return ""
    rows = []
    for peer in theirs:
        row = [peer.name]
        for mine in ours:
            values, others = (group.figures[each.name][figure.name] for each in (mine, peer))
            ratio = shown(advantage(values, others, figure), 2)
            row.append(f"**{ratio}**" if mine.bits == peer.bits else ratio)
        rows.append(row)
    better = "pygpt / peer" if figure.higher_is_better else "peer / pygpt"
    head = [f"{figure.title}: {better}", *(each.name for each in ours)]
    return table(head, rows)
