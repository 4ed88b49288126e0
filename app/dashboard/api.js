// Calls of the API: JSON, problems, live events, files. Knows nothing of pages.

const KEY = "whistlestop-key";
let key = sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY) ?? "";
let onKeyNeeded = null;
let needed = false;

export const hasKey = () => key !== "";

/** Call back when the API asks for a key; at once, if it already has. */
export function whenKeyIsNeeded(callback) {
  onKeyNeeded = callback;
  if (needed) callback();
}

/** Use an API key from now on; `keep`: after this tab is closed, too. An empty one forgets it. */
export function useKey(given, keep) {
  key = given;
  sessionStorage.removeItem(KEY);
  localStorage.removeItem(KEY);
  if (given) (keep ? localStorage : sessionStorage).setItem(KEY, given);
}

/** A problem (RFC 9457) that the API answered with. */
export class Problem extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `The API answered ${status}.`);
    this.status = status;
    this.code = problem.code;
    this.errors = problem.errors ?? [];
  }
}

function withKey(headers = {}) {
  return key ? { ...headers, Authorization: `Bearer ${key}` } : headers;
}

async function send(path, options) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: withKey(options.headers) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "The API does not answer. Is it running?", code: "unreachable" });
  }
  if (answer.ok) return answer;
  if (answer.status === 401) {
    needed = true;
    onKeyNeeded?.();
  }
  throw new Problem(answer.status, await answer.json().catch(() => ({})));
}

export async function get(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") query.append(name, each);
    }
  }
  const text = query.toString();
  return (await send(text ? `${path}?${text}` : path, { signal })).json();
}

/** Any other call; `body` is sent as JSON unless a `type` is given. */
export async function call(method, path, body = undefined, type = "application/json", more = {}) {
  const headers = { ...more };
  if (body !== undefined) headers["Content-Type"] = type;
  const content = body !== undefined && type === "application/json" ? JSON.stringify(body) : body;
  const answer = await send(path, { method, headers, body: content });
  return answer.status === 204 ? null : answer.json();
}

/** A word that nobody else has, for Idempotency-Key. crypto.randomUUID is for HTTPS and localhost only. */
export const unique = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** A URL of what a path answers with, for <img> and downloads, which cannot send a key. */
export async function urlOf(path) {
  if (!key) return path;
  return URL.createObjectURL(await (await send(path, {})).blob());
}

/** Server-sent events of `path`: `tell(event)` for each, for ever, behind Last-Event-ID where the line breaks.
 *  EventSource cannot send a key. Returns a function that ends it. */
export function listen(path, after, tell, told = () => {}) {
  const controller = new AbortController();
  let last = after;
  (async () => {
    let wait = 500;
    while (!controller.signal.aborted) {
      try {
        const headers = withKey({ Accept: "text/event-stream" });
        if (last !== null) headers["Last-Event-ID"] = String(last);
        const answer = await fetch(path, { headers, signal: controller.signal, cache: "no-store" });
        if (answer.status === 204) return;
        if (!answer.ok) throw new Error(String(answer.status));
        told(true);
        wait = 500;
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = "";
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          text += value.replaceAll("\r\n", "\n");
          let end;
          while ((end = text.indexOf("\n\n")) >= 0) {
            const fields = Object.fromEntries(
              text.slice(0, end).split("\n").filter((line) => line && !line.startsWith(":")).map((line) => {
                const at = line.indexOf(":");
                return [line.slice(0, at), line.slice(at + 1).trimStart()];
              }),
            );
            text = text.slice(end + 2);
            if (fields.id) last = fields.id;
            if (fields.data) tell(JSON.parse(fields.data));
          }
        }
      } catch (error) {
        if (controller.signal.aborted) return;
      }
      told(false);
      await new Promise((resolve) => setTimeout(resolve, wait));
      wait = Math.min(5000, 2 * wait);
    }
  })();
  return () => controller.abort();
}
