"""The rule for the input alone read literally: numbers in lists, loops over all pairs, one sentence a line."""

import math

import numpy as np
import torch

TIE = 1e-6


def projected(rows):
    """Every row times the standard normal matrix of seed 0, over 8."""
    matrix = torch.randn(len(rows[0]), 64, generator=torch.Generator().manual_seed(0)).double().tolist()
    rows = [[x if math.isfinite(x) else 0.0 for x in row] for row in rows]
    return [[sum(x * line[q] for x, line in zip(row, matrix, strict=True)) / 8 for q in range(64)] for row in rows]


def half_whitened(rows, frame):
    """Frame means go, principal axes shrink by the root of their singular value, the mean square is 1/2."""
    whole = math.sqrt(sum(y * y for row in rows for y in row))
    single = frame.count(0) == 1
    centred = []
    for t, row in zip(frame, rows, strict=True):
        group = [other for s, other in zip(frame, rows, strict=True) if s == t or single]
        centred.append([y - sum(other[q] for other in group) / len(group) for q, y in enumerate(row)])
    values, axes = np.linalg.eigh(np.array(centred).T @ np.array(centred))
    strength = [math.sqrt(max(0.0, value)) for value in values]
    z = [[] for _ in rows]
    for q, s in enumerate(strength):
        if s > 1e-4 * max(strength) and s > 1e-6 * whole:
            for row, out in zip(centred, z, strict=True):
                out.append(sum(y * float(a) for y, a in zip(row, axes[:, q], strict=True)) / math.sqrt(s))
    sigma = math.sqrt(2 * sum(v * v for row in z for v in row) / len(z)) or 1.0
    return [[v / sigma for v in row] for row in z]


def apart(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def read_input(features, grid, count, events=True):
    """(kept, event offsets, seed offset, reach by offset) of a video; an event may also be a farthest point."""
    places, separators, offset = [], [], 0
    for t in range(grid.frames):
        for h in range(grid.height):
            for w in range(grid.width):
                places.append((t, h, w, offset))
                offset += 1
            if grid.separators == "row":
                separators.append(offset)
                offset += 1
        if grid.separators == "frame":
            separators.append(offset)
            offset += 1
    separators += [offset] if grid.separators == "end" else []
    where = [place[3] for place in places]
    if count >= len(where):
        more = count - len(where)
        return (
            set(where) | {separators[(2 * i + 1) * len(separators) // (2 * more)] for i in range(more)},
            set(),
            None,
            {},
        )

    frame = [place[0] for place in places]
    z = half_whitened(projected([features[o].double().tolist() for o in where]), frame)
    frames, size = grid.frames, grid.height * grid.width
    weight = 0.25 / ((frames**2 - 1) / (3 * frames)) if frames > 1 else 0.0

    change = {i: round(apart(z[i], z[i - size]) / TIE) for i in range(size, len(z))}
    number = min(count * count // grid.count, len(change)) if events else 0
    event = sorted(change, key=lambda i: (-change[i], i))[:number]

    middle = [math.sqrt(sum(v * v for v in z[i])) + weight * abs(frame[i] - (frames - 1) / 2) for i in range(len(z))]
    seed = min(i for i in range(len(z)) if middle[i] <= min(middle) + TIE)

    runs = math.ceil(frames / 64)
    parts = {}
    for i, (t, h, w, _) in enumerate(places):
        parts.setdefault((t * runs // frames, h // 2, w // 2), []).append(i)
    picks = []
    for number, label in enumerate(sorted(parts)):
        near = {i: apart(z[i], z[seed]) + weight * abs(frame[i] - frame[seed]) for i in parts[label] if i != seed}
        turn = 0
        while near:
            largest = max(near.values())
            pick = min(i for i in near if near[i] >= largest - TIE)
            picks.append((-round(largest / TIE), turn, number, pick, largest))
            del near[pick]
            near = {i: min(d, apart(z[i], z[pick]) + weight * abs(frame[i] - frame[pick])) for i, d in near.items()}
            turn += 1
    kept = {*event, seed}
    for *_, pick, _ in sorted(picks):
        if len(kept) < count:
            kept.add(pick)
    reach = {where[pick]: largest for *_, pick, largest in picks}
    return {where[i] for i in kept}, {where[i] for i in event}, where[seed], reach
