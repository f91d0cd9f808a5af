// The page to try the server API. All that it knows of the methods is in the description, openapi.json.

const THEME = "freshet.theme"; // our other pages and theme.js read it, too
const JSON_TYPE = "application/json";
const WAIT = 30_000; // milliseconds for an answer
const TOKEN = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|(-?\d[\d.eE+-]*)/g;

const element = (id) => document.getElementById(id);

/** The description, or what to do when there is none. */
async function load() {
  try {
    const response = await fetch("openapi.json", { signal: AbortSignal.timeout(WAIT) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    return await response.json();
  } catch (error) {
    element("missing").textContent = `The description of the API did not come (${error.message}). Reload when the server is up.`;
    element("missing").hidden = false;
    throw error;
  }
}

/** `text` with what stands between backticks as code. */
function prose(text) {
  const parts = text.split("`").map((part, index) => {
    if (index % 2 === 0) return part;
    const code = document.createElement("code");
    code.textContent = part;
    return code;
  });
  const fragment = new DocumentFragment();
  fragment.append(...parts);
  return fragment;
}

/** JSON in colours; whatever it holds, it is only ever text. */
function coloured(json) {
  const fragment = new DocumentFragment();
  let end = 0;
  for (const match of json.matchAll(TOKEN)) {
    const [token, text, colon, word] = match;
    const span = document.createElement("span");
    span.className = text ? (colon ? "code-call" : "code-string") : word ? "code-keyword" : "code-number";
    span.textContent = text ?? token;
    fragment.append(json.slice(end, match.index), span, colon ?? "");
    end = match.index + token.length;
  }
  fragment.append(json.slice(end));
  return fragment;
}

const description = await load();
const keyless = description.security.length === 0;
const methods = new Map(Object.entries(description.paths).map(([path, { post }]) => [path.slice(1), post]));
const drafts = new Map(); // what was typed, by method
let shown = "";
let asked = 0; // counts requests, so that a late answer does not show under another method

const resolve = (schema) => (schema.$ref ? description.components.schemas[schema.$ref.split("/").pop()] : schema);
const example = (name) => JSON.stringify(methods.get(name).requestBody.content[JSON_TYPE].example, null, 2);

/** A schema in a few words. */
function kind(schema) {
  if (schema.anyOf) return kind(schema.anyOf.find((each) => each.type !== "null"));
  if (schema.$ref) return `{ ${Object.keys(resolve(schema).properties).join(", ")} }`;
  if (schema.type === "array") return `list of ${kind(schema.items)}`;
  if (schema.type === "object" && schema.additionalProperties) return `object of ${kind(schema.additionalProperties)}`;
  return schema.type === "string" ? "text" : (schema.type ?? "any JSON");
}

/** A name that may be broken behind its underscores. */
const breakable = (name) => name.split(/(?<=_)/).flatMap((part) => [document.createElement("wbr"), part]);

/** The fields of a schema as a table. `given`: a caller gives them, so that some are required. */
function table(schema, given) {
  const { properties, required = [] } = resolve(schema);
  if (!Object.keys(properties).length) {
    const none = document.createElement("p");
    none.className = "none";
    none.append(prose("No fields: `{}`."));
    return none;
  }
  const made = document.createElement("table");
  made.createTHead().innerHTML = "<tr><th scope=col>Field</th><th scope=col>Type</th><th scope=col>Meaning</th></tr>";
  const body = made.createTBody();
  const rank = ([name]) => (given && !required.includes(name) ? 1 : 0);
  for (const [name, field] of Object.entries(properties).sort((a, b) => rank(a) - rank(b))) {
    const row = body.insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    head.append(...breakable(name));
    if (given && required.includes(name)) {
      const badge = document.createElement("span");
      badge.className = "badge";
      badge.textContent = "required";
      head.append(badge);
    }
    row.append(head);
    row.insertCell().append(kind(field));
    row.cells[1].className = "kind";
    row.insertCell().append(prose(field.description ?? ""));
  }
  return made;
}

/** Show the method that the address names. */
function show() {
  const wanted = location.hash.slice(1);
  if (wanted === "main") return; // the link that skips to the content
  const name = methods.has(wanted) ? wanted : methods.keys().next().value;
  if (name === shown) return;
  shown = name;
  const { summary, requestBody, responses } = methods.get(name);
  for (const link of element("methods").children) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  const verb = document.createElement("small");
  verb.textContent = "POST";
  element("method").replaceChildren(verb, ` ${description.servers[0].url}/${name}`);
  element("summary").replaceChildren(prose(summary));
  element("body").value = drafts.get(name) ?? example(name);
  const answer = responses["200"].content[JSON_TYPE].schema;
  const result = answer.oneOf ? answer.oneOf[0].properties.result : answer;
  element("result-title").textContent = `Fields of the ${answer.oneOf ? "result" : "answer"}`;
  element("request-fields").replaceChildren(table(requestBody.content[JSON_TYPE].schema, true));
  element("result-fields").replaceChildren(table(result, false));
  wait("Send the request to see the answer of this server.");
  edited();
}

/** What goes with the text of the request: the same for curl, and whether it is JSON. */
function edited() {
  const text = element("body").value;
  const url = new URL(shown, location.href.split("#")[0]).href;
  const key = keyless ? "" : ' \\\n  -H "X-API-Key: $FRESHET_API_KEY"';
  const line = text.trim().replace(/\s*\n\s*/g, " "); // within a text of JSON there is no line break
  element("curl").textContent = `curl ${url}${key} \\\n  -d '${line.replaceAll("'", "'\\''")}'`;
  let wrong = "";
  try {
    JSON.parse(text);
  } catch (error) {
    wrong = `Not JSON: ${error.message}`;
  }
  element("body-note").textContent = wrong || "Ctrl+Enter sends it.";
  element("body-note").classList.toggle("wrong", Boolean(wrong));
  element("body").setAttribute("aria-invalid", String(Boolean(wrong)));
}

/** No answer yet; `text` says what to do. */
function wait(text) {
  asked += 1;
  element("send").disabled = false;
  element("verdict").textContent = "";
  element("took").textContent = "";
  element("answer").className = "waiting";
  element("answer").textContent = text;
}

function conclude(outcome, verdict, answer, took) {
  element("send").disabled = false;
  element("verdict").dataset.outcome = outcome;
  element("verdict").textContent = verdict;
  element("answer").className = "";
  element("answer").replaceChildren(answer);
  element("took").textContent = took;
}

async function send() {
  wait("Waiting for the answer.");
  const mine = asked;
  element("send").disabled = true;
  const key = element("key").value.trim();
  const headers = { "Content-Type": JSON_TYPE, ...(key && { "X-API-Key": key }) };
  const began = performance.now();
  try {
    const body = element("body").value;
    const response = await fetch(shown, { method: "POST", headers, body, signal: AbortSignal.timeout(WAIT) });
    const text = await response.text();
    const took = `Status ${response.status}, ${(performance.now() - began).toFixed(1)} ms, ${text.length} characters`;
    if (mine !== asked) return;
    const { error } = JSON.parse(text);
    const verdict = error ? (response.ok ? `Not done: error ${error.code}` : `Refused: status ${response.status}`) : "Done";
    conclude(error ? "failed" : "done", verdict, coloured(JSON.stringify(JSON.parse(text), null, 2)), took);
    if (response.status === 401) element("key").focus();
  } catch (error) {
    if (mine === asked) conclude("failed", "No answer", `Is the server up, and the key typed as it is? ${error.message}`, "");
  }
}

for (const name of methods.keys()) {
  const link = document.createElement("a");
  link.href = `#${name}`;
  link.textContent = name;
  element("methods").append(link);
}
element("key-row").hidden = keyless;
element("open-note").hidden = !keyless;
element("copy").hidden = !navigator.clipboard; // browsers have it for HTTPS and one's own machine
element("explorer").hidden = false;
addEventListener("hashchange", show);
element("body").addEventListener("input", () => {
  drafts.set(shown, element("body").value);
  edited();
});
element("body").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) element("form").requestSubmit();
});
element("reset").addEventListener("click", () => {
  drafts.delete(shown);
  element("body").value = example(shown);
  edited();
});
element("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(element("curl").textContent);
  element("copy").textContent = "Copied";
  setTimeout(() => (element("copy").textContent = "Copy"), 2000);
});
element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!element("send").disabled) send();
});
element("theme").value = localStorage.getItem(THEME) ?? "auto";
element("theme").addEventListener("change", ({ target }) => {
  localStorage.setItem(THEME, target.value);
  if (target.value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = target.value;
});
show();
