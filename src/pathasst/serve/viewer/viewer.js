// The slide page: OpenSeadragon over tiles of our server, a scale bar, layers of runs, a ruler, a box to ask about.
"use strict";

const $ = (id) => document.getElementById(id);
const key = location.pathname.split("/").pop();
const make = (tag, text = "", parts = {}) => Object.assign(document.createElement(tag), { textContent: text, ...parts });
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
    element, tileSources: source(`/slide-tiles/${about.key}/image_files/`, "jpg", about), prefixUrl: "/slide-tiles/openseadragon/images/",
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
  const address = (run, layer, classes) => `/slide-tiles/${about.key}/run/${run}/${layer}/${classes}/${about.runs[run].stamp}_files/`;
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
  for (const one of ["measure", "box"]) $(one).setAttribute("aria-pressed", String(mode === one));
  viewer.setMouseNavEnabled(!mode);
}

function drawing(viewer, about, picked) {
  const rule = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  rule.setAttribute("class", "rule");
  viewer.canvas.append(rule);
  let start = null, line = null;
  const image = (position) => viewer.world.getItemAt(0).viewerElementToImageCoordinates(position);
  const redraw = () => {
    rule.replaceChildren();
    if (!line) return;
    const [a, b] = line.map((p) => viewer.world.getItemAt(0).imageToViewerElementCoordinates(p));
    const stroke = document.createElementNS(rule.namespaceURI, "line");
    for (const [name, value] of Object.entries({ x1: a.x, y1: a.y, x2: b.x, y2: b.y, class: "ruler" })) stroke.setAttribute(name, value);
    const words = document.createElementNS(rule.namespaceURI, "text");
    words.setAttribute("x", (a.x + b.x) / 2 + 6);
    words.setAttribute("y", (a.y + b.y) / 2 - 6);
    words.textContent = length(line[0].distanceTo(line[1]), about.um_per_px);
    rule.append(stroke, words);
  };
  viewer.addHandler("update-viewport", redraw);
  const boxOf = (a, b) => {
    const clip = (p) => ({ x: Math.min(Math.max(p.x, 0), about.width), y: Math.min(Math.max(p.y, 0), about.height) });
    const [p, q] = [clip(a), clip(b)];
    return { x: Math.min(p.x, q.x), y: Math.min(p.y, q.y), width: Math.abs(p.x - q.x), height: Math.abs(p.y - q.y) };
  };
  const frame = make("div", "", { className: "drawn" });
  const showBox = (box) => {
    viewer.removeOverlay(frame);
    viewer.addOverlay({ element: frame, location: viewer.world.getItemAt(0).imageToViewportRectangle(box.x, box.y, box.width, box.height) });
  };
  new OpenSeadragon.MouseTracker({
    element: viewer.canvas,
    pressHandler: (e) => { if (mode) start = image(e.position); },
    dragHandler: (e) => {
      if (!mode || !start) return;
      const end = image(e.position);
      if (mode === "measure") { line = [start, end]; redraw(); } else showBox(boxOf(start, end));
    },
    releaseHandler: (e) => {
      if (mode === "box" && start) {
        const box = boxOf(start, image(e.position));
        if (box.width > 8 && box.height > 8) picked(box);
      }
      start = null;
    },
    moveHandler: (e) => {
      if (!viewer.world.getItemCount()) return;
      const p = image(e.position);
      const inside = p.x >= 0 && p.y >= 0 && p.x < about.width && p.y < about.height;
      $("pointer").textContent = inside ? `${Math.round(p.x)}, ${Math.round(p.y)} px` : "";
    },
  });
  return showBox;
}

function asking(about, side) {
  const place = make("div");
  side.prepend(place);
  return async (box) => {
    const round = Object.fromEntries(Object.entries(box).map(([k, v]) => [k, Math.round(v)]));
    const words = [round.x, round.y, round.width, round.height].join(",");
    const address = `/slide-tiles/${about.key}/region.png?${new URLSearchParams(round)}`;
    place.replaceChildren(make("h2", "Region"), make("p", `${words} px; ${length(box.width, about.um_per_px)} wide`));
    place.append(make("a", "Save as picture", { href: address, download: `${about.name}.${words}.png` }));
    place.append(make("p", `pathasst tools run TOOL ${about.name} --region ${words}`, { className: "quiet" }));
    if (!about.asks) return;
    const question = make("textarea", "", { placeholder: "Ask about this region" }), send = make("button", "Ask"), answer = make("p");
    question.setAttribute("aria-label", "Question about the region");
    answer.setAttribute("aria-live", "polite");
    place.append(question, send, answer);
    send.addEventListener("click", async () => {
      send.disabled = true;
      answer.textContent = "Working …";
      try {
        const picture = await fetch(address), scale = +picture.headers.get("X-Um-Per-Px") || undefined;
        const bytes = new Uint8Array(await picture.arrayBuffer());
        let text = "";
        for (let n = 0; n < bytes.length; n += 32768) text += String.fromCharCode(...bytes.subarray(n, n + 32768));
        const url = `data:image/png;base64,${btoa(text)}`;
        const content = [{ type: "text", text: question.value }, { type: "image_url", image_url: { url, um_per_px: scale } }];
        const reply = await fetch("/v1/chat/completions", {
          method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ messages: [{ role: "user", content }] }),
        });
        const result = await reply.json();
        answer.textContent = reply.ok ? result.choices[0].message.content : result.error?.message || `Error ${reply.status}`;
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
  const about = await (await fetch(`/slide/${key}/info`)).json();
  document.title = $("name").textContent = about.name;
  $("scale").textContent = `${about.width} × ${about.height} px, ${about.scale}`;
  const viewer = (window.viewer = open($("view"), about));
  viewer.addHandler("tile-load-failed", () => { window.failed = (window.failed || 0) + 1; });
  viewer.addHandler("tile-loaded", () => { window.loaded = (window.loaded || 0) + 1; });
  scaleBar(viewer, about);
  const side = $("side");
  const showBox = drawing(viewer, about, asking(about, side));
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
  $("measure").onclick = () => setMode(viewer, "measure");
  $("box").onclick = () => setMode(viewer, "box");
  document.addEventListener("keydown", (e) => {
    if (e.target.closest("textarea, input, select") || e.ctrlKey || e.metaKey || e.altKey) return;
    const acts = {
      h: () => viewer.viewport.goHome(), f: full, m: () => setMode(viewer, "measure"), b: () => setMode(viewer, "box"),
      Escape: () => mode && setMode(viewer, mode), "+": () => viewer.viewport.zoomBy(1.5), "-": () => viewer.viewport.zoomBy(1 / 1.5),
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
    const theirs = await (await fetch(`/slide/${$("beside").value}/info`)).json();
    second = window.second = open($("second"), theirs);
    second.addOnceHandler("open", () => link(viewer, second, about, theirs));
  };
  window.ready = true;
}

start();
