// How a photograph comes: chosen, dropped, pasted, or an example.

import { $, call, fetched, make } from "/talk.js";
import { during, leave, restart } from "/photograph/asking.js";
import { clearPanels } from "/photograph/panels.js";
import { painted, state } from "/photograph/state.js";
import { fail, say } from "/photograph/status.js";

const take = (send, note = "") => during(async () => {
  const signal = leave();
  try {
    state.note = note;
    $("error").hidden = true;
    const sent = await send(signal);
    say("Fetching the photograph", true);
    const picture = await call(`/api/photograph/${sent.photograph}`, { signal });
    if (state.photograph) URL.revokeObjectURL(state.photograph.url);
    state.photograph = { ...sent, send, url: URL.createObjectURL(await picture.blob()) };
    Object.assign(state, { label: null, strokes: {}, history: {}, undone: {} });
    document.body.classList.remove("empty");
    document.body.style.setProperty("--ratio", sent.width / sent.height);
    $("welcome").hidden = true;
    $("result").hidden = false;
    $("choose").textContent = "Another photograph";
    $("name").textContent = `${sent.name} · ${sent.width} × ${sent.height}`;
    document.title = `${sent.name} · gradcut`;
    clearPanels();
    restart();
  } catch (error) {
    if (error.name === "AbortError") return;
    fail(error);
    if (state.photograph) $("error").textContent += `${/[.!?]$/.test(error.message) ? "" : "."} Below is still ${state.photograph.name}.`;
  }
});

function upload(files) {
  const [file] = files;
  if (!file) return;
  const others = files.length - 1;
  take(async (signal) => {
    if (!state.page) throw new Error("The page is not ready yet; try again in a moment.");
    if (file.size > state.page.megabytes * 1e6) {
      throw new Error(`${file.name} is ${(file.size / 1e6).toFixed(1)} MB; the limit is ${state.page.megabytes} MB. Choose a smaller file.`);
    }
    say("Sending the photograph", true);
    return (await call("/api/photograph", { method: "POST", body: file, signal, headers: { "x-name": encodeURIComponent(file.name) } })).json();
  }, others ? `One photograph at a time: this is ${file.name}; ${others} more ${others === 1 ? "was" : "were"} left out.` : "");
}

export function showExamples() {
  $("examples").replaceChildren(...state.page.examples.map(({ name, title, line }) => {
    const picture = make("img", { src: fetched(`/api/example/${name}`), alt: "" });
    const button = make("button", { type: "button", className: "example" }, picture, make("b", {}, title), make("span", {}, line));
    button.dataset.example = name;
    button.addEventListener("click", () => take(async (signal) => {
      say("Fetching the example", true);
      return (await call(`/api/example/${name}`, { method: "POST", signal })).json();
    }));
    return button;
  }));
}

for (const id of ["choose", "choose-first"]) $(id).addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { upload([...$("file").files]); $("file").value = ""; });
for (const type of ["dragover", "drop", "dragleave"]) {
  addEventListener(type, (event) => {
    event.preventDefault();
    for (const id of ["drop", "panels"]) $(id).classList.toggle("over", type === "dragover");
    if (type !== "drop") return;
    if (event.dataTransfer.files.length) upload([...event.dataTransfer.files]);
    else fail(new Error("What was dropped is no file; save the photograph first, and drop it from its folder."));
  });
}
addEventListener("paste", (event) => upload([...event.clipboardData.files]));
addEventListener("beforeunload", (event) => { if (painted()) event.preventDefault(); });
