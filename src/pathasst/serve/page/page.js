// The tab's token: it finds the conversation again after a reload, and is gone when the tab is closed.
window.pathasstToken = () => {
  let token = sessionStorage.getItem("pathasst");
  if (!token) {
    token = [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
    sessionStorage.setItem("pathasst", token);
  }
  return token;
};

// A picture may be pasted, and dropped anywhere on the page: it goes where the box for files would take it.
window.pathasstGive = (files) => {
  const input = document.querySelector("#pa-file input[type=file]");
  if (!input || !files.length) return false;
  const given = new DataTransfer();
  for (const [n, file] of [...files].entries()) {
    const pasted = /^image\.\w+$/.test(file.name); // what a browser calls every picture from the clipboard
    given.items.add(pasted ? new File([file], `pasted-${n + 1}.${file.type.split("/")[1] || "png"}`, { type: file.type }) : file);
  }
  input.files = given.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
  return true;
};
document.addEventListener("paste", (event) => {
  if (window.pathasstGive(event.clipboardData?.files ?? [])) event.preventDefault();
});
const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
document.addEventListener("dragover", (event) => { if (carriesFiles(event)) event.preventDefault(); });
document.addEventListener("drop", (event) => {
  if (!carriesFiles(event) || event.target.closest?.("#pa-file")) return;
  event.preventDefault();
  window.pathasstGive(event.dataTransfer.files);
});

// A report is made by the server and saved by the browser; it never lies at an address.
window.pathasstSave = (html) => {
  if (!html) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([html], { type: "text/html" }));
  link.download = `pathasst-report-${new Date().toISOString().slice(0, 10)}.html`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};

// A new question comes into sight when it is asked, and again when its answer is there, unless the person has scrolled away.
window.pathasstFollow = (element) => {
  const last = () => [...element.querySelectorAll(".pa-exchange")].at(-1);
  const seen = () => ({ count: element.querySelectorAll(".pa-exchange").length, answered: !!last()?.querySelector(".pa-answer") });
  let before = seen();
  new MutationObserver(() => {
    const now = seen(), asked = now.count === before.count + 1, answered = now.count === before.count && now.answered && !before.answered;
    before = now;
    const top = last()?.getBoundingClientRect().top;
    if (asked || (answered && top >= 0 && top < innerHeight)) last().scrollIntoView({ block: "start" });
  }).observe(element, { childList: true, subtree: true });
};

// How long the step in hand has taken, so that a slow one does not look like a dead one.
setInterval(() => {
  for (const line of document.querySelectorAll(".pa-waiting")) {
    const seconds = Math.round((Date.now() - (line.dataset.since ??= Date.now())) / 1000);
    if (seconds > 2) line.dataset.seconds = `${seconds} s`;
  }
}, 1000);

// The region picker: drag a box or press a place; arrow keys, plus and minus do the same. Boxes are in px of the slide, and are
// written into the field below the picker, where they can also be typed.
window.pathasstPicker = (element, watch) => {
  const state = { box: null, size: null };
  const frame = () => element.querySelector(".pa-pick");
  const draw = () => {
    const [x, y, w, h] = state.box, box = frame().querySelector(".pa-box");
    const percent = (value, whole) => `${(100 * value) / whole}%`;
    Object.assign(box.style, {
      left: percent(x, state.size[0]), top: percent(y, state.size[1]),
      width: percent(w, state.size[0]), height: percent(h, state.size[1]),
    });
  };
  const put = (x, y, w, h, tell = true) => {
    const [width, height] = state.size;
    w = Math.round(Math.min(Math.max(w, 32), width)), h = Math.round(Math.min(Math.max(h, 32), height));
    state.box = [Math.round(Math.min(Math.max(x, 0), width - w)), Math.round(Math.min(Math.max(y, 0), height - h)), w, h];
    draw();
    const field = document.querySelector("#pa-region input, #pa-region textarea");
    if (!tell || !field) return;
    field.value = state.box.join(", ");
    field.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const at = (event) => {
    const area = frame().querySelector("img").getBoundingClientRect();
    return [((event.clientX - area.left) / area.width) * state.size[0], ((event.clientY - area.top) / area.height) * state.size[1]];
  };
  const set = () => {
    const pick = frame();
    if (!pick || pick.dataset.ready) return;
    pick.dataset.ready = "yes";
    state.size = [Number(pick.dataset.width), Number(pick.dataset.height)];
    put(...pick.dataset.box.split(",").map(Number), false);
    let start = null;
    pick.addEventListener("pointerdown", (event) => { start = at(event); pick.setPointerCapture(event.pointerId); });
    pick.addEventListener("pointermove", (event) => {
      if (!start) return;
      const [x, y] = at(event);
      put(Math.min(x, start[0]), Math.min(y, start[1]), Math.abs(x - start[0]), Math.abs(y - start[1]), false);
    });
    pick.addEventListener("pointerup", (event) => {
      const [x, y] = at(event), [, , w, h] = state.box;
      const pressed = start && Math.max(Math.abs(x - start[0]) / state.size[0], Math.abs(y - start[1]) / state.size[1]) < 0.01;
      start = null;
      const side = Math.min(1024, ...state.size);
      if (pressed) put(x - side / 2, y - side / 2, side, side);
      else put(...state.box.slice(0, 2), w, h);
    });
    pick.addEventListener("keydown", (event) => {
      const [x, y, w, h] = state.box, step = Math.max(w, h) / 4;
      const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
      const zoom = { "+": 1.25, "=": 1.25, "-": 0.8 }[event.key];
      if (moves[event.key]) put(x + moves[event.key][0], y + moves[event.key][1], w, h);
      else if (zoom) put(x + (w - w * zoom) / 2, y + (h - h * zoom) / 2, w * zoom, h * zoom);
      else return;
      event.preventDefault();
    });
  };
  watch("value", set);
  set();
};

/* While models load, the page says so. */
(() => {
  const look = async () => {
    const note = document.getElementById("pa-loading");
    const loading = (await fetch("ready").catch(() => ({ status: 0 }))).status === 503;
    if (note) note.hidden = !loading;
    if (loading || !note) setTimeout(look, 1500);
  };
  addEventListener("load", look);
})();
