// Talking to the server. Each tab has a key of its own, and what it sends is kept for that key alone.

export const $ = (id) => document.getElementById(id);

export const tab = Array.from(crypto.getRandomValues(new Uint8Array(24)), (byte) => byte.toString(16).padStart(2, "0")).join("");

// Where others can reach the server, its address has a token in it.
const token = new URLSearchParams(location.search).get("token") ?? "";

// An address that a picture is fetched from, which can send no header.
export const fetched = (path) => (token ? `${path}?token=${encodeURIComponent(token)}` : path);

export async function call(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { "x-tab": tab, "x-token": token, ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("The server does not answer; is 'gradcut serve' still running?"), { gone: true });
  }
  if (answer.ok) return answer;
  let message = `The server answers with status ${answer.status}.`;
  try { message = (await answer.json()).message; } catch { /* no sentence of its own */ }
  throw Object.assign(new Error(message), { status: answer.status });
}

// A run's photographs, by the key that the page knows them under: {name, key}, the key being the server's now.
const opened = new Map();
let unsaved = 0;

const post = async (path, body, signal) => (await call(path, { method: "POST", body: JSON.stringify(body), signal })).json();

// A JSON object there and one back. A server that is gone is waited for: what was to be saved still is.
export async function send(path, body, signal) {
  const saves = path === "/api/run/save";
  unsaved += saves;
  try {
    for (let before = null; ; ) {
      try {
        const answer = await remembered(path, body, signal);
        if (before !== null && $("status").textContent === AWAY) $("status").textContent = before;
        return answer;
      } catch (error) {
        if (!error.gone) throw error;
        before ??= $("status").textContent;
        $("status").textContent = AWAY;
        await new Promise((done) => setTimeout(done, 1000));
        signal?.throwIfAborted();
      }
    }
  } finally {
    unsaved -= saves;
  }
}

const AWAY = "The server does not answer. What you do is kept here, and saved when it is back.";

// A server that was started again knows no photograph: it is opened there once more.
async function remembered(path, body, signal) {
  const known = opened.get(body.photograph);
  try {
    const answer = await post(path, known ? { ...body, photograph: known.key } : body, signal);
    if (path === "/api/run/open") opened.set(answer.photograph, { name: body.name, key: answer.photograph });
    return answer;
  } catch (error) {
    if (error.status !== 404 || !known) throw error;
    const now = await post("/api/run/open", { name: known.name }, signal);
    known.key = now.photograph;
    // It may have saved this, and gone before it could say so.
    if (path === "/api/run/save" && now.revision === body.revision + 1 && same(now, body)) return { state: now.state, revision: now.revision };
    return post(path, { ...body, photograph: known.key }, signal);
  }
}

const sorted = (_, value) => (value && typeof value === "object" && !Array.isArray(value) ? Object.fromEntries(Object.entries(value).sort()) : value);
const same = (now, { photograph, revision, ...asked }) => Object.entries(asked).every(([key, value]) => JSON.stringify(now[key], sorted) === JSON.stringify(value, sorted));

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
addEventListener("pagehide", () => fetch("/api/photographs", { method: "DELETE", headers: { "x-tab": tab, "x-token": token }, keepalive: true }).catch(() => {}));
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
