"""The selection read literally: loops over all pairs, one sentence of the rule a line. Slow, short, independent."""

import math
from dataclasses import dataclass
from fractions import Fraction

import igraph as ig
import leidenalg
import networkx as nx
import numpy as np

from st_simdiff.selection.rule import SelectionRule

TIE = 1e-6


@dataclass
class Reading:
    """Communities and scores by offset, and the sets of offsets that are chosen."""

    community: dict
    score: dict
    representative: set
    event: set
    newline: set


def cosine(a, b):
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / norms if norms else 0.0


def places(grid, newline):
    """(frame, row, column) of every token that is a node of the grid, by offset; the others have no neighbours."""
    where, offset = {}, 0
    for t in range(grid.frames):
        for h in range(grid.height):
            for w in range(grid.width + (grid.separators == "row")):
                if w < grid.width or newline == "node":
                    where[offset] = (t, h, w)
                offset += 1
        offset += grid.separators == "frame"
    return where


def edges_of(x, where):
    """(earlier, later, kind, cosine) of every pair of neighbours: all right, then all down, then all next."""
    at = {place: offset for offset, place in where.items()}
    found = []
    for kind, step in (("right", (0, 0, 1)), ("down", (0, 1, 0)), ("next", (1, 0, 0))):
        for offset, place in where.items():
            later = at.get(tuple(p + s for p, s in zip(place, step, strict=True)))
            if later is not None:
                found.append((offset, later, kind, cosine(x[offset], x[later])))
    return found


def limit(tau, cosines):
    """A fixed threshold, or a quantile: copies (cosine above 1 - 1e-6) always count as similar."""
    if not isinstance(tau, str):
        return tau
    return min(np.quantile(cosines, float(tau[1:])), 1 - TIE) if cosines else math.nan


def cut_community(members, where, cap):
    """Halves a set of nodes across its longest axis until no part exceeds the cap."""
    parts = math.ceil(len(members) / cap)
    if parts < 2:
        return [members]
    extent = [max(where[m][axis] for m in members) - min(where[m][axis] for m in members) for axis in range(3)]
    axis = extent.index(max(extent))
    ordered = sorted(members, key=lambda m: (where[m][axis], m))
    left = len(members) * (parts // 2) // parts
    return cut_community(ordered[:left], where, cap) + cut_community(ordered[left:], where, cap)


def most_central(members, score, quota):
    cut = sorted((score[a] for a in members), reverse=True)[quota - 1]
    above = [a for a in members if score[a] > cut + TIE]
    tied = sorted(a for a in members if abs(score[a] - cut) <= TIE)
    free = quota - len(above)
    return above + [tied[i * len(tied) // free] for i in range(free)]


def farthest(members, score, quota, x):
    chosen = most_central(members, score, 1)
    while len(chosen) < quota:
        reach = {a: min(1 - cosine(x[a], x[b]) for b in chosen) for a in members if a not in chosen}
        chosen.append(min(a for a in reach if reach[a] >= max(reach.values()) - TIE))
    return chosen


def louvain(graph, seed):
    return nx.community.louvain_communities(graph, weight="weight", seed=seed)


def leiden(graph, seed):
    nodes = list(graph)
    converted = ig.Graph.from_networkx(graph)
    weights = converted.es["weight"] if graph.edges else []
    kind = leidenalg.ModularityVertexPartition
    partition = leidenalg.find_partition(converted, kind, weights=weights, seed=seed, n_iterations=-1)
    return [{nodes[i] for i in part} for part in partition]


MODULARITY = {"louvain": louvain, "leiden": leiden}


def newline_budget(grid, retention, rule, separators, nodes):
    """The share of every community, and the newline tokens kept without being nodes."""
    share = Fraction(str(retention))
    if rule.newline == "node":
        return share, set()
    target = max(1, math.ceil(share * grid.count))
    kept = len(separators) if rule.newline == "keep" else max(0, target - nodes)
    spread = {separators[(2 * i + 1) * len(separators) // (2 * kept)] for i in range(kept)}
    return Fraction(target - kept, nodes), spread


def read_paper(features, grid, retention, rule=None, **settings):
    """Section 4.2 to 4.5 with every setting of `SelectionRule`."""
    rule = rule or SelectionRule(**settings)
    x = features.double().tolist()
    where = places(grid, rule.newline)
    edges = edges_of(x, where)
    switched_on = {
        "right": rule.spatial and rule.right,
        "down": rule.spatial and rule.bottom,
        "next": rule.temporal,
    }
    tau_sim = limit(rule.tau_sim, [w for *_, kind, w in edges if switched_on[kind]])
    tau_diff = limit(rule.tau_diff, [w for *_, kind, w in edges if kind == "next"])
    event = {later for _, later, kind, w in edges if kind == "next" and w < tau_diff}

    graph = nx.Graph()
    graph.add_nodes_from(where)
    for earlier, later, kind, w in edges:
        if switched_on[kind] and w > tau_sim:
            graph.add_edge(earlier, later, weight=w)
    if rule.communities == "connected_components":
        found = list(nx.connected_components(graph))
    else:
        graph.remove_edges_from([(u, v) for u, v, w in graph.edges(data="weight") if w <= 0])
        found = MODULARITY[rule.communities](graph, rule.seed)
    if rule.community_cap is not None:
        cap = max(1, math.isqrt(grid.count)) if rule.community_cap == "sqrt" else rule.community_cap
        found = [part for members in found for part in cut_community(sorted(members), where, cap)]

    separators = [offset for offset in range(grid.count) if offset not in where]
    share, newline = newline_budget(grid, retention, rule, separators, len(where))
    representative, community, score = set(), {}, {}
    for members in [*found, *([s] for s in separators)]:
        for a in members:
            community[a] = min(members)
            others = [cosine(x[a], x[b]) for b in members if b != a]
            score[a] = sum(others) / len(others) if others else 1.0
        quota = math.ceil(len(members) * share)
        if rule.ranking == "central":
            representative.update(most_central(members, score, quota))
        else:
            representative.update(farthest(members, score, quota, x))
    if rule.newline != "node":
        representative -= set(separators)
    return Reading(community, score, representative, event, newline)
