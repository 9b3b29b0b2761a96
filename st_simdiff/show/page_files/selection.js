"use strict";
// Section 4 of the ST-SimDiff paper on stored similarity planes and projected features: the same choice, token for
// token, as st_simdiff.selection.select makes of the same numbers.

const TIE = 1e-6; // centralities this close count as equal

// Offset of the node (frame, row, column); separators that are no column of the grid come between the frames.
function nodeOffset(grid, frame, row, column) {
  return frame * grid.frameLength + row * grid.columns + column;
}

// Smallest offset in the component of every token, where edges of weight > tauSim join neighbours.
function connectedComponents(grid, planes, tauSim) {
  const tau = Math.fround(tauSim); // the planes are float32
  const parent = Int32Array.from({ length: grid.count }, (_, offset) => offset);
  const find = (offset) => {
    while (parent[offset] !== offset) {
      parent[offset] = parent[parent[offset]];
      offset = parent[offset];
    }
    return offset;
  };
  const join = (one, other) => {
    const a = find(one), b = find(other);
    if (a < b) parent[b] = a;
    else parent[a] = b;
  };
  const { frames, height, columns, frameLength } = grid;
  let right = 0, down = 0, next = 0;
  for (let frame = 0; frame < frames; frame++) {
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < columns; column++) {
        const offset = nodeOffset(grid, frame, row, column);
        if (column + 1 < columns && planes.right[right++] > tau) join(offset, offset + 1);
        if (row + 1 < height && planes.down[down++] > tau) join(offset, offset + columns);
        if (frame + 1 < frames && planes.next[next++] > tau) join(offset, offset + frameLength);
      }
    }
  }
  return parent.map((_, offset) => find(offset));
}

// Features at length 1, float64 (count * dimensions); a zero vector stays zero.
function unitFeatures(features, dimensions) {
  const units = Float64Array.from(features);
  for (let start = 0; start < units.length; start += dimensions) {
    let squares = 0;
    for (let d = start; d < start + dimensions; d++) squares += units[d] * units[d];
    const scale = squares ? 1 / Math.sqrt(squares) : 0;
    for (let d = start; d < start + dimensions; d++) units[d] *= scale;
  }
  return units;
}

// Mean cosine of every token to the others of its community (Eq. 4); 1 for a token on its own.
function centralityOf(units, dimensions, community) {
  const count = community.length;
  const size = new Int32Array(count);
  const place = new Int32Array(count); // of a community's sum among the sums
  let communities = 0;
  for (let offset = 0; offset < count; offset++) {
    const label = community[offset];
    if (size[label]++ === 0) place[label] = communities++;
  }
  const sums = new Float64Array(communities * dimensions);
  for (let offset = 0; offset < count; offset++) {
    const own = offset * dimensions, sum = place[community[offset]] * dimensions;
    for (let d = 0; d < dimensions; d++) sums[sum + d] += units[own + d];
  }
  const centrality = new Float64Array(count);
  for (let offset = 0; offset < count; offset++) {
    const label = community[offset], own = offset * dimensions, sum = place[label] * dimensions;
    let total = 0;
    for (let d = 0; d < dimensions; d++) total += (sums[sum + d] - units[own + d]) * units[own + d];
    centrality[offset] = size[label] === 1 ? 1 : total / (size[label] - 1);
  }
  return { centrality, size };
}

// The lowest score among the `quota` highest of `members`.
function quotaScore(score, members, quota) {
  const scores = new Float64Array(members.length);
  for (let index = 0; index < members.length; index++) scores[index] = score[members[index]];
  return scores.sort()[members.length - quota];
}

// The ceil(size * r) most central tokens of every community (Eq. 5); of equal ones evenly spaced ones, from the first on.
function representativesOf(centrality, community, size, thousandths) {
  const count = community.length;
  const start = new Int32Array(count + 1);
  for (let label = 0; label < count; label++) start[label + 1] = start[label] + size[label];
  const members = new Int32Array(count);
  const filled = start.slice(0, count);
  for (let offset = 0; offset < count; offset++) members[filled[community[offset]]++] = offset;
  const chosen = new Uint8Array(count);
  for (let label = 0; label < count; label++) {
    if (!size[label]) continue;
    const own = members.subarray(start[label], start[label + 1]);
    const quota = Math.ceil((size[label] * thousandths) / 1000);
    const cut = own.length === 1 ? 1 : quotaScore(centrality, own, quota);
    let free = quota;
    for (const offset of own) {
      if (centrality[offset] > cut + TIE) {
        chosen[offset] = 1;
        free--;
      }
    }
    const tied = own.filter((offset) => Math.abs(centrality[offset] - cut) <= TIE);
    for (const [place, offset] of tied.entries()) {
      if (Math.ceil(((place + 1) * free) / tied.length) > Math.ceil((place * free) / tied.length)) chosen[offset] = 1;
    }
  }
  return chosen;
}

// The later token of every temporal edge of weight < tauDiff (Eq. 6).
function eventsOf(grid, planes, tauDiff) {
  const tau = Math.fround(tauDiff);
  const event = new Uint8Array(grid.count);
  let edge = 0;
  for (let frame = 1; frame < grid.frames; frame++) {
    for (let row = 0; row < grid.height; row++) {
      for (let column = 0; column < grid.columns; column++) {
        if (planes.next[edge++] < tau) event[nodeOffset(grid, frame, row, column)] = 1;
      }
    }
  }
  return event;
}

// stored: {grid, planes: {right, down, next}, units, dimensions}.
function select(stored, retention, tauSim, tauDiff) {
  const { grid, planes } = stored;
  const community = connectedComponents(grid, planes, tauSim);
  const { centrality, size } = centralityOf(stored.units, stored.dimensions, community);
  const representative = representativesOf(centrality, community, size, Math.round(retention * 1000));
  return { community, centrality, representative, event: eventsOf(grid, planes, tauDiff) };
}
