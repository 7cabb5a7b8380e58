"use strict";
const $ = id => document.getElementById(id);
let models = [], current = null, shown = null, asked = 0;

async function start() {
  models = await (await fetch("/api/models")).json();
  for (const model of models) $("model").add(new Option(`${model.name} (${model.method})`, model.name));
  about();
  for (let i = 0; i < 6; i++) {
    const button = document.createElement("button"), image = new Image();
    image.src = `/api/samples/${i}`;
    image.alt = button.title = `sample ${i + 1}`;
    image.loading = "lazy";
    button.append(image);
    button.onclick = async () => use(await (await fetch(image.src)).blob());
    $("samples").append(button);
  }
}

function about() {
  const model = models.find(m => m.name === $("model").value);
  $("about").textContent = `${model.backbone}, ${model.classes.length} classes`;
}

function say(text, error = false) {
  $("status").textContent = text;
  $("status").className = error ? "error" : "";
}

async function use(blob) {
  let bitmap;
  try { bitmap = await createImageBitmap(blob); } catch { return say("The browser cannot read this file as an image.", true); }
  current = blob;
  $("view").hidden = false;
  const canvas = $("image");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  $("overlay").getContext("2d").clearRect(0, 0, $("overlay").width, $("overlay").height);
  shown = null;
  segment();
}

async function segment() {
  if (!current) return;
  const turn = ++asked, begin = performance.now(), name = $("model").value;
  say("…");
  let answer;
  for (let tries = 0; ; tries++) {
    try {
      answer = await fetch(`/api/segment?model=${encodeURIComponent(name)}`, {method: "POST", body: current});
    } catch { return say("The server does not answer.", true); }
    if (answer.status !== 503 || tries > 5) break;
    await new Promise(done => setTimeout(done, 1000 * Number(answer.headers.get("Retry-After") || 1)));
  }
  const found = await answer.json();
  if (turn !== asked) return;
  if (!answer.ok) return say(found.error || "The request was refused.", true);
  const [labels, confidence] = await Promise.all([values(found.maps.labels), values(found.maps.confidence)]);
  if (turn !== asked) return;
  shown = {...found, labels, confidence, model: models.find(m => m.name === found.model)};
  draw();
  say(`${found.width} × ${found.height}, ${Math.round(performance.now() - begin)} ms`);
  document.body.dataset.model = found.model;
}

async function values(base64) {
  const bytes = Uint8Array.from(atob(base64), c => c.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], {type: "image/png"}), {colorSpaceConversion: "none"});
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height), context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height).data.filter((_, i) => i % 4 === 0);
}

function draw() {
  $("hover").textContent = "";  // it spoke of the answer before
  const {maps: {width, height}, labels, model} = shown, canvas = $("overlay"), context = canvas.getContext("2d");
  canvas.width = width;
  canvas.height = height;
  const pixels = context.createImageData(width, height);
  for (let i = 0; i < labels.length; i++) pixels.data.set([...(model.palette[labels[i]] || [0, 0, 0]), 255], 4 * i);
  context.putImageData(pixels, 0, 0);
  canvas.style.opacity = $("opacity").value / 100;
  $("legend").replaceChildren(...shown.classes.map(row));
}

function row(entry) {
  const line = document.createElement("tr"), colour = document.createElement("canvas");
  colour.className = "colour";
  const context = colour.getContext("2d");
  context.fillStyle = `rgb(${entry.colour})`;
  context.fillRect(0, 0, colour.width, colour.height);
  line.insertCell().append(colour);
  for (const text of [entry.name, `${(100 * entry.share).toFixed(1)} %`, `${(100 * entry.confidence).toFixed(0)} %`])
    line.insertCell().textContent = text;
  return line;
}

$("overlay").onmousemove = event => {
  if (!shown) return;
  const box = $("overlay").getBoundingClientRect(), {width, height} = shown.maps;
  const x = Math.min(width - 1, Math.floor((event.clientX - box.left) / box.width * width));
  const y = Math.min(height - 1, Math.floor((event.clientY - box.top) / box.height * height));
  const at = y * width + x;
  $("hover").textContent = `${shown.model.classes[shown.labels[at]]}, ${Math.round(shown.confidence[at] / 2.55)} %`;
  $("hover").style.left = `${Math.min(event.clientX - box.left + 12, box.width - 150)}px`;
  $("hover").style.top = `${event.clientY - box.top + 12}px`;
};
$("overlay").onmouseleave = () => { $("hover").textContent = ""; };
$("opacity").oninput = () => { $("overlay").style.opacity = $("opacity").value / 100; };
$("model").onchange = () => { about(); segment(); };
$("file").onchange = () => { if ($("file").files[0]) use($("file").files[0]); };
for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, event => {
  event.preventDefault();
  $("drop").classList.toggle("over", kind === "dragover");
  if (kind === "drop" && event.dataTransfer.files[0]) use(event.dataTransfer.files[0]);
});
start();
