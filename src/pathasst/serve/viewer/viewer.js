// The slide page: OpenSeadragon over tiles of our server, a scale bar, layers of runs, a ruler, areas to count in and ask about.
"use strict";

const $ = (id) => document.getElementById(id);
const key = location.pathname.split("/").pop();
const make = (tag, text = "", parts = {}) => Object.assign(document.createElement(tag), { textContent: text, ...parts });
const MODES = ["measure", "box", "outline", "point"];
const FIELD_UM = 250; // side of the field around a point
let mode = "";

function source(base, format, about) {
  return {
    Image: {
      xmlns: "http://schemas.microsoft.com/deepzoom/2008", Url: base, Format: format, Overlap: "0", TileSize: String(about.tile),
      Size: { Width: String(about.width), Height: String(about.height) },
    },
  };
}

function open(element, about) {
  return OpenSeadragon({
    element, tileSources: source(`../slide-tiles/${about.key}/image_files/`, "jpg", about), prefixUrl: "../slide-tiles/openseadragon/images/",
    showNavigationControl: false, showNavigator: true, navigatorAutoFade: false, navigatorPosition: "TOP_RIGHT", drawer: "canvas", animationTime: 0.35,
    maxZoomPixelRatio: 4, minZoomImageRatio: 0.7, visibilityRatio: 0.3, zoomPerScroll: 1.3, gestureSettingsMouse: { clickToZoom: false },
    imageLoaderLimit: 6, timeout: 60000,
  });
}

function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [5, 2, 1].map((n) => n * power).find((n) => n <= value) ?? power;
}

function length(px, scale) {
  if (!scale) return `${Math.round(px).toLocaleString("en")} px`;
  const um = px * scale;
  return um >= 1000 ? `${+(um / 1000).toPrecision(3)} mm` : `${+um.toPrecision(3)} µm`;
}

function scaleBar(viewer, about) {
  const perPx = () => 1 / viewer.world.getItemAt(0).viewportToImageZoom(viewer.viewport.getZoom(true)); // slide px a screen px
  const draw = () => {
    if (!viewer.world.getItemCount()) return;
    const unit = about.um_per_px || 1, span = nice(130 * perPx() * unit);
    $("length").style.width = `${span / unit / perPx()}px`;
    $("words").textContent = length(span / unit, about.um_per_px);
  };
  viewer.addHandler("update-viewport", draw);
  viewer.addHandler("open", draw);
}

function layersOf(viewer, about, side) {
  const shown = new Map(); // "run/layer" → { item, opacity, classes }
  const address = (run, layer, classes) => `../slide-tiles/${about.key}/run/${run}/${layer}/${classes}/${about.runs[run].stamp}_files/`;
  const show = (run, layer, state) => {
    const name = `${run}/${layer}`, turn = (state.turn = (state.turn || 0) + 1);
    const old = shown.get(name);
    if (!state.on) {
      if (old) viewer.world.removeItem(old);
      shown.delete(name);
      return;
    }
    const classes = state.off.size ? state.names.map((_, n) => n).filter((n) => !state.off.has(n)).join("-") || "none" : "all";
    viewer.addTiledImage({
      tileSource: source(address(run, layer, classes), "png", about), opacity: state.opacity,
      success: ({ item }) => {
        if (old) viewer.world.removeItem(old);
        if (state.turn !== turn || !state.on) viewer.world.removeItem(item); else shown.set(name, item);
      },
    });
  };
  about.runs.forEach((run, number) => {
    side.append(make("h2", `${run.tool} (${run.name})`));
    for (const layer of about.layers) {
      if (layer === "spots" && !run.spots.length) continue;
      const state = { on: layer !== "density", opacity: layer === "density" ? 0.6 : 0.9, off: new Set(), names: run.classes };
      const row = make("div", "", { className: "row" }), label = make("label", ` ${layer}`);
      const box = make("input", "", { type: "checkbox", checked: state.on });
      const range = make("input", "", { type: "range", min: 0, max: 1, step: 0.05, value: state.opacity });
      range.setAttribute("aria-label", `opacity of ${layer}`);
      box.addEventListener("change", () => { state.on = box.checked; show(number, layer, state); });
      range.addEventListener("input", () => { state.opacity = +range.value; shown.get(`${number}/${layer}`)?.setOpacity(state.opacity); });
      label.prepend(box);
      row.append(label, range);
      side.append(row);
      if (layer === "cells") {
        run.classes.forEach((one, n) => {
          const line = make("div", "", { className: "row" }), words = make("label", ` ${one.name}: ${one.objects.toLocaleString("en")}`);
          const tick = make("input", "", { type: "checkbox", checked: true }), mark = make("span", "", { className: "mark" });
          mark.style.background = one.colour;
          tick.addEventListener("change", () => { state.off[tick.checked ? "delete" : "add"](n); show(number, layer, state); });
          words.prepend(tick);
          line.append(mark, words);
          side.append(line);
        });
      }
      if (state.on) show(number, layer, state);
    }
    run.sentences.forEach((text) => side.append(make("p", text)));
    run.spots.forEach((spot, n) => {
      const go = make("button", `Show hot spot ${n + 1}`);
      go.addEventListener("click", () => {
        const r = spot.radius_px * 1.2;
        viewer.viewport.fitBounds(viewer.world.getItemAt(0).imageToViewportRectangle(spot.x - r, spot.y - r, 2 * r, 2 * r));
      });
      side.append(go, " ");
    });
    run.warnings.forEach((text) => side.append(make("p", text, { className: "warn" })));
    side.append(make("p", run.notice, { className: "warn" }));
  });
}

function setMode(viewer, name) {
  mode = mode === name ? "" : name;
  for (const one of MODES) $(one).setAttribute("aria-pressed", String(mode === one));
  viewer.setMouseNavEnabled(!mode);
}

function drawing(viewer, about, picked) {
  const rule = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  rule.setAttribute("class", "rule");
  viewer.canvas.append(rule);
  const element = (name, values, text = "") => {
    const one = document.createElementNS(rule.namespaceURI, name);
    for (const [key, value] of Object.entries(values)) one.setAttribute(key, value);
    one.textContent = text;
    rule.append(one);
  };
  let start = null, line = null, corners = [], closed = false;
  const image = (position) => viewer.world.getItemAt(0).viewerElementToImageCoordinates(position);
  const screen = (p) => viewer.world.getItemAt(0).imageToViewerElementCoordinates(new OpenSeadragon.Point(p.x, p.y));
  const clip = (p) => ({ x: Math.min(Math.max(p.x, 0), about.width), y: Math.min(Math.max(p.y, 0), about.height) });
  const redraw = () => {
    rule.replaceChildren();
    if (!viewer.world.getItemCount()) return;
    if (line) {
      const [a, b] = line.map(screen);
      element("line", { x1: a.x, y1: a.y, x2: b.x, y2: b.y, class: "ruler" });
      element("text", { x: (a.x + b.x) / 2 + 6, y: (a.y + b.y) / 2 - 6 }, length(line[0].distanceTo(line[1]), about.um_per_px));
    }
    if (corners.length) {
      const points = corners.map(screen).map((p) => `${p.x},${p.y}`).join(" ");
      element(closed ? "polygon" : "polyline", { points, class: "outline" });
    }
  };
  viewer.addHandler("update-viewport", redraw);
  const boxOf = (a, b) => {
    const [p, q] = [clip(a), clip(b)];
    return { x: Math.min(p.x, q.x), y: Math.min(p.y, q.y), width: Math.abs(p.x - q.x), height: Math.abs(p.y - q.y) };
  };
  const frame = make("div", "", { className: "drawn" });
  const showBox = (box) => {
    corners = [];
    viewer.removeOverlay(frame);
    viewer.addOverlay({ element: frame, location: viewer.world.getItemAt(0).imageToViewportRectangle(box.x, box.y, box.width, box.height) });
    redraw();
  };
  const pickBox = (box) => {
    const { x, y, width, height } = box;
    if (width > 8 && height > 8) picked(box, [{ x, y }, { x: x + width, y }, { x: x + width, y: y + height }, { x, y: y + height }], "Box");
  };
  const close = () => {
    if (mode !== "outline" || closed || corners.length < 3) return;
    closed = true;
    redraw();
    const xs = corners.map((p) => p.x), ys = corners.map((p) => p.y);
    picked(boxOf({ x: Math.min(...xs), y: Math.min(...ys) }, { x: Math.max(...xs), y: Math.max(...ys) }), corners, "Outline");
  };
  new OpenSeadragon.MouseTracker({
    element: viewer.canvas,
    pressHandler: (e) => { if (mode) start = image(e.position); },
    dragHandler: (e) => {
      if (!mode || !start) return;
      const end = image(e.position);
      if (mode === "measure") { line = [start, end]; redraw(); }
      if (mode === "box") showBox(boxOf(start, end));
    },
    releaseHandler: (e) => {
      if (mode === "box" && start) pickBox(boxOf(start, image(e.position)));
      start = null;
    },
    clickHandler: (e) => {
      if (!e.quick || (mode !== "outline" && mode !== "point")) return;
      const place = clip(image(e.position));
      if (mode === "point") {
        const half = (about.um_per_px ? FIELD_UM / about.um_per_px : 512) / 2;
        const box = boxOf({ x: place.x - half, y: place.y - half }, { x: place.x + half, y: place.y + half });
        showBox(box);
        pickBox(box);
        return;
      }
      if (closed) { corners = []; closed = false; }
      viewer.removeOverlay(frame);
      const last = corners.length && screen(corners.at(-1)); // the second click of a double one adds nothing
      if (!last || last.distanceTo(e.position) > 4) corners.push(place);
      redraw();
    },
    dblClickHandler: close,
    moveHandler: (e) => {
      if (!viewer.world.getItemCount()) return;
      const p = image(e.position);
      const inside = p.x >= 0 && p.y >= 0 && p.x < about.width && p.y < about.height;
      $("pointer").textContent = inside ? `${Math.round(p.x)}, ${Math.round(p.y)} px` : "";
    },
  });
  const drop = () => {
    if (!closed) corners = [];
    redraw();
  };
  return { showBox, close, drop };
}

function geojson(corners, name) {
  const ring = [...corners, corners[0]].map((p) => [+p.x.toFixed(2), +p.y.toFixed(2)]);
  const properties = { objectType: "annotation", name, isLocked: false };
  const feature = { type: "Feature", id: crypto.randomUUID?.() ?? name, geometry: { type: "Polygon", coordinates: [ring] }, properties };
  return `data:application/geo+json,${encodeURIComponent(JSON.stringify({ type: "FeatureCollection", features: [feature] }))}`;
}

function asking(about, side) {
  const place = make("div");
  side.prepend(place);
  return async (box, corners, kind) => {
    const x = Math.floor(box.x), y = Math.floor(box.y);
    const round = { x, y, width: Math.min(Math.ceil(box.x + box.width), about.width) - x, height: Math.min(Math.ceil(box.y + box.height), about.height) - y };
    const words = [round.x, round.y, round.width, round.height].join(",");
    const outline = corners.map((p) => `${p.x.toFixed(1)},${p.y.toFixed(1)}`).join(",");
    const parts = kind === "Outline" ? { ...round, corners: outline } : round;
    const address = `../slide-tiles/${about.key}/region.png?${new URLSearchParams(parts)}`;
    place.replaceChildren(make("h2", kind), make("p", `${words} px; ${length(box.width, about.um_per_px)} wide`));
    const results = make("div", "", { id: "inside" });
    place.append(results);
    about.runs.forEach(async (run, number) => {
      const reply = await fetch(`../slide-tiles/${about.key}/run/${number}/inside?${new URLSearchParams({ corners: outline })}`);
      const content = await reply.json();
      results.append(make("p", `${run.tool} (${run.name}): ${reply.ok ? content.words : content.detail}`));
    });
    place.append(make("a", "Save as picture", { href: address, download: `${about.name}.${words}.png` }), " ");
    place.append(make("a", "Save as GeoJSON", { href: geojson(corners, kind), download: `${about.name}.${words}.geojson` }));
    place.append(make("p", `pathasst tools run TOOL ${about.name} --region ${words}`, { className: "quiet" }));
    if (!about.asks) return;
    const question = make("textarea", "", { placeholder: "Ask about this region" }), send = make("button", "Ask"), answer = make("p", "", { className: "answer" });
    question.setAttribute("aria-label", "Question about the region");
    answer.setAttribute("aria-live", "polite");
    place.append(question, send, answer);
    send.addEventListener("click", async () => {
      send.disabled = true;
      answer.textContent = "Working …";
      try {
        const reply = await fetch(`${about.key}/ask`, {
          method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ question: question.value, ...parts }),
        });
        const result = await reply.json();
        answer.textContent = reply.ok ? result.answer : result.error?.message || result.detail || `Error ${reply.status}`;
      } catch (error) {
        answer.textContent = `The server did not answer: ${error.message}`;
      } finally {
        send.disabled = false;
      }
    });
    question.focus();
  };
}

function link(first, second, a, b) {
  // Same place and same µm on the screen in both; slides of unknown scale go by px.
  let leading = null;
  const follow = (from, to, fromAbout, toAbout) => () => {
    if (leading && leading !== from) return;
    leading = from;
    const ratio = (fromAbout.um_per_px || 1) / (toAbout.um_per_px || 1);
    const item = from.world.getItemAt(0), other = to.world.getItemAt(0);
    if (item && other) {
      const centre = item.viewportToImageCoordinates(from.viewport.getCenter(true));
      const zoom = item.viewportToImageZoom(from.viewport.getZoom(true));
      to.viewport.panTo(other.imageToViewportCoordinates(centre.x * ratio, centre.y * ratio), true);
      to.viewport.zoomTo(other.imageToViewportZoom(zoom / ratio), null, true);
      to.viewport.setRotation(from.viewport.getRotation(), true);
    }
    leading = null;
  };
  first.addHandler("update-viewport", follow(first, second, a, b));
  second.addHandler("update-viewport", follow(second, first, b, a));
}

async function start() {
  const about = await (await fetch(`${key}/info`)).json();
  document.title = $("name").textContent = about.name;
  $("scale").textContent = `${about.width} × ${about.height} px, ${about.scale}`;
  const viewer = (window.viewer = open($("view"), about));
  viewer.addHandler("tile-load-failed", () => { window.failed = (window.failed || 0) + 1; });
  viewer.addHandler("tile-loaded", () => { window.loaded = (window.loaded || 0) + 1; });
  scaleBar(viewer, about);
  const side = $("side");
  const { showBox, close, drop } = drawing(viewer, about, asking(about, side));
  viewer.addOnceHandler("open", () => {
    layersOf(viewer, about, side);
    const box = new URLSearchParams(location.hash.slice(1)).get("box")?.split(",").map(Number);
    if (box?.length === 4 && box.every(Number.isFinite)) {
      showBox({ x: box[0], y: box[1], width: box[2], height: box[3] });
      viewer.viewport.fitBounds(viewer.world.getItemAt(0).imageToViewportRectangle(...box), true);
    }
  });
  const turn = (by) => viewer.viewport.setRotation(viewer.viewport.getRotation() + by);
  const full = () => (document.fullscreenElement ? document.exitFullscreen() : $("stage").requestFullscreen());
  $("home").onclick = () => viewer.viewport.goHome();
  $("left").onclick = () => turn(-90);
  $("right").onclick = () => turn(90);
  $("full").onclick = full;
  const choose = (name) => { setMode(viewer, name); drop(); };
  for (const name of MODES) $(name).onclick = () => choose(name);
  document.addEventListener("keydown", (e) => {
    if (e.target.closest("textarea, input, select") || e.ctrlKey || e.metaKey || e.altKey) return;
    const acts = {
      h: () => viewer.viewport.goHome(), f: full, m: () => choose("measure"), b: () => choose("box"), p: () => choose("outline"), o: () => choose("point"),
      Enter: close, Escape: () => mode && choose(mode), "+": () => viewer.viewport.zoomBy(1.5), "-": () => viewer.viewport.zoomBy(1 / 1.5),
    };
    acts[e.key]?.();
  });
  for (const other of about.slides) if (other.key !== key) $("beside").append(make("option", other.name, { value: other.key }));
  let second = null;
  $("beside").onchange = async () => {
    second?.destroy();
    second = null;
    $("second").hidden = !$("beside").value;
    if (!$("beside").value) return;
    const theirs = await (await fetch(`${$("beside").value}/info`)).json();
    second = window.second = open($("second"), theirs);
    second.addOnceHandler("open", () => link(viewer, second, about, theirs));
  };
  window.ready = true;
}

start();
