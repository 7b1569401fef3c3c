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
    throw new Error("The server does not answer; is 'gradcut serve' still running?");
  }
  if (answer.ok) return answer;
  let message = `The server answers with status ${answer.status}.`;
  try { message = (await answer.json()).message; } catch { /* no sentence of its own */ }
  throw Object.assign(new Error(message), { status: answer.status });
}

// A JSON object there and one back.
export async function send(path, body, signal) {
  return (await call(path, { method: "POST", body: JSON.stringify(body), signal })).json();
}

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

addEventListener("pagehide", () => fetch("/api/photographs", { method: "DELETE", headers: { "x-tab": tab, "x-token": token }, keepalive: true }).catch(() => {}));
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
