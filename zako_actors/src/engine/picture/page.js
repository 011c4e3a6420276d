// What a reader can do with the picture. Lengths in `data` are in its own pixels; `at` says which
// part of it is seen: the point at the top left, and how many pixels of the screen one takes.
const data = "$DATA";
const LEAST = 0.02, MOST = 8, READABLE = 10 / 12, LISTED = 40;
const byId = (id) => document.getElementById(id);
const svg = byId("picture"), world = byId("world"), about = byId("about"), search = byId("search"), map = byId("map");
const element = (name, attributes, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  made.append(...children);
  return made;
};
const html = (name, text, onclick) => {
  const made = document.createElement(name);
  made.textContent = text;
  if (onclick) made.addEventListener("click", onclick);
  return made;
};

// ---- what is shown: all, or one package ----
let shown = -1, view, nodes = [], edges = [], needs, by, picked = -1;
const at = { x: 0, y: 0, scale: 1 };

function open(index, remember = true) {
  if (index === shown) return;
  if (remember && shown >= 0) history.pushState({ view: index }, "");
  shown = index;
  view = data.views[index];
  byId("title").textContent = view.name;
  byId("back").hidden = index === 0;
  kinds();
  byId("implied").textContent = view.implied ? ` (${view.implied} that follow from others are left out)` : "";
  needs = view.nodes.map(() => []);
  by = view.nodes.map(() => []);
  edges = view.edges.map((edge, index) => {
    needs[edge.by].push(index);
    by[edge.needs].push(index);
    return element("path", { class: "edge", d: edge.d });
  });
  nodes = view.nodes.map((node, index) => {
    const text = element("text", { x: node.x + 12, y: node.y }, node.name);
    const rect = element("rect", { x: node.x, y: node.y - 12, width: node.w, height: 24 });
    const kind = node.guest ? "node guest" : "node";
    return element("g", { class: kind, tabindex: 0, "data-kind": node.kind, "data-index": index }, rect, text);
  });
  byId("frames").replaceChildren(...view.frames.map(([x, y, width, height]) => element("rect", { class: "frame", x, y, width, height })));
  byId("edges").replaceChildren(...edges);
  byId("nodes").replaceChildren(...nodes);
  clear();
  mark();
  begin();
}
function kinds() {
  const counts = {}, look = { test: "dashed", transpile: "bold" };
  for (const node of view.nodes) if (!node.guest) counts[node.kind] = (counts[node.kind] || 0) + 1;
  byId("kinds").textContent = Object.keys(counts).sort().map((kind) =>
    `${counts[kind]} ${kind}${counts[kind] === 1 ? "" : "s"}${look[kind] ? ` (${look[kind]})` : ""}`).join(", ");
}

// ---- picking ----
function reach(start, lines, end, name) {
  const seen = new Set([start]), queue = [start];
  while (queue.length > 0) {
    for (const index of lines[queue.pop()]) {
      edges[index].classList.add("on", name);
      const next = view.edges[index][end];
      if (seen.has(next)) continue;
      seen.add(next);
      nodes[next].classList.add("on", name);
      queue.push(next);
    }
  }
  return seen.size - 1;
}
function clear() {
  picked = -1;
  world.classList.remove("picking");
  for (const one of [...nodes, ...edges]) one.classList.remove("on", "needed", "needing", "picked");
  about.hidden = true;
}
function list(title, targets) {
  if (targets.length === 0) return [];
  const items = targets.slice(0, LISTED).map(([place, index]) => {
    const item = document.createElement("li");
    item.append(html("button", data.views[place].nodes[index].name, () => go(place, index)));
    return item;
  });
  const rows = document.createElement("ul");
  rows.append(...items);
  if (targets.length > LISTED) rows.append(html("li", `and ${targets.length - LISTED} more`));
  return [html("h3", `${title} (${targets.length})`), rows];
}
function pick(index) {
  clear();
  picked = index;
  world.classList.add("picking");
  const node = view.nodes[index], direct = (indexes) => indexes.map((other) => [shown, other]);
  const below = reach(index, needs, "needs", "needed"), above = reach(index, by, "by", "needing");
  nodes[index].classList.add("on", "picked");
  // Last, so that none of the others hides them.
  byId("edges").append(...edges.filter((edge) => edge.classList.contains("on")));
  const parts = [html("h2", node.name), ...node.details.map((text) => html("p", text))];
  if (shown === 0) parts.push(html("p", `needs ${below}, needed by ${above}`));
  if (node.view !== undefined) {
    const home = data.views[node.view];
    parts.push(html("button", `open ${home.name}`, () => open(node.view)));
    if (!node.guest) parts.push(...list("holds", home.nodes.flatMap((one, i) => one.guest ? [] : [[node.view, i]])));
  }
  const needing = view.nodes.flatMap((other, i) => other.needs.includes(index) ? [i] : []);
  parts.push(...list("directly needs", direct(node.needs)), ...list("directly needed by", direct(needing)));
  about.replaceChildren(...parts);
  about.scrollTop = 0;
  about.hidden = false;
  // Not where the box is: a second click is for the box.
  about.classList.toggle("left", (node.x + node.w - at.x) * at.scale > svg.clientWidth - about.offsetWidth - 30);
  overview();
}
function go(place, index) {
  open(place);
  const node = view.nodes[index];
  at.scale = Math.max(at.scale, 1);
  at.x = node.x + node.w / 2 - svg.clientWidth / at.scale / 2;
  at.y = node.y - svg.clientHeight / at.scale / 2;
  show();
  pick(index);
}

// ---- searching ----
let hits = [], hit = 0;
function mark() {
  for (const node of nodes) node.classList.remove("hit");
  for (const [place, index] of hits) if (place === shown) nodes[index].classList.add("hit");
}
function step(by) {
  byId("count").textContent = search.value.trim() === "" ? "" : "nothing found";
  if (hits.length === 0) return;
  hit = (hit + by + hits.length) % hits.length;
  byId("count").textContent = `${hit + 1} of ${hits.length}`;
  go(...hits[hit]);
}
search.addEventListener("input", () => {
  const text = search.value.trim().toLowerCase();
  // Those in sight first, and of them the one that is named in full.
  const rank = ([place, index]) => (place === shown ? 0 : 2) + (data.views[place].nodes[index].name.toLowerCase() === text ? 0 : 1);
  hits = text === "" ? [] : data.views.flatMap((one, place) => one.nodes.flatMap((node, index) =>
    !node.guest && node.name.toLowerCase().includes(text) ? [[place, index]] : []));
  hits.sort((a, b) => rank(a) - rank(b));
  hit = 0;
  clear();
  mark();
  step(0);
  overview();
});
search.addEventListener("keydown", (event) => {
  if (event.key === "Enter") { event.preventDefault(); step(event.shiftKey ? -1 : 1); }
});
window.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== search) { event.preventDefault(); search.select(); search.focus(); }
  if (event.key === "Escape") {
    search.value = "";
    search.dispatchEvent(new Event("input"));
  }
});

// ---- moving ----
const clamp = (value, least, most) => Math.min(Math.max(value, least), Math.max(least, most));
function show() {
  const width = svg.clientWidth / at.scale, height = svg.clientHeight / at.scale, rim = 60 / at.scale;
  at.x = clamp(at.x, rim - width, view.width - rim);
  at.y = clamp(at.y, rim - height, view.height - rim);
  world.classList.toggle("far", at.scale < 0.25);
  svg.setAttribute("viewBox", `${at.x} ${at.y} ${width} ${height}`);
  overview();
}
const fitting = () => Math.min(svg.clientWidth / view.width, svg.clientHeight / view.height, 1.3);
function whole() {
  at.scale = clamp(fitting(), LEAST, MOST);
  at.x = (view.width - svg.clientWidth / at.scale) / 2;
  at.y = (view.height - svg.clientHeight / at.scale) / 2;
  show();
}
// All of it if it can be read, otherwise what it begins with.
function begin() {
  if (fitting() >= READABLE || view.start === null) return whole();
  at.scale = 1;
  const width = svg.clientWidth, height = svg.clientHeight, first = view.nodes[view.start];
  at.x = view.width < width ? (view.width - width) / 2 : clamp(first.x - 30, 0, view.width - width);
  at.y = view.height < height ? (view.height - height) / 2 : clamp(first.y - height * 0.3, 0, view.height - height);
  show();
}
function zoom(factor, x = 0.5, y = 0.5) {
  const scale = clamp(at.scale * factor, LEAST, MOST);
  at.x += svg.clientWidth * x * (1 / at.scale - 1 / scale);
  at.y += svg.clientHeight * y * (1 / at.scale - 1 / scale);
  at.scale = scale;
  show();
}
svg.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = svg.getBoundingClientRect(), lines = event.deltaMode === 1 ? 16 : 1;
  zoom(Math.exp(-event.deltaY * lines * 0.0015), (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
}, { passive: false });
let held = null, moved = 0;
svg.addEventListener("pointerdown", (event) => { held = [event.clientX, event.clientY]; moved = 0; });
window.addEventListener("pointermove", (event) => {
  if (held === null) return;
  const dx = event.clientX - held[0], dy = event.clientY - held[1];
  moved += Math.abs(dx) + Math.abs(dy);
  at.x -= dx / at.scale;
  at.y -= dy / at.scale;
  held = [event.clientX, event.clientY];
  show();
});
for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, () => { held = null; });
const under = (event) => event.target.closest(".node")?.dataset.index;
svg.addEventListener("click", (event) => {
  if (moved > 4) return;
  const index = under(event);
  if (index === undefined) { clear(); overview(); } else pick(Number(index));
});
svg.addEventListener("dblclick", (event) => {
  const index = under(event);
  if (index === undefined) whole(); else if (view.nodes[index].view !== undefined) open(view.nodes[index].view);
});
svg.addEventListener("keydown", (event) => {
  const index = under(event);
  if (event.key === "Enter" && index !== undefined) pick(Number(index));
});

// ---- the overview in the corner ----
const small = map.getContext("2d");
function overview() {
  const width = svg.clientWidth / at.scale, height = svg.clientHeight / at.scale;
  map.hidden = at.x <= 0 && at.y <= 0 && at.x + width >= view.width && at.y + height >= view.height;
  if (map.hidden) return;
  const scale = Math.min(220 / view.width, 150 / view.height), density = window.devicePixelRatio || 1;
  const w = Math.max(view.width * scale, 30), h = Math.max(view.height * scale, 30);
  map.style.width = `${w}px`;
  map.style.height = `${h}px`;
  map.width = w * density;
  map.height = h * density;
  const sx = map.width / view.width, sy = map.height / view.height;
  const colours = getComputedStyle(document.documentElement), colour = (name) => colours.getPropertyValue(name);
  view.nodes.forEach((node, index) => {
    const { classList } = nodes[index];
    const kind = classList.contains("picked") || classList.contains("hit") ? "--pick"
      : classList.contains("needed") ? "--need" : classList.contains("needing") ? "--by" : "--line";
    const more = kind === "--pick" ? 1 : 0;
    small.fillStyle = colour(kind);
    small.fillRect(node.x * sx - more, (node.y - 12) * sy - more, Math.max(node.w * sx, 1) + 2 * more, Math.max(24 * sy, 1) + 2 * more);
  });
  small.strokeStyle = colour("--pick");
  small.lineWidth = 1.5 * density;
  small.strokeRect(at.x * sx, at.y * sy, width * sx, height * sy);
}
function toMap(event) {
  if (event.buttons === 0) return;
  const box = map.getBoundingClientRect();
  at.x = (event.clientX - box.left) / box.width * view.width - svg.clientWidth / at.scale / 2;
  at.y = (event.clientY - box.top) / box.height * view.height - svg.clientHeight / at.scale / 2;
  show();
}
map.addEventListener("pointerdown", (event) => { map.setPointerCapture(event.pointerId); toMap(event); });
map.addEventListener("pointermove", toMap);

byId("in").addEventListener("click", () => zoom(1.3));
byId("out").addEventListener("click", () => zoom(1 / 1.3));
byId("whole").addEventListener("click", whole);
byId("begin").addEventListener("click", begin);
byId("back").addEventListener("click", () => open(0));
window.addEventListener("popstate", (event) => open(event.state?.view ?? 0, false));
new ResizeObserver(show).observe(svg);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", overview);

open(0);
const wanted = decodeURIComponent(location.hash.slice(1));
const found = data.views.findLastIndex((one) => one.nodes.some((node) => !node.guest && node.name === wanted));
if (found >= 0) go(found, data.views[found].nodes.findIndex((node) => !node.guest && node.name === wanted));
