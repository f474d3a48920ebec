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

// The picture with the layers that are switched on, as PNG.
function save(stage, figure) {
  const image = stage.querySelector("img");
  const canvas = Object.assign(document.createElement("canvas"), { width: image.naturalWidth, height: image.naturalHeight });
  const pen = canvas.getContext("2d");
  const finish = () => {
    const link = Object.assign(document.createElement("a"), { download: "picture.png", href: canvas.toDataURL("image/png") });
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
