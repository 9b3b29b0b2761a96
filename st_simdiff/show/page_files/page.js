"use strict";
// The page: two pictures of the same frame, each of one method's choice. `state` is what is looked at, `refresh` draws it.

const data = JSON.parse(document.getElementById("data").textContent);
const grid = data.grid;
const FATE = { dropped: 0, merged: 1, representative: 2, event: 3, attention: 4, chosen: 5, seed: 6, farthest: 7 };
const STACK = [FATE.event, FATE.representative, FATE.farthest, FATE.seed, FATE.attention, FATE.chosen];
const MODES = ["kept", "communities", "video", "attention"];
const LONE = "#55555b";

// Where each token stands among all of them by the question's attention, 0 for the least to 1 for the most.
function places(values) {
  if (!values) return null;
  const order = Uint32Array.from(values.keys()).sort((one, other) => values[one] - values[other]);
  const place = new Float32Array(values.length);
  order.forEach((offset, rank) => { place[offset] = rank / Math.max(1, values.length - 1); });
  return place;
}

const frameOf = (offset) => Math.min(Math.floor(offset / grid.frameLength), grid.frames - 1);

function decode(text, Kind) {
  if (text === null) return null;
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}

const stored = {
  grid,
  dimensions: data.projection.dimensions,
  units: unitFeatures(decode(data.features, Float32Array), data.projection.dimensions),
  planes: {
    right: decode(data.planes.right, Float32Array),
    down: decode(data.planes.down, Float32Array),
    next: decode(data.planes.next, Float32Array),
  },
};
const previous = decode(data.previous, Float32Array);
const questionAttention = decode(data.attention, Float32Array);
const attentionPlaces = places(questionAttention);

const recorded = data.views.map((view) => withColours({
  label: view.label,
  note: view.note,
  stages: view.stages,
  fate: decode(view.fate, Uint8Array),
  stage: decode(view.stage, Int8Array),
  owner: decode(view.owner, Int32Array),
  community: decode(view.community, Int32Array),
  centrality: decode(view.centrality, Float32Array),
  reach: decode(view.reach, Float32Array),
  score: decode(view.score, Float32Array),
  attention: decode(view.attention, Float32Array),
  rank: decode(view.rank, Int32Array),
  alsoRepresentative: decode(view.representative, Uint8Array),
}));

const state = {
  frame: 0,
  settings: { ...data.settings },
  live: null,
  cursor: null, // {row, column}
  playing: null,
  panes: [
    { method: 0, mode: "kept" },
    { method: recorded.length > 1 ? 2 : 0, mode: recorded.length > 1 ? "kept" : "communities" },
  ],
};

const viewOf = (pane) => (pane.method === 0 ? state.live : recorded[pane.method - 1]);

// Adds what is drawn but not stored: sizes and colours of communities, counts per frame.
function withColours(view) {
  const { fate, community } = view;
  view.perFrame = Array.from({ length: grid.frames }, () => new Int32Array(data.fates.length));
  view.kept = 0;
  for (let offset = 0; offset < grid.count; offset++) {
    view.perFrame[frameOf(offset)][fate[offset]]++;
    if (fate[offset] >= FATE.representative) view.kept++;
  }
  if (community) {
    view.size = new Int32Array(grid.count);
    for (const label of community) if (label >= 0) view.size[label]++;
    const labels = [...view.size.keys()].filter((label) => view.size[label] > 1);
    labels.sort((one, other) => view.size[other] - view.size[one] || one - other);
    view.communities = view.size.reduce((total, size) => total + (size > 0), 0);
    view.colour = new Map(labels.map((label, rank) => [label, communityColour(rank)]));
  }
  return view;
}

function communityColour(rank) {
  const hue = ((0.58 + rank * 0.381966) % 1) * 360;
  return `hsl(${hue.toFixed(1)} 62% ${[48, 66, 36][rank % 3]}%)`;
}

function recompute() {
  const { retention, tau_sim: tauSim, tau_diff: tauDiff } = state.settings;
  const chosen = select(stored, retention, tauSim, tauDiff);
  const fate = new Uint8Array(grid.count);
  for (let offset = 0; offset < grid.count; offset++) {
    if (chosen.event[offset]) fate[offset] = FATE.event;
    else if (chosen.representative[offset]) fate[offset] = FATE.representative;
  }
  state.live = withColours({
    label: "st_simdiff, the sliders' settings",
    note: data.liveNote,
    stages: ["at the input"],
    fate,
    community: chosen.community,
    centrality: chosen.centrality,
    alsoRepresentative: chosen.representative,
    live: true,
  });
}

// --- drawing ---

const images = data.images.map((source) => {
  const image = new Image();
  image.src = source;
  return image;
});

function fit(canvas, height) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const wanted = Math.round(height * ratio);
  if (canvas.width !== width || canvas.height !== wanted) {
    canvas.width = width;
    canvas.height = wanted;
  }
  canvas.style.height = `${height}px`;
  return canvas.getContext("2d");
}

const edge = (index, parts, length) => Math.floor((index * length) / parts);

function eachPatch(canvas, visit) {
  for (let row = 0; row < grid.height; row++) {
    const top = edge(row, grid.height, canvas.height), bottom = edge(row + 1, grid.height, canvas.height);
    for (let column = 0; column < grid.width; column++) {
      const left = edge(column, grid.width, canvas.width), right = edge(column + 1, grid.width, canvas.width);
      visit(nodeOffset(grid, state.frame, row, column), [left, top, right - left, bottom - top], row, column);
    }
  }
}

function drawPicture(canvas, view, mode) {
  const context = fit(canvas, (canvas.clientWidth * data.size.height) / data.size.width);
  const image = images[state.frame];
  if (image.complete && image.naturalWidth) context.drawImage(image, 0, 0, canvas.width, canvas.height);
  if (mode === "kept") drawFates(context, canvas, view);
  if (mode === "communities") drawCommunities(context, canvas, view);
  if (mode === "attention") drawAttention(context, canvas);
  if (state.cursor) drawCursor(context, canvas, view);
}

function drawFates(context, canvas, view) {
  const side = Math.min(canvas.width / grid.width, canvas.height / grid.height);
  const thin = Math.min(4, Math.max(1, Math.round(side / 13)));
  const boxes = Object.fromEntries(STACK.map((fate) => [fate, []]));
  eachPatch(canvas, (offset, box) => {
    const fate = view.fate[offset];
    if (fate >= FATE.representative) {
      boxes[fate].push(box);
      return;
    }
    context.fillStyle = fate === FATE.merged ? "rgba(8, 52, 40, 0.74)" : "rgba(14, 14, 16, 0.74)";
    context.fillRect(...box);
  });
  for (const fate of [...STACK].reverse()) {
    const line = fate === FATE.event ? Math.ceil(thin * 1.5) : thin;
    context.strokeStyle = context.fillStyle = data.fates[fate].colour;
    context.lineWidth = line;
    for (const [left, top, width, height] of boxes[fate]) {
      context.strokeRect(left + line / 2, top + line / 2, width - line, height - line);
      if (fate !== FATE.event) continue;
      const corner = Math.min(width, height) * 0.38; // a shape as well as a colour
      context.beginPath();
      context.moveTo(left, top);
      context.lineTo(left + corner, top);
      context.lineTo(left, top + corner);
      context.fill();
    }
  }
}

function drawCommunities(context, canvas, view) {
  if (!view.colour) return;
  context.globalAlpha = 0.62;
  eachPatch(canvas, (offset, box) => {
    context.fillStyle = view.colour.get(view.community[offset]) || LONE;
    context.fillRect(...box);
  });
  context.globalAlpha = 1;
  context.fillStyle = "#ffffff";
  eachPatch(canvas, (offset, [left, top, width, height], row, column) => {
    const own = view.community[offset];
    if (column && view.community[offset - 1] !== own) context.fillRect(left, top, 1.5, height);
    if (row && view.community[offset - grid.columns] !== own) context.fillRect(left, top, width, 1.5);
  });
}

function drawAttention(context, canvas) {
  const [least, middle, most] = data.attentionScale;
  context.globalAlpha = 0.66;
  eachPatch(canvas, (offset, box) => {
    const place = attentionPlaces[offset];
    const [from, to, share] = place < 0.5 ? [least, middle, place * 2] : [middle, most, place * 2 - 1];
    context.fillStyle = `rgb(${from.map((value, channel) => Math.round(value + share * (to[channel] - value))).join(" ")})`;
    context.fillRect(...box);
  });
  context.globalAlpha = 1;
}

function drawCursor(context, canvas, view) {
  const at = nodeOffset(grid, state.frame, state.cursor.row, state.cursor.column);
  const community = view.community && view.community[at];
  const owner = view.owner ? view.owner[at] : -1;
  eachPatch(canvas, (offset, [left, top, width, height]) => {
    const same = view.community && community >= 0 && view.community[offset] === community;
    const group = owner >= 0 && owner !== at && offset === owner;
    if (same || group) {
      context.fillStyle = "rgba(86, 180, 233, 0.35)";
      context.fillRect(left, top, width, height);
    }
    if (offset === at) {
      context.lineWidth = 5;
      context.strokeStyle = "#000000";
      context.strokeRect(left, top, width, height);
      context.lineWidth = 2.5;
      context.strokeStyle = "#ffffff";
      context.strokeRect(left, top, width, height);
    }
  });
}

function drawBars(canvas, view) {
  const context = fit(canvas, 72);
  const { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  context.fillStyle = "#1a1b1e";
  context.fillRect(0, 0, width, height);
  for (let frame = 0; frame < grid.frames; frame++) {
    const left = edge(frame, grid.frames, width), right = edge(frame + 1, grid.frames, width);
    let low = height;
    for (const fate of STACK) {
      const tall = (view.perFrame[frame][fate] / grid.frameLength) * height;
      context.fillStyle = data.fates[fate].colour;
      context.fillRect(left + 0.5, low - tall, Math.max(1, right - left - 1), tall);
      low -= tall;
    }
    if (data.cuts.includes(frame)) {
      context.fillStyle = "#cc79a7";
      for (let y = 0; y < height; y += 10) context.fillRect(left - 1, y, 3, 6);
    }
    if (frame === state.frame) {
      context.lineWidth = 3;
      context.strokeStyle = "#ffffff";
      context.strokeRect(left + 1, 1.5, right - left - 2, height - 3);
    }
  }
}

// --- words ---

const percent = (part) => `${(100 * part).toFixed(1)} %`;
const number = (value) => value.toLocaleString("en");

function placeWords(offset) {
  const inFrame = offset - frameOf(offset) * grid.frameLength;
  const row = Math.floor(inFrame / grid.columns), column = inFrame % grid.columns;
  if (row >= grid.height || column >= grid.width) return `separator ${number(offset)}`;
  return `frame ${frameOf(offset) + 1}, row ${row + 1}, column ${column + 1}`;
}

function tokenDetails(view, offset) {
  const fate = view.fate[offset];
  const rows = [["Token", `${placeWords(offset)} (number ${number(offset)} of ${number(grid.count)})`]];
  let words = data.fates[fate].label;
  if (fate === FATE.event && view.alsoRepresentative && view.alsoRepresentative[offset]) words += "; representative as well";
  if (view.stage && view.stage[offset] >= 0) words += `, ${view.stages[view.stage[offset]]}`;
  if (fate === FATE.merged) words += `: ${placeWords(view.owner[offset])}`;
  rows.push(["Fate", words]);
  if (view.community && view.community[offset] >= 0) {
    const size = view.size[view.community[offset]];
    rows.push(["Community", size > 1 ? `of ${number(size)} tokens` : "on its own"]);
    rows.push(["Centrality", view.centrality[offset].toFixed(4)]);
  }
  const frame = frameOf(offset);
  if (frame > 0) {
    const node = (frame - 1) * grid.height * grid.columns + (offset - frame * grid.frameLength);
    const cosine = view.live ? stored.planes.next[node] : previous[node];
    rows.push(["Likeness to the frame before", cosine.toFixed(4)]);
  }
  if (view.reach && !Number.isNaN(view.reach[offset])) rows.push(["Distance to those kept before", view.reach[offset].toPrecision(4)]);
  if (view.score && !Number.isNaN(view.score[offset])) rows.push(["Method's own score", view.score[offset].toPrecision(4)]);
  if (view.rank && view.rank[offset] >= 0) {
    rows.push(["Attention rank", `${number(view.rank[offset] + 1)} (${view.attention[offset].toExponential(2)})`]);
  }
  if (questionAttention) {
    rows.push(["Attention before any token is dropped", questionAttention[offset].toExponential(2)]);
  }
  return rows;
}

function showDetails(list, view) {
  list.replaceChildren();
  const rows = state.cursor
    ? tokenDetails(view, nodeOffset(grid, state.frame, state.cursor.row, state.cursor.column))
    : [["", "Point at a token to see what became of it, and why."]];
  for (const [term, words] of rows) {
    const dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = term;
    dd.textContent = words;
    list.append(dt, dd);
  }
}

// --- the whole ---

const panes = [...document.querySelectorAll(".pane")].map((root) => {
  root.append(document.getElementById("pane").content.cloneNode(true));
  const find = (name) => root.querySelector(`.${name}`);
  return {
    method: find("method"), mode: find("mode"), summary: find("summary"), picture: find("picture"),
    bars: find("bars"), note: find("note"), details: find("details"),
  };
});
const controls = Object.fromEntries(
  ["frame", "time", "play", "retention", "tau_sim", "tau_diff", "reset"].map((id) => [id, document.getElementById(id)]),
);

function refresh() {
  controls.frame.value = state.frame;
  controls.time.textContent = `${state.frame + 1} of ${grid.frames}, ${data.seconds[state.frame].toFixed(2)} s`;
  for (const name of ["retention", "tau_sim", "tau_diff"]) {
    controls[name].value = state.settings[name];
    controls[name].nextElementSibling.textContent = state.settings[name].toFixed(2);
  }
  panes.forEach((pane, index) => {
    const chosen = state.panes[index];
    const view = viewOf(chosen);
    pane.method.value = chosen.method;
    pane.mode.value = chosen.mode;
    const communities = view.communities && view.colour.size ? `, ${number(view.communities)} communities` : "";
    pane.summary.textContent = `${number(view.kept)} of ${number(grid.count)} kept (${percent(view.kept / grid.count)})${communities}`;
    pane.note.textContent = chosen.mode === "communities" && !view.colour ? "This method finds no communities." : view.note;
    pane.picture.setAttribute("aria-label", `${view.label}, frame ${state.frame + 1}: ${pane.summary.textContent}`);
    drawPicture(pane.picture, view, chosen.mode);
    drawBars(pane.bars, view);
    showDetails(pane.details, view);
  });
}

let asked = false;
function refreshSoon() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    refresh();
  });
}

function goTo(frame) {
  state.frame = Math.max(0, Math.min(grid.frames - 1, frame));
  refreshSoon();
}

function setMode(pane, mode) {
  if (mode === "attention" && !questionAttention) return;
  state.panes[pane].mode = mode;
  refreshSoon();
}

function togglePlay() {
  if (state.playing) {
    clearInterval(state.playing);
    state.playing = null;
  } else {
    state.playing = setInterval(() => goTo((state.frame + 1) % grid.frames), 350);
  }
  controls.play.textContent = state.playing ? "Pause" : "Play";
  controls.play.setAttribute("aria-pressed", String(Boolean(state.playing)));
}

function setSetting(name, value) {
  state.settings[name] = value;
  recompute();
  if (!state.panes.some((pane) => pane.method === 0)) state.panes[0].method = 0; // a slider shows its effect
  refreshSoon();
}

function moveCursor(rows, columns) {
  const { row, column } = state.cursor || { row: 0, column: 0 };
  state.cursor = {
    row: Math.max(0, Math.min(grid.height - 1, row + rows)),
    column: Math.max(0, Math.min(grid.width - 1, column + columns)),
  };
  refreshSoon();
}

function listen() {
  panes.forEach((pane, index) => {
    const labels = ["st_simdiff, the sliders' settings", ...recorded.map((view) => `${view.label}, as recorded`)];
    labels.forEach((label, method) => pane.method.add(new Option(label, method)));
    if (questionAttention) pane.mode.add(new Option("attention of the question", "attention"));
    pane.method.addEventListener("change", () => {
      state.panes[index].method = Number(pane.method.value);
      refreshSoon();
    });
    pane.mode.addEventListener("change", () => setMode(index, pane.mode.value));
    pane.picture.addEventListener("pointermove", (event) => {
      const box = pane.picture.getBoundingClientRect();
      const row = Math.floor(((event.clientY - box.top) / box.height) * grid.height);
      const column = Math.floor(((event.clientX - box.left) / box.width) * grid.width);
      if (row < 0 || column < 0 || row >= grid.height || column >= grid.width) return;
      state.cursor = { row, column };
      refreshSoon();
    });
    pane.picture.addEventListener("pointerleave", () => {
      state.cursor = null;
      refreshSoon();
    });
    pane.picture.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      moveCursor(...step);
      event.preventDefault();
      event.stopPropagation();
    });
    const scrub = (event) => {
      if (event.type === "pointermove" && !event.buttons) return;
      const box = pane.bars.getBoundingClientRect();
      goTo(Math.floor(((event.clientX - box.left) / box.width) * grid.frames));
    };
    pane.bars.addEventListener("pointerdown", scrub);
    pane.bars.addEventListener("pointermove", scrub);
  });
  controls.frame.addEventListener("input", () => goTo(Number(controls.frame.value)));
  controls.play.addEventListener("click", togglePlay);
  for (const name of ["retention", "tau_sim", "tau_diff"]) {
    controls[name].addEventListener("input", () => setSetting(name, Number(controls[name].value)));
  }
  controls.reset.addEventListener("click", () => {
    state.settings = { ...data.settings };
    recompute();
    refreshSoon();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
    if (event.key === " " && event.target.matches("button")) return;
    const actions = {
      ArrowLeft: () => goTo(state.frame - 1),
      ArrowRight: () => goTo(state.frame + 1),
      Home: () => goTo(0),
      End: () => goTo(grid.frames - 1),
      " ": togglePlay,
    };
    if (actions[event.key]) actions[event.key]();
    else if (/^[1-8]$/.test(event.key)) setMode(event.key > "4" ? 1 : 0, MODES[(Number(event.key) - 1) % 4]);
    else return;
    event.preventDefault();
  });
  window.addEventListener("resize", refreshSoon);
}

function start() {
  document.getElementById("title").textContent = data.title;
  document.getElementById("about").textContent = data.about;
  controls.frame.max = grid.frames - 1;
  const legend = document.getElementById("legend");
  const present = new Set([FATE.dropped, FATE.representative, FATE.event]);
  for (const view of recorded) for (const fate of view.fate) present.add(fate);
  for (const fate of [...STACK.slice(0, 2).reverse(), ...STACK.slice(2), FATE.merged, FATE.dropped]) {
    if (!present.has(fate)) continue;
    const item = document.createElement("li"), swatch = document.createElement("span");
    swatch.className = fate === FATE.event ? "swatch heavy" : "swatch";
    swatch.style.borderColor = data.fates[fate].colour;
    if (fate < FATE.representative) swatch.style.background = data.fates[fate].colour;
    item.append(swatch, data.fates[fate].label);
    legend.append(item);
  }
  if (data.cuts.length) {
    const item = document.createElement("li"), swatch = document.createElement("span");
    swatch.style.cssText = "width: 0; height: 18px; border-left: 3px dashed #cc79a7";
    item.append(swatch, "new scene");
    legend.append(item);
  }
  recompute();
  listen();
  images.forEach((image, index) => image.addEventListener("load", () => index === state.frame && refreshSoon()));
  refresh();
}

start();
