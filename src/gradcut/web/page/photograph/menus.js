// Menus, sliders and downloads.

import { $, call, make } from "/talk.js";
import { again, request, restart, update } from "/photograph/asking.js";
import { showBrush } from "/photograph/painting.js";
import { classifier, recipe, state } from "/photograph/state.js";
import { fail, say } from "/photograph/status.js";

const seedUnit = () => ({ percentile: "th", "of the maximum": "max" })[recipe($("recipe").value)?.seeds?.unit] ?? "";

// A slider's value, in words beside it.
export function tell(slider) {
  const unit = { high: seedUnit(), low: seedUnit(), brush: "%", opacity: "whole" }[slider.id] ?? "";
  const value = Number(slider.value);
  const words = { max: `${Math.round(100 * value)} %`, "%": `${value.toFixed(1)} %`, th: `${value}th`, whole: `${value} %`, "": value.toFixed(2) }[unit];
  document.querySelector(`output[for=${slider.id}]`).textContent = words;
}

function showRecipe() {
  const { seeds, summary } = recipe($("recipe").value);
  $("recipe-line").textContent = summary;
  $("compare-line").textContent = $("compare").value ? recipe($("compare").value).summary : "";
  for (const [id, own] of [["high", seeds?.foreground], ["low", seeds?.background]]) {
    const slider = $(id);
    slider.disabled = !seeds;
    Object.assign(slider, { min: 0, max: seeds?.top ?? 1, step: (seeds?.top ?? 1) / 100 });
    slider.value = own ?? 0;
    delete slider.dataset.moved;
    tell(slider);
  }
  $("seed-line").textContent = seeds ? `Seeds are surely object or surely background; the cut decides the rest. ${{ percentile: "By percentiles of the saliency:", "of the maximum": "By shares of the saliency's maximum:" }[seeds.unit]}` : "This recipe has no seeds that could be moved.";
}

function showClassifier() {
  const { summary, threshold, words } = classifier();
  const labels = state.words[$("classifier").value] ?? classifier().labels;
  $("classifier-line").textContent = summary;
  $("words-form").hidden = !words;
  $("words").value = labels.join(", ");
  $("threshold").value = threshold;
  delete $("threshold").dataset.moved;
  tell($("threshold"));
  $("labels").replaceChildren(...labels.map((label) => make("option", { value: label })));
}

async function download(kind) {
  try {
    const answer = await again(() => call(`/api/download/${kind}`, { method: "POST", body: request($("recipe").value, true) }));
    const name = /filename="([^"]+)"/.exec(answer.headers.get("content-disposition"))[1];
    const url = URL.createObjectURL(await answer.blob());
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    say(`${name} is on its way.`);
  } catch (error) {
    fail(error);
  }
}

export function showMenus() {
  const option = ({ name }) => make("option", { value: name }, name);
  $("recipe").append(...state.page.recipes.map(option));
  $("recipe").value = state.page.recipe;
  $("compare").append(make("option", { value: "" }, "nothing"), ...state.page.recipes.map(option));
  $("classifier").append(...state.page.classifiers.map(option));
  $("downloads").append(...state.page.downloads.map(({ kind, name }) => {
    const button = make("button", { type: "button", id: `download-${kind}` }, name);
    button.addEventListener("click", () => download(kind));
    return button;
  }));
  $("threshold").min = state.page.floor;
  for (const id of ["brush", "opacity"]) tell($(id));
  showRecipe();
  showClassifier();
}

for (const id of ["recipe", "compare"]) $(id).addEventListener("change", () => { showRecipe(); restart(); });
$("classifier").addEventListener("change", () => { showClassifier(); state.label = null; restart(); });
$("words-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const words = $("words").value.split(",").map((word) => word.trim()).filter(Boolean);
  if (!words.length) return;
  state.words[$("classifier").value] = words;
  state.label = null;
  showClassifier();
  restart();
});
$("reset").addEventListener("click", () => { showRecipe(); showClassifier(); update(); });
$("threshold").addEventListener("input", () => { $("threshold").dataset.moved = "yes"; tell($("threshold")); update(); });
for (const [id, other] of [["high", "low"], ["low", "high"]]) {
  $(id).addEventListener("input", () => {
    // Background below more than object above would leave nothing between: one slider pushes the other.
    if (Number($("low").value) > Number($("high").value)) $(other).value = $(id).value;
    $("high").dataset.moved = "yes";
    tell($(id));
    tell($(other));
    update();
  });
}
$("brush").addEventListener("input", () => { tell($("brush")); showBrush(); });
$("opacity").addEventListener("input", () => { tell($("opacity")); $("panels").style.setProperty("--opacity", Number($("opacity").value) / 100); });
