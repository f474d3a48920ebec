// Copy a table, save or enlarge a picture. One listener for the whole document, so that it also serves what comes later.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-pa]");
  if (!button) return;
  const say = (word) => {
    const before = button.textContent;
    button.textContent = word;
    setTimeout(() => { button.textContent = before; }, 1500);
  };
  if (button.dataset.pa === "copy") {
    const rows = [...button.closest(".pa-table").querySelectorAll("tr")];
    const text = rows.map((row) => [...row.children].map((cell) => cell.textContent).join("\t")).join("\n");
    copy(text).then(() => say("Copied"), () => say("Not allowed"));
  }
  if (button.dataset.pa === "text") copy(button.dataset.text).then(() => say("Copied"), () => say("Not allowed"));
  if (button.dataset.pa === "answer") {
    const words = button.closest(".pa-answer").querySelector(".pa-words").cloneNode(true);
    words.querySelectorAll("sup").forEach((mark) => mark.remove());
    document.body.append(words); // innerText knows lines only of what is laid out
    const text = words.innerText;
    words.remove();
    copy(text).then(() => say("Copied"), () => say("Not allowed"));
  }
  const stage = button.closest("figure")?.querySelector(".pa-stage");
  if (button.dataset.pa === "enlarge") stage?.requestFullscreen?.();
  if (button.dataset.pa === "save" && stage) save(stage, button.closest("figure"));
});

async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea"); // plain http in a hospital's own network has no clipboard API
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("copy");
}

// An enlarged picture is zoomed with the wheel, + and -, or two fingers, and moved by dragging or with the arrow keys.
document.addEventListener("fullscreenchange", () => {
  const stage = document.fullscreenElement;
  if (stage?.matches?.(".pa-stage")) zoomable(stage);
});

function zoomable(stage) {
  const fingers = new Map(), over = new AbortController();
  let x = 0, y = 0, zoom = 1;
  const on = (target, name, work) => target.addEventListener(name, work, { signal: over.signal, passive: false });
  const show = () => {
    if (zoom === 1) x = y = 0;
    const now = { "--pa-x": `${x}px`, "--pa-y": `${y}px`, "--pa-zoom": zoom };
    for (const [name, value] of Object.entries(now)) stage.style.setProperty(name, value);
  };
  const move = (right, down) => { x += right; y += down; show(); };
  const zoomBy = (factor, at = { clientX: innerWidth / 2, clientY: innerHeight / 2 }) => {
    const next = Math.min(16, Math.max(1, zoom * factor)), right = at.clientX - innerWidth / 2, down = at.clientY - innerHeight / 2;
    x = right - ((right - x) * next) / zoom; // what lies under the pointer stays there
    y = down - ((down - y) * next) / zoom;
    zoom = next;
    show();
  };
  const apart = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY); };
  on(stage, "wheel", (event) => { event.preventDefault(); zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, event); });
  on(stage, "pointerdown", (event) => { event.preventDefault(); fingers.set(event.pointerId, event); stage.setPointerCapture(event.pointerId); });
  on(stage, "pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const gap = fingers.size > 1 && apart();
    fingers.set(event.pointerId, event);
    if (gap) zoomBy(apart() / gap, event);
    else move(event.clientX - before.clientX, event.clientY - before.clientY);
  });
  for (const name of ["pointerup", "pointercancel"]) on(stage, name, (event) => fingers.delete(event.pointerId));
  on(document, "keydown", (event) => {
    const moves = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] }[event.key];
    const factor = { "+": 1.4, "=": 1.4, "-": 1 / 1.4, 0: 1 / 16 }[event.key];
    if (!moves && !factor) return;
    event.preventDefault();
    if (moves) move(...moves);
    else zoomBy(factor);
  });
  on(document, "fullscreenchange", () => { over.abort(); zoom = 1; show(); });
}

// The picture with the layers that are switched on, as PNG.
function save(stage, figure) {
  const image = stage.querySelector("img");
  const canvas = Object.assign(document.createElement("canvas"), { width: image.naturalWidth, height: image.naturalHeight });
  const pen = canvas.getContext("2d");
  const finish = () => {
    const link = Object.assign(document.createElement("a"), { download: `${figure.dataset.name || "picture"}.png`, href: canvas.toDataURL("image/png") });
    link.click();
  };
  pen.drawImage(image, 0, 0);
  const svg = stage.querySelector("svg");
  if (!svg) return finish();
  const copied = svg.cloneNode(true);
  copied.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copied.setAttribute("width", canvas.width);
  copied.setAttribute("height", canvas.height);
  const marks = svg.querySelectorAll("g, path, text"), copies = copied.querySelectorAll("g, path, text");
  marks.forEach((mark, n) => {
    const style = getComputedStyle(mark);
    for (const name of ["display", "fill", "fill-opacity", "stroke", "stroke-width", "vector-effect", "font-family"])
      copies[n].style.setProperty(name, style.getPropertyValue(name));
  });
  const layer = new Image();
  layer.onload = () => { pen.drawImage(layer, 0, 0); finish(); };
  layer.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(new XMLSerializer().serializeToString(copied));
}
