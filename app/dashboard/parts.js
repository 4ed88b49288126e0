// Small parts that all pages share: words, numbers, badges, bars, messages.

import { html, useEffect, useLayoutEffect, useRef, useState } from "/dashboard/vendor/preact-htm.js";
import { Problem, call, hasKey, urlOf } from "/dashboard/api.js";

export { html, render, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "/dashboard/vendor/preact-htm.js";

export const FINAL = ["succeeded", "failed", "cancelled"];

export const percent = (share, digits = 2) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)}%`);
export const number = (value, digits = 4) => (value === null || value === undefined ? "–" : value.toFixed(digits));
export const title = (job) => job.name ?? job.id.slice(-12);

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

export function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = count ? Math.min(4, Math.floor(Math.log2(count) / 10)) : 0;
  return `${(count / 1024 ** power).toFixed(power ? 1 : 0)} ${units[power]}`;
}

export function ago(time) {
  if (!time) return "–";
  const seconds = (Date.now() - new Date(time)) / 1000;
  return seconds < 5 ? "just now" : `${duration(seconds).replace(/ (\d+) s$/, "")} ago`;
}

// The whole time is made when it is pointed at: the first one takes the browser some 15 ms.
const wholeTime = (event) => { event.currentTarget.title = new Date(event.currentTarget.dateTime).toLocaleString(); };
export const Time = ({ at }) => (at ? html`<time datetime=${at} onMouseEnter=${wholeTime}>${ago(at)}</time>` : "–");

/** A description with `code` in it. */
export const Words = ({ text }) => (text ?? "").split("`").map((part, at) => (at % 2 ? html`<code>${part}</code>` : part));

export const Status = ({ status }) => html`<span class="status ${status}">${status}</span>`;

export function Bar({ share, label, kind = "" }) {
  const width = Math.max(0, Math.min(100, share));
  return html`<span class="bar ${kind}" role="progressbar" aria-valuenow=${Math.round(width)} aria-valuemin="0" aria-valuemax="100" aria-label=${label}>
    <span style=${`width:${width}%`}></span>
  </span>`;
}

export function Sparkline({ values }) {
  if (!values || values.length < 2) return html`<span class="muted">–</span>`;
  const low = Math.min(...values), span = Math.max(...values) - low || 1;
  const points = values.map((value, at) => `${((at / (values.length - 1)) * 78 + 1).toFixed(1)},${(19 - ((value - low) / span) * 17).toFixed(1)}`);
  return html`<svg class="sparkline" viewBox="0 0 80 20" role="img" aria-label=${`val_loss from ${number(values[0])} to ${number(values.at(-1))}`}>
    <polyline points=${points.join(" ")} />
  </svg>`;
}

/** An image that the API has, with a key where one is needed. */
export function Picture({ path, alt, ...rest }) {
  const [src, setSrc] = useState(hasKey() ? null : path);
  useEffect(() => {
    let made = null;
    urlOf(path).then((url) => { made = url; setSrc(url); }, () => setSrc(null));
    return () => made?.startsWith("blob:") && URL.revokeObjectURL(made);
  }, [path]);
  return src && html`<img src=${src} alt=${alt} ...${rest} />`;
}

/** A download that works with a key, too. */
export function Download({ path, name, children }) {
  const fetchIt = async (event) => {
    if (!hasKey()) return;
    event.preventDefault();
    const link = document.createElement("a");
    link.href = await urlOf(path);
    link.download = name ?? "";
    link.click();
  };
  return html`<a href=${path} download=${name ?? ""} onClick=${fetchIt}>${children}</a>`;
}

/** Copy a text. On a page that came over plain HTTP from another machine the browser has no clipboard, but a selection. */
async function toClipboard(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

export function Copy({ text, children }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await toClipboard(typeof text === "function" ? text() : text);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`<button type="button" onClick=${copy}>${done ? "copied" : children}</button>`;
}

/** Messages at the foot of the page: `say(text)` and `say(text, true)` for what went wrong. */
let show = () => {};
export const say = (text, wrong = false) => show({ text, wrong, id: Math.random() });

export function Messages() {
  const [messages, setMessages] = useState([]);
  show = (message) => {
    setMessages((before) => [...before.slice(-3), message]);
    setTimeout(() => setMessages((before) => before.filter((each) => each !== message)), message.wrong ? 10000 : 4000);
  };
  return html`<div class="messages" role="status" aria-live="polite">
    ${messages.map((each) => html`<p key=${each.id} class=${each.wrong ? "wrong" : ""}>${each.text}
      <button type="button" class="plain" aria-label="Dismiss" onClick=${() => setMessages((before) => before.filter((other) => other !== each))}>×</button></p>`)}
  </div>`;
}

/** Do a call of the API and tell of what goes wrong. Returns its answer, or undefined. */
export async function attempt(method, path, body, done) {
  try {
    const answer = await call(method, path, body);
    if (done) say(done);
    return answer ?? true;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    say(error.message, true);
    return undefined;
  }
}

/** What `read(signal)` answers: `[answer, again, problem]`. Read anew when `keys` change. */
export function useAnswer(read, keys) {
  const [state, setState] = useState([undefined, null]);
  const [turn, setTurn] = useState(0);
  const current = useRef(null);
  // Before the browser paints, not after: the answer is there a frame sooner.
  useLayoutEffect(() => {
    const controller = new AbortController();
    current.current?.abort();
    current.current = controller;
    read(controller.signal).then(
      (answer) => !controller.signal.aborted && setState([answer, null]),
      (problem) => {
        if (controller.signal.aborted || problem.name === "AbortError") return;
        setState(([before]) => [before, problem]);
      },
    );
    return () => controller.abort();
  }, [...keys, turn]);
  const again = useRef(() => setTurn((before) => before + 1));
  return [state[0], again.current, state[1]];
}

export const Wrong = ({ problem }) => problem && html`<p class="wrong box" role="alert">${problem.message}</p>`;
export const Waiting = () => html`<p class="muted" role="status">Loading…</p>`;

/** Bars of classes' probabilities or counts. */
export function Bars({ rows }) {
  const most = Math.max(...rows.map((row) => row.value), 1e-9);
  return html`<table class="bars"><tbody>${rows.map((row) => html`<tr key=${row.name}>
    <th scope="row">${row.name}</th>
    <td class="grow"><span class="fill" style=${`width:${(100 * row.value) / most}%`}></span></td>
    <td class="number">${row.words}</td></tr>`)}</tbody></table>`;
}

/** A value as YAML: block style, flow lists. */
export function yaml(value, indent = "") {
  return Object.entries(value).map(([name, part]) => {
    if (part !== null && typeof part === "object" && !Array.isArray(part) && Object.keys(part).length) {
      return `${indent}${name}:\n${yaml(part, `${indent}  `)}`;
    }
    return `${indent}${name}: ${inline(part)}\n`;
  }).join("");
}

function inline(value) {
  if (Array.isArray(value)) return `[${value.map(inline).join(", ")}]`;
  if (value !== null && typeof value === "object") return JSON.stringify(value);
  if (typeof value !== "string") return String(value);
  const plain = /^[A-Za-z_][\w ./-]*$/.test(value) && !/^(null|true|false|yes|no|on|off|y|n|~)$/i.test(value) && !value.endsWith(" ");
  return plain ? value : JSON.stringify(value);
}
