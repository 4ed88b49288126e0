// The frame: navigation, routes, the key. A page's module is loaded when it is first opened.

import { Messages, Wrong, html, render, useEffect, useLayoutEffect, useState } from "/dashboard/parts.js";
import { get, hasKey, useKey, whenKeyIsNeeded } from "/dashboard/api.js";

const PAGES = {
  jobs: ["Jobs", "jobs"],
  new: ["New job", "new"],
  compare: ["Compare", "compare"],
  try: ["Try it", "try"],
  datasets: ["Data sets", "datasets"],
  workers: ["Workers", "workers"],
  keys: ["Keys", "keys"],
};

function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [page = "jobs", id] = path.split("/");
  const known = page in PAGES ? page : "jobs";
  return { page: known, id, module: known === "jobs" && id ? "job" : known, query: new URLSearchParams(query) };
}

function Navigation({ page }) {
  return html`<header class="top">
    <a class="brand" href="#/jobs"><img src="/dashboard/icon.svg" alt="" width="24" height="24" /> Whistlestop</a>
    <nav aria-label="Pages">${Object.entries(PAGES).map(([name, [words]]) => html`
      <a key=${name} href=${`#/${name}`} aria-current=${page === name ? "page" : null}>${words}</a>`)}
      <a href="/docs">API</a>
    </nav>
  </header>`;
}

function KeyDialog({ done }) {
  const [wrong, setWrong] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    useKey(form.get("key").trim(), form.get("keep") === "on");
    try {
      await get("/workers");
      done();
    } catch (problem) {
      useKey("", false);
      setWrong(problem);
    }
  };
  return html`<main id="main" tabindex="-1" class="narrow">
    <h1>A key is needed</h1>
    <p>This service asks for an API key. <code>whistlestop keys create NAME</code> on its machine makes one.</p>
    <${Wrong} problem=${wrong} />
    <form onSubmit=${submit}>
      <label>API key <input name="key" type="password" autocomplete="current-password" required autofocus /></label>
      <label class="check"><input name="keep" type="checkbox" /> keep it in this browser</label>
      <button class="primary">Use it</button>
    </form>
  </main>`;
}

function App() {
  const [where, setWhere] = useState(place);
  const [page, setPage] = useState(null);
  const [locked, setLocked] = useState(false);
  const [fault, setFault] = useState(null);
  useEffect(() => {
    const moved = () => setWhere(place());
    addEventListener("hashchange", moved);
    whenKeyIsNeeded(() => setLocked(true));
    return () => removeEventListener("hashchange", moved);
  }, []);
  useLayoutEffect(() => {
    let current = true;
    import(`/dashboard/pages/${where.module}.js`).then(
      (module) => current && (setFault(null), setPage({ Page: module.default, module: where.module })),
      (error) => current && setFault(error),
    );
    document.title = `${PAGES[where.page][0]} · Whistlestop`;
    return () => { current = false; };
  }, [where.module]);
  const shown = page && page.module === where.module;
  return html`<${Navigation} page=${where.page} />
    ${locked
      ? html`<${KeyDialog} done=${() => setLocked(false)} />`
      : html`<main id="main" tabindex="-1"><${Wrong} problem=${fault} />
          ${shown && html`<${page.Page} key=${where.id ?? ""} id=${where.id} query=${where.query} />`}</main>`}
    <footer>${hasKey() && !locked && html`<button class="plain" type="button" onClick=${() => { useKey("", false); location.reload(); }}>Forget the key</button>`}</footer>
    <${Messages} />`;
}

render(html`<${App} />`, document.getElementById("app"));
