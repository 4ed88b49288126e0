// A new job: a form made from the API's own schema, examples to start from, checked by a dry run at every change.

import { Copy, Waiting, Words, Wrong, html, say, useEffect, useMemo, useRef, useState, yaml } from "/dashboard/parts.js";
import { Problem, call, get, unique } from "/dashboard/api.js";

const SECTIONS = ["dataset", "model", "optimizer", "scheduler", "training", "early_stopping", "init_from"];

/** The part of the OpenAPI document behind a schema's $ref. */
const target = (schema, parts) => (schema.$ref ? parts[schema.$ref.split("/").pop()] : schema);

/** A schema without null: `[schema, nullable]`. */
function bare(schema, parts) {
  const found = target(schema, parts);
  if (!found.anyOf) return [found, false];
  const others = found.anyOf.filter((each) => each.type !== "null");
  const inner = others.length === 1 ? target(others[0], parts) : { ...found, anyOf: others };
  return [{ ...inner, description: found.description ?? inner.description, default: found.default }, others.length < found.anyOf.length];
}

function set(value, path, part) {
  if (!path.length) return part;
  const [name, ...rest] = path;
  const next = { ...(value ?? {}) };
  const inner = set(next[name], rest, part);
  if (inner === undefined) delete next[name];
  else next[name] = inner;
  return next;
}

const at = (value, path) => path.reduce((found, name) => found?.[name], value);

function Leaf({ schema, nullable, path, spec, resolved, change, wrong }) {
  const id = `field-${path.join("-")}`, given = at(spec, path), standard = at(resolved, path) ?? schema.default;
  const type = schema.enum ? "enum" : schema.const !== undefined ? "const" : schema.type ?? "text";
  if (type === "const") return null;
  const put = (text) => {
    if (text === "") return change(path, undefined);
    if (nullable && text === "null") return change(path, null);
    if (type === "integer" || type === "number") return change(path, Number.isNaN(Number(text)) ? text : Number(text));
    if (type === "array") {
      const items = text.split(",").map((each) => each.trim()).filter(Boolean);
      return change(path, items.map((each) => (schema.items?.type === "string" || Number.isNaN(Number(each)) ? each : Number(each))));
    }
    return change(path, text);
  };
  const words = (value) => (value === null ? "null" : Array.isArray(value) ? value.join(", ") : value === undefined ? "" : String(value));
  let control;
  if (type === "boolean") {
    control = html`<input id=${id} type="checkbox" checked=${given ?? standard ?? false} onChange=${(event) => change(path, event.target.checked)} aria-describedby=${`${id}-help`} />`;
  } else if (type === "enum") {
    control = html`<select id=${id} value=${given ?? ""} onChange=${(event) => put(event.target.value)} aria-describedby=${`${id}-help`}>
      <option value="">${`${words(standard)} (default)`}</option>${schema.enum.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select>`;
  } else {
    control = html`<input id=${id} list=${path.join() === "dataset,name" ? "known-datasets" : null} value=${words(given)} placeholder=${words(standard)} aria-invalid=${wrong ? "true" : null} aria-describedby=${`${id}-help`}
      inputmode=${type === "integer" ? "numeric" : type === "number" ? "decimal" : null} onInput=${(event) => put(event.target.value)} />`;
  }
  return html`<div class=${`field ${wrong ? "invalid" : ""}`}>
    <label for=${id}>${path.at(-1)}</label>${control}
    <small id=${`${id}-help`}>${wrong ? html`<strong class="error">${wrong}</strong> ` : ""}<${Words} text=${schema.description} />${nullable ? " Type null to switch it off." : ""}</small></div>`;
}

function Fields({ schema, parts, path, wrongs, ...rest }) {
  return Object.entries(schema.properties ?? {}).filter(([, each]) => each.const === undefined).map(([name, each]) => html`
    <${Field} key=${name} schema=${each} parts=${parts} path=${[...path, name]} wrongs=${wrongs} ...${rest} />`);
}

function Field({ schema, parts, path, wrongs, spec, resolved, change }) {
  const [inner, nullable] = bare(schema, parts);
  const wrong = wrongs[path.join("/")];
  const rest = { spec, resolved, change, wrongs, parts };
  const choices = inner.oneOf ?? (inner.anyOf?.some((each) => each.$ref) ? inner.anyOf : null);
  if (choices || inner.properties) {
    const given = at(spec, path), now = given === undefined ? at(resolved, path) : given;
    const off = now === null || (now === undefined && nullable);
    const kinds = choices?.map((each) => target(each, parts)) ?? [];
    const kindOf = (each) => each.properties.kind.const ?? each.properties.kind.enum?.[0];
    const chosen = choices ? kinds.find((each) => kindOf(each) === (now?.kind ?? inner.default?.kind)) ?? kinds[0] : inner;
    return html`<fieldset class=${off ? "off" : ""}><legend>${path.at(-1)}
        ${nullable && html`<label class="check"><input type="checkbox" checked=${!off} onChange=${() => change(path, off ? {} : null)} /> on</label>`}</legend>
      ${wrong && html`<p class="error">${wrong}</p>`}
      ${!off && choices && html`<div class="field"><label for=${`field-${path.join("-")}-kind`}>kind</label>
        <select id=${`field-${path.join("-")}-kind`} value=${kindOf(chosen)} onChange=${(event) => change(path, { kind: event.target.value })}>
          ${kinds.map((each) => html`<option key=${kindOf(each)} value=${kindOf(each)}>${kindOf(each)}</option>`)}</select><small><${Words} text=${chosen.description} /></small></div>`}
      ${!off && html`<${Fields} schema=${chosen} path=${path} ...${rest} />`}</fieldset>`;
  }
  return html`<${Leaf} schema=${inner} nullable=${nullable} path=${path} spec=${spec} resolved=${resolved} change=${change} wrong=${wrong} />`;
}

const pointed = (problem) => Object.fromEntries((problem?.errors ?? []).map((each) => [(each.pointer ?? "").replace(/^#\/?/, ""), each.message]));

export default function NewJob({ query }) {
  const [schema, setSchema] = useState(null);
  const [examples, setExamples] = useState([]);
  const [datasets, setDatasets] = useState([]);
  const [spec, setSpec] = useState({});
  const [text, setText] = useState(null); // YAML, while that is what is edited
  const [resolved, setResolved] = useState(null); // as the API last answered
  const [problem, setProblem] = useState(null);
  const [sending, setSending] = useState(false);
  const turn = useRef(0);

  useEffect(() => {
    // Both before the form is there: what somebody types must not be overwritten by a spec that comes late.
    const from = query.get("from");
    Promise.all([get("/openapi.json"), from && get(`/jobs/${from}`)]).then(([found, job]) => {
      if (job) setSpec(job.spec);
      setSchema(found.components.schemas);
    }, setProblem);
    get("/examples").then((found) => setExamples(found.data), () => {});
    get("/datasets").then((found) => setDatasets(found.data.map((each) => each.name)), () => {});
  }, []);
  useEffect(() => {
    const mine = ++turn.current;
    const timer = setTimeout(async () => {
      try {
        const found = text === null ? await call("POST", "/jobs?dry_run=true", spec) : await call("POST", "/jobs?dry_run=true", text, "application/yaml");
        if (mine === turn.current) { setResolved(found); setProblem(null); }
      } catch (wrong) {
        if (mine === turn.current) setProblem(wrong);
      }
    }, 200);
    return () => clearTimeout(timer);
  }, [spec, text]);

  const change = (path, part) => setSpec((before) => set(before, path, part));
  const wrongs = useMemo(() => pointed(problem), [problem]);
  const start = (name) => {
    const found = examples.find((each) => each.name === name);
    if (!found) { setSpec({}); setText(null); return; }
    call("POST", "/jobs?dry_run=true", found.text, "application/yaml").then(
      (whole) => { setSpec(whole); setText(null); },
      () => { setText(found.text); say("This example needs the id of one of your jobs; put it in.", false); },
    );
  };
  const submit = async (event) => {
    event.preventDefault();
    setSending(true);
    try {
      const once = { "Idempotency-Key": unique() };
      const job = text === null ? await call("POST", "/jobs", spec, "application/json", once) : await call("POST", "/jobs", text, "application/yaml", once);
      location.hash = `#/jobs/${job.id}`;
    } catch (wrong) {
      if (!(wrong instanceof Problem)) throw wrong;
      setProblem(wrong);
      say(wrong.message, true);
    }
    setSending(false);
  };
  const toForm = () => { setSpec(resolved); setText(null); };
  const root = schema?.JobSpec;
  const others = root ? { ...root, properties: Object.fromEntries(Object.entries(root.properties).filter(([name]) => !SECTIONS.includes(name))) } : null;
  const rest = { spec, resolved, change, wrongs, parts: schema };
  return html`<div class="head"><h1>New job</h1>
      <label>Start from <select onChange=${(event) => start(event.target.value)}><option value="">Exercise 1, the default</option>
        ${examples.map((each) => html`<option key=${each.name} value=${each.name} title=${each.summary}>${each.name}</option>`)}</select></label>
      ${text === null
        ? html`<button type="button" onClick=${() => setText(yaml(spec) || "# {} is Exercise 1\n")}>Edit as YAML</button>`
        : html`<button type="button" disabled=${!!problem} onClick=${toForm}>Edit as a form</button>`}</div>
    <datalist id="known-datasets">${datasets.map((each) => html`<option key=${each} value=${each} />`)}</datalist>
    <form class="new" onSubmit=${submit}>
      <div>${text !== null
        ? html`<label>Spec, as YAML<textarea class="yaml" spellcheck="false" value=${text} onInput=${(event) => setText(event.target.value)}></textarea></label>`
        : root && html`${SECTIONS.map((name) => html`<${Field} key=${name} schema=${root.properties[name]} path=${[name]} ...${rest} />`)}
          <fieldset><legend>job</legend><${Fields} schema=${others} path=${[]} ...${rest} /></fieldset>`}</div>
      <aside>
        <div role="status">${problem ? html`<${Wrong} problem=${problem} />` : resolved ? html`<p class="good">The spec is valid.</p>` : html`<${Waiting} />`}</div>
        <p><button class="primary" disabled=${sending || !!problem || !resolved}>Submit</button> ${resolved && html`<${Copy} text=${() => yaml(resolved)}>Copy as YAML</${Copy}>`}</p>
        ${resolved && html`<details open><summary>The whole spec, defaults filled in</summary><pre tabindex="0" aria-label="The whole spec">${yaml(resolved)}</pre></details>`}
      </aside>
    </form>`;
}
