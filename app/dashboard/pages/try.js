// Draw a digit, or drop an image, and see what a finished job makes of it, as you draw.

import { Bars, Waiting, Wrong, html, percent, title, useAnswer, useEffect, useRef, useState } from "/dashboard/parts.js";
import { Problem, call, get } from "/dashboard/api.js";

const SIDE = 280;
const DRAWN = ["mnist", "digits", "fashion_mnist"]; // light strokes on a dark ground, as these have them

/** The drawing as MNIST has its digits: cut out, scaled to 20 of 28 pixels, and moved so that its centre of mass is
 *  the centre (LeCun et al., 1998). `digits` fills its 8 pixels, so less room is left there. */
function centred(canvas, dataset) {
  const context = pen(canvas), { data } = context.getImageData(0, 0, SIDE, SIDE);
  let left = SIDE, right = -1, top = SIDE, bottom = -1, mass = 0, sumX = 0, sumY = 0;
  for (let y = 0; y < SIDE; y++) for (let x = 0; x < SIDE; x++) {
    const value = data[4 * (y * SIDE + x)];
    if (value < 30) continue;
    left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = Math.max(bottom, y);
    mass += value; sumX += value * x; sumY += value * y;
  }
  if (right < 0) return null;
  const room = dataset === "digits" ? 1 : 20 / 28, factor = (SIDE * room) / Math.max(right - left + 1, bottom - top + 1);
  const out = document.createElement("canvas");
  out.width = out.height = SIDE;
  const drawn = out.getContext("2d");
  drawn.fillStyle = "#000";
  drawn.fillRect(0, 0, SIDE, SIDE);
  const centre = dataset === "digits" ? [(left + right) / 2, (top + bottom) / 2] : [sumX / mass, sumY / mass];
  drawn.setTransform(factor, 0, 0, factor, SIDE / 2 - factor * centre[0], SIDE / 2 - factor * centre[1]);
  drawn.drawImage(canvas, 0, 0);
  return out;
}

// The drawing is read at every stroke, so it is kept where reading is quick.
const pen = (canvas) => canvas.getContext("2d", { willReadFrequently: true });

function clear(canvas) {
  const context = pen(canvas);
  context.fillStyle = "#000";
  context.fillRect(0, 0, SIDE, SIDE);
}

function Pad({ changed, emptied }) {
  const canvas = useRef(null), last = useRef(null);
  useEffect(() => clear(canvas.current), []);
  const place = (event) => {
    const box = canvas.current.getBoundingClientRect();
    return [((event.clientX - box.left) * SIDE) / box.width, ((event.clientY - box.top) * SIDE) / box.height];
  };
  const draw = (event) => {
    if (!last.current) return;
    const [x, y] = place(event), context = pen(canvas.current);
    context.strokeStyle = "#fff";
    context.lineWidth = 24;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...last.current);
    context.lineTo(x, y);
    context.stroke();
    last.current = [x, y];
    changed(canvas.current);
  };
  const down = (event) => { event.preventDefault(); canvas.current.setPointerCapture(event.pointerId); last.current = place(event); draw(event); };
  const up = () => { last.current = null; };
  return html`<div><canvas ref=${canvas} width=${SIDE} height=${SIDE} class="pad" role="img" aria-label="Draw here; or choose an image below"
      onPointerDown=${down} onPointerMove=${draw} onPointerUp=${up} onPointerCancel=${up}></canvas>
    <p><button type="button" onClick=${() => { clear(canvas.current); emptied(); }}>Clear</button></p></div>`;
}

export default function Try({ query }) {
  const [answer, , problem] = useAnswer((signal) => get("/jobs", { status: "succeeded", limit: 100 }, signal), []);
  const [chosen, setChosen] = useState(query.get("job"));
  const [found, setFound] = useState(null);
  const [wrong, setWrong] = useState(null);
  const [picture, setPicture] = useState(null);
  const turn = useRef(0), busy = useRef(false), waiting = useRef(null);
  const jobs = (answer?.data ?? []).filter((job) => job.spec.model.kind !== "linear_probe");
  const job = jobs.find((each) => each.id === chosen) ?? jobs[0];
  const drawn = job && DRAWN.includes(job.spec.dataset.name);

  const ask = async (blob) => {
    // One call at a time, and then the newest drawing: an answer is never older than the one before.
    if (busy.current) { waiting.current = blob; return; }
    busy.current = true;
    const mine = turn.current;
    try {
      const answer = await call("POST", `/jobs/${job.id}/predict`, blob, blob.type || "application/octet-stream");
      if (mine === turn.current) { setFound(answer); setWrong(null); }
    } catch (fault) {
      if (!(fault instanceof Problem)) throw fault;
      if (mine === turn.current) setWrong(fault);
    }
    busy.current = false;
    const next = waiting.current;
    waiting.current = null;
    if (next) ask(next);
  };
  const changed = (canvas) => centred(canvas, job.spec.dataset.name)?.toBlob((blob) => ask(blob), "image/png");
  const emptied = () => { turn.current++; waiting.current = null; setFound(null); setWrong(null); };
  const take = (file) => {
    if (!file) return;
    emptied();
    setPicture((before) => { if (before) URL.revokeObjectURL(before); return URL.createObjectURL(file); });
    ask(file);
  };
  const drop = (event) => { event.preventDefault(); take(event.dataTransfer.files[0]); };

  if (!answer) return html`<h1>Try it</h1><${Wrong} problem=${problem} />${!problem && html`<${Waiting} />`}`;
  if (!job) return html`<h1>Try it</h1><p class="box">No job has succeeded yet. <a href="#/new">Submit one</a>, and come back.</p>`;
  return html`<div class="head"><h1>Try it</h1><label>Job <select value=${job.id} onChange=${(event) => { emptied(); setChosen(event.target.value); }}>
      ${jobs.map((each) => html`<option key=${each.id} value=${each.id}>${title(each)}: ${each.spec.model.kind} on ${each.spec.dataset.name}, ${percent(each.evaluation?.accuracy)}</option>`)}</select></label></div>
    <div class="try" onDragOver=${(event) => event.preventDefault()} onDrop=${drop}>
      <div>${drawn && html`<${Pad} key=${job.id} changed=${changed} emptied=${emptied} />`}
        <p><label>${drawn ? "Or an image" : "An image"} <input type="file" accept="image/png,image/jpeg,image/webp,image/gif,image/bmp" onChange=${(event) => take(event.target.files[0])} /></label>
          <small>Or drop one here. It is scaled to cover the size of the training images and cut at the centre.</small></p>
        ${picture && !drawn && html`<img class="dropped" src=${picture} alt="The image that you chose" />`}</div>
      <div role="status" aria-live="polite" class="prediction"><${Wrong} problem=${wrong} />
        ${found
          ? html`<p class="answer">${found.data[0].name} <small>${percent(found.data[0].probability, 1)}</small></p>
              <${Bars} rows=${found.data.slice(0, 10).map((each) => ({ name: each.name, value: each.probability, words: percent(each.probability, 1) }))} />
              <p class="muted"><img class="seen" src=${found.seen} alt="The image as the network sees it" /> what the network sees; ${found.milliseconds} ms</p>`
          : html`<p class="muted">${drawn ? "Draw a digit; the answer comes as you draw." : "Choose an image."}</p>`}</div>
    </div>`;
}
