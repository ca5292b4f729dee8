// Shows /status, once a second while the page is in sight. What comes from the server becomes text, never markup.

const PERIOD = 1000; // milliseconds from one look to the next
const PATIENCE = 8000; // until a look counts as lost
const HISTORY = 120; // points of a sparkline
const HUES = 8;
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const KEY = "hive-key"; // in this tab's storage, which ends with the tab
const TONES = {
  RUNNING: "good", ACTIVE: "good", cleared: "good",
  UNHEALTHY: "bad", DEPLOY_FAILED: "bad", ORPHANED: "bad", device: "bad", over: "bad", ledger: "bad", orphan: "bad",
  DELETING: "calm", STOPPING: "calm", DRAINING: "calm", SLEEPING: "calm",
};

const at = (id) => document.getElementById(id);
const tone = (state) => TONES[state] ?? "wait";

// ---- words ---------------------------------------------------------------------------------------------------------

function size(bytes) {
  if (Math.abs(bytes) < GIB) return `${Math.round(bytes / MIB)} MiB`;
  const amount = bytes / GIB;
  return `${amount.toFixed(Math.abs(amount) < 10 ? 2 : 1)} GiB`;
}

function rate(tokens) {
  if (tokens === null) return "–";
  return tokens > 0 && tokens < 10 ? tokens.toFixed(1) : String(Math.round(tokens));
}

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString();
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

// ---- the document: what is there is changed, not made anew, so that nothing flickers, scrolls or loses its focus ----

function make(tag, names = "", ...children) {
  const element = Object.assign(document.createElement(tag), { className: names });
  element.append(...children);
  return element;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function mark(element, names) {
  if (element.className !== names) element.className = names;
}

const kept = new WeakMap();

/** One child of `parent` for each item, in order. `fresh` makes one; `update` brings it up to date. */
function sync(parent, items, identify, fresh, update) {
  const before = kept.get(parent) ?? new Map();
  const now = new Map();
  let place = parent.firstElementChild;
  for (const item of items) {
    const id = identify(item);
    if (now.has(id)) continue;
    const element = before.get(id) ?? fresh(item);
    before.delete(id);
    now.set(id, element);
    update(element, item);
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
  for (const element of before.values()) element.remove();
  kept.set(parent, now);
}

const hues = new Map();

/** Models get their hues in the order in which they are seen, and keep them. */
function hue(model) {
  if (!hues.has(model)) hues.set(model, hues.size % HUES);
  return `var(--hue-${hues.get(model)})`;
}

// ---- devices -------------------------------------------------------------------------------------------------------

const grantable = (device) => (device.error ? 0 : Math.max(device.free, 0));

/** What a device is made of, in the order of the bar: `bytes` is the part of it; `used` and `promised` are told beside. */
function parts(device) {
  const leases = device.holders.map((lease) => ({
    id: lease.id, kind: "lease", name: lease.model, hue: hue(lease.model), state: lease.state, place: lease.place,
    bytes: lease.charged, used: lease.used, promised: lease.charged,
  }));
  const unused = Math.max(device.headroom - device.foreign, 0);
  return [
    ...leases,
    { id: "foreign", kind: "foreign", name: "without a lease", bytes: device.foreign, used: device.foreign },
    { id: "headroom", kind: "headroom", name: "headroom", bytes: unused, promised: unused },
    { id: "kept", kind: "kept", name: "never granted", bytes: device.reserved + device.safety, promised: device.reserved + device.safety },
    { id: "free", kind: "free", name: "free", bytes: Math.max(device.free, 0), promised: device.free },
  ].filter((part) => part.kind === "lease" || part.kind === "free" || part.bytes > 0);
}

function freshDevice() {
  const bar = make("div", "bar");
  bar.setAttribute("role", "img");
  const head = make("tr");
  for (const [text, names] of [["by", ""], ["in use", "number"], ["share", "number"]]) {
    const cell = make("th", names, text);
    cell.scope = "col";
    head.append(cell);
  }
  const table = make("table", "", make("caption", "unseen"), make("thead", "", head), make("tbody"));
  return make(
    "article", "card device",
    make("h3", "", make("span"), make("span", "number")),
    make("p", "where", make("span"), make("span", "id")),
    make("p", "alarm"), bar, table,
  );
}

function updateDevice(card, { node, device }) {
  const [title, free] = card.querySelectorAll("h3 span");
  const [where, id] = card.querySelectorAll(".where span");
  const alarm = card.querySelector(".alarm");
  const bar = card.querySelector(".bar");
  const table = card.querySelector("table");
  const over = device !== undefined && device.free < 0;
  const trouble = device === undefined ? node.error
    : device.error ?? (over ? `over by ${size(-device.free)}: grants nothing until memory comes back` : "");
  mark(card, `card device${device === undefined || device.error ? " broken" : ""}${over ? " over" : ""}`);
  write(alarm, trouble);
  alarm.hidden = !trouble;
  bar.hidden = table.hidden = device === undefined;
  write(title, device === undefined ? node.name : device.name);
  write(free, device === undefined ? "" : `${size(grantable(device))} free`);
  write(where, device === undefined ? "" : `${node.name} · ${size(device.total)}`);
  write(id, device === undefined || device.kind === "host" ? "" : device.id);
  if (device === undefined) return;
  const found = parts(device);
  const words = found.map((part) => `${part.name} ${size(part.bytes)}`).join(", ");
  const label = `${device.name} on ${node.name}, ${size(device.total)}: ${words}`;
  if (bar.ariaLabel !== label) bar.ariaLabel = label;
  write(table.caption, `${device.name} on ${node.name}`);
  sync(bar, found.filter((part) => part.bytes > 0), (part) => part.id, freshPart, updatePart);
  sync(table.tBodies[0], found, (part) => part.id, freshRow, updateRow);
}

function freshPart() {
  return make("div", "", make("span", "label", make("b"), make("span")), make("span", "used"));
}

function updatePart(element, part) {
  mark(element, `part ${part.kind}`);
  element.style.setProperty("--bytes", String(part.bytes / MIB));
  element.title = `${part.name} ${size(part.bytes)}`;
  if (part.kind !== "lease") return;
  element.style.setProperty("--hue", part.hue);
  element.style.setProperty("--used", `${Math.min(100, (100 * part.used) / part.bytes)}%`);
  write(element.querySelector("b"), part.name);
  write(element.querySelector(".label span"), size(part.bytes));
}

function freshRow() {
  return make(
    "tr", "", make("td", "", make("i", "swatch"), make("span"), " ", make("span", "state")), make("td", "number"), make("td", "number"),
  );
}

function updateRow(row, part) {
  const [what, used, promised] = row.cells;
  const [swatch, title, state] = what.children;
  const waits = part.place !== null && part.place !== undefined;
  mark(row, waits ? "waiting" : "");
  mark(swatch, `swatch ${part.kind}`);
  if (part.hue) swatch.style.setProperty("--hue", part.hue);
  write(title, part.name);
  write(state, waits ? `${part.state}, place ${part.place}` : part.state ?? "");
  mark(state, `state ${part.state && part.state !== "ACTIVE" ? tone(part.state) : ""}`);
  write(used, part.used === undefined ? "" : size(part.used));
  mark(used, `number${part.kind === "lease" && part.used > part.bytes ? " bad" : ""}`);
  write(promised, part.promised === undefined ? "" : size(part.promised));
}

// ---- models --------------------------------------------------------------------------------------------------------

const speeds = new Map(); // tokens per second of each model, look by look

function remember(models) {
  for (const model of models) {
    const points = speeds.get(model.name) ?? [];
    points.push(model.tokens_per_second ?? 0);
    speeds.set(model.name, points.slice(-HISTORY));
  }
}

function drawSpark(svg, points) {
  const most = Math.max(...points, 1);
  const x = (index) => (100 * (HISTORY - points.length + index)) / (HISTORY - 1);
  const line = points.map((value, index) => `${x(index).toFixed(2)},${(23 - (21 * value) / most).toFixed(2)}`).join("L");
  const [area, stroke] = svg.children;
  area.setAttribute("d", `M${x(0).toFixed(2)},23L${line}L100,23Z`);
  stroke.setAttribute("d", `M${line}`);
}

function freshSpark() {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const looks = { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" };
  for (const [key, value] of Object.entries(looks)) svg.setAttribute(key, value);
  for (const names of ["area", ""]) {
    const path = document.createElementNS(space, "path");
    path.setAttribute("class", names);
    svg.append(path);
  }
  return svg;
}

function freshModel() {
  return make(
    "tr", "",
    make("td", "", make("i", "swatch"), make("span", "name"), make("p", "reason")),
    make("td", "", make("span")),
    make("td", "", make("ul", "replicas"), make("span", "state")),
    make("td", "number"),
    make("td", "trend", freshSpark()),
  );
}

function updateModel(row, model) {
  const [what, state, replicas, speed, trend] = row.cells;
  row.style.setProperty("--hue", hue(model.name));
  write(what.children[1], model.name);
  write(what.lastChild, model.reason);
  what.lastChild.hidden = !model.reason;
  write(state.firstChild, model.status);
  mark(state.firstChild, `badge ${tone(model.status)}`);
  sync(replicas.firstChild, model.replicas, (replica) => replica.id, freshReplica, updateReplica);
  const running = model.replicas.filter((replica) => replica.state === "RUNNING").length;
  write(replicas.lastChild, `${running} of ${model.wanted} run`);
  replicas.lastChild.hidden = running === model.wanted && running > 0;
  write(speed, rate(model.tokens_per_second));
  drawSpark(trend.firstChild, speeds.get(model.name));
}

function freshReplica() {
  return make("li", "", make("span"), " ", make("span", "id"));
}

function updateReplica(item, replica) {
  write(item.firstChild, replica.state);
  mark(item.firstChild, tone(replica.state));
  write(item.lastChild, replica.id);
  item.title = replica.node ? `on ${replica.node}` : "";
}

// ---- events --------------------------------------------------------------------------------------------------------

function freshEvent() {
  return make("li", "", make("p", "about", make("time"), make("span"), make("span")), make("p"));
}

function updateEvent(item, event) {
  const [time, kind, node] = item.firstChild.children;
  time.dateTime = new Date(event.time * 1000).toISOString();
  write(time, clock(event.time));
  write(kind, event.kind);
  mark(kind, `badge ${tone(event.kind)}`);
  write(node, event.node);
  write(item.lastChild, event.text);
}

// ---- all of it -----------------------------------------------------------------------------------------------------

function show(status) {
  const devices = status.nodes.flatMap((node) =>
    node.devices.length ? node.devices.map((device) => ({ node, device })) : node.error ? [{ node }] : [],
  );
  const known = devices.filter(({ device }) => device !== undefined).map(({ device }) => device);
  const rates = status.models.map((model) => model.tokens_per_second);
  for (const model of status.models) hue(model.name);
  remember(status.models);

  const serving = status.models.filter((model) => model.status === "RUNNING").length;
  write(at("serving"), `${serving} of ${status.models.length}`);
  write(at("devices-count"), String(known.length));
  const total = size(sum(known.map((device) => device.total)));
  write(at("free"), known.length ? `${(sum(known.map(grantable)) / GIB).toFixed(1)} of ${total}` : "–");
  write(at("rate"), rates.includes(null) ? "–" : rate(sum(rates)));

  at("no-devices").hidden = devices.length > 0;
  at("devices-key").hidden = known.length === 0;
  sync(at("devices"), devices, ({ node, device }) => `${node.name} ${device?.id}`, freshDevice, updateDevice);
  at("no-serve").hidden = status.serve_answers;
  at("no-models").hidden = status.models.length > 0;
  at("models-card").hidden = at("models-note").hidden = status.models.length === 0;
  sync(at("models"), status.models, (model) => model.name, freshModel, updateModel);
  at("no-events").hidden = status.events.length > 0;
  at("events").hidden = status.events.length === 0;
  sync(at("events"), status.events, (event) => `${event.time} ${event.node} ${event.text}`, freshEvent, updateEvent);

  at("key-row").hidden = !status.asks_for_keys;
  const able = status.models.filter((model) => model.chats);
  sync(at("model"), able.length ? able : [{ name: "none that chats serves now" }], (model) => model.name, (model) => make("option", "", model.name), () => {});
  at("model").disabled = able.length === 0;
  at("send").disabled = able.length === 0 || asking !== null;
}

let seen = null; // when a look succeeded last

async function look() {
  try {
    const answer = await fetch("status", { signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error(`the gateway answers ${answer.status}`);
    const status = await answer.json();
    show(status);
    seen = status.time;
    mark(document.body, "live");
    write(at("connection"), "live");
  } catch (error) {
    console.warn("a look at Hive failed:", error);
    mark(document.body, "lost");
    write(at("connection"), seen === null ? "no connection, trying again" : `connection lost; this is of ${clock(seen)}, trying again`);
  }
}

async function keepLooking() {
  for (;;) {
    if (document.hidden) await new Promise((go) => document.addEventListener("visibilitychange", go, { once: true }));
    await look();
    await new Promise((go) => setTimeout(go, PERIOD));
  }
}

// ---- asking a model: the API as anybody uses it, with the key that was typed in ------------------------------------

let asking = null; // an AbortController while an answer comes

/** The events of a stream, parsed, as they come. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + part.value).split("\n");
    rest = lines.pop();
    const found = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim());
    for (const data of found.filter((text) => text && text !== "[DONE]")) yield JSON.parse(data);
  }
}

async function answerOf(response) {
  const begun = performance.now();
  for await (const event of events(response.body)) {
    if (event.error) throw new Error(event.error.message);
    at("answer").append(event.choices?.[0]?.delta?.content ?? "");
    const seconds = ((performance.now() - begun) / 1000).toFixed(1);
    if (event.usage) write(at("cost"), `${event.usage.completion_tokens} tokens, ${seconds} s`);
  }
}

async function ask(event) {
  event.preventDefault();
  if (asking !== null) return;
  const key = at("key-row").hidden ? "" : at("key").value.trim();
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
  asking = new AbortController();
  at("send").disabled = true;
  at("stop").hidden = at("answer").hidden = false;
  mark(at("answer"), "");
  write(at("answer"), "");
  write(at("cost"), "");
  try {
    const response = await fetch("v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) },
      body: JSON.stringify({
        model: at("model").value,
        messages: [{ role: "user", content: at("question").value }],
        stream: true,
        stream_options: { include_usage: true },
      }),
      signal: asking.signal,
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    await answerOf(response);
  } catch (error) {
    if (error.name === "AbortError") return;
    mark(at("answer"), "failed");
    at("answer").append(at("answer").textContent ? "\n" : "", error.message);
  } finally {
    asking = null;
    at("stop").hidden = true;
    at("send").disabled = at("model").disabled;
  }
}

at("key").value = sessionStorage.getItem(KEY) ?? "";
at("ask").addEventListener("submit", ask);
at("stop").addEventListener("click", () => asking?.abort());
at("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("ask").requestSubmit();
});
keepLooking();
