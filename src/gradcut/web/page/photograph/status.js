// One line that says what is happening, and one that says what went wrong.

import { $, make } from "/talk.js";

let since = 0, step = "", ticking = 0;

export function say(text, busy = false) {
  if (!busy || text !== step) since = performance.now();
  step = text;
  // What counts the seconds is not read aloud.
  const elapsed = make("span");
  elapsed.setAttribute("aria-hidden", "true");
  const tell = () => {
    const seconds = Math.floor((performance.now() - since) / 1000);
    elapsed.textContent = busy && seconds ? ` ${seconds} s` : "";
  };
  $("status").replaceChildren(busy ? `${text} …` : text, elapsed);
  $("status").classList.toggle("busy", busy);
  $("cancel").hidden = !busy;
  clearInterval(ticking);
  if (busy) ticking = setInterval(tell, 1000);
  tell();
}

export function fail(error) {
  say("");
  $("error").textContent = error.message || String(error);
  $("error").hidden = false;
}

addEventListener("error", (event) => fail(new Error(`The page failed: ${event.message}`)));
addEventListener("unhandledrejection", (event) => fail(new Error(`The page failed: ${event.reason?.message ?? event.reason}`)));
