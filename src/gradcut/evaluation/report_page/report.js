"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const one = (selector) => document.querySelector(selector);

// Light or dark: as the reader's system has it, until the button says otherwise.
one("#theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

// Every class in every photograph.
const pairs = JSON.parse(one("#pair-data").textContent);
const cell = (tag, text, value) => {
  const made = document.createElement(tag);
  made.textContent = text;
  if (value !== undefined) { made.className = "n"; made.dataset.v = value; }
  return made;
};
const pairTable = one("#pair-table");
const heading = document.createElement("tr");
for (const name of ["photograph", "class", "instances", "largest", ...pairs.recipes]) {
  const made = cell("th", name);
  made.dataset.sort = "";
  heading.append(made);
}
pairTable.tHead.append(heading);
for (const [photograph, label, instances, largest, ...ious] of pairs.rows) {
  const row = document.createElement("tr");
  row.dataset.label = label;
  row.dataset.name = photograph.toLowerCase();
  row.append(cell("th", photograph), cell("td", label), cell("td", instances, instances),
    cell("td", (100 * largest).toFixed(1) + " %", largest),
    ...ious.map((iou) => iou === null ? cell("td", "–", "") : cell("td", iou.toFixed(3), iou)));
  pairTable.tBodies[0].append(row);
}

// Sorting: a second click turns the order round; numbers begin with the largest, words with A; blanks stay last.
for (const table of all("table.sort")) {
  table.tHead.addEventListener("click", (event) => {
    const th = event.target.closest("th[data-sort]");
    if (!th) return;
    const column = [...th.parentNode.children].indexOf(th);
    const rows = [...table.tBodies[0].rows];
    const numeric = rows.some((row) => row.cells[column].dataset.v !== undefined);
    const before = th.getAttribute("aria-sort");
    const direction = before ? (before === "descending" ? "ascending" : "descending") : numeric ? "descending" : "ascending";
    all("th", table.tHead).forEach((other) => other.removeAttribute("aria-sort"));
    th.setAttribute("aria-sort", direction);
    const turn = direction === "descending" ? -1 : 1;
    const key = (row) => numeric ? row.cells[column].dataset.v : row.cells[column].textContent;
    rows.sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      return turn * (numeric ? x - y : x.localeCompare(y, undefined, { numeric: true }));
    });
    table.tBodies[0].append(...rows);
  });
}

// Filters.
const cards = all("#cards article");
const [galleryLabel, pairLabel] = all("select.label");
const options = (select, labels) => [...new Set(labels)].sort().forEach((label) => select.add(new Option(label)));
options(galleryLabel, cards.map((card) => card.dataset.label));
options(pairLabel, pairs.rows.map((row) => row[1]));
const order = one("#order");
order.add(new Option("best, median, worst", ""));
pairs.recipes.forEach((name, n) => {
  if (!cards.some((card) => card.dataset["iou-" + n] !== undefined || card.getAttribute("data-iou-" + n) > 0)) return;
  order.add(new Option(name + ", high to low", n + " -1"));
  order.add(new Option(name + ", low to high", n + " 1"));
});
const showCards = () => {
  let shown = 0;
  for (const card of cards) {
    card.hidden = !!(one("#group").value && card.dataset.group !== one("#group").value)
      || !!(galleryLabel.value && card.dataset.label !== galleryLabel.value);
    shown += !card.hidden;
  }
  const [n, turn] = order.value.split(" ");
  const key = (card) => order.value ? turn * card.getAttribute("data-iou-" + n) : Number(card.dataset.order);
  one("#cards").append(...cards.sort((a, b) => key(a) - key(b)));
  one("#count").textContent = shown + " of " + cards.length;
};
[one("#group"), galleryLabel, order].forEach((control) => control.addEventListener("change", showCards));
if (cards.length) showCards(); else one("#gallery").hidden = true;
const showPairs = () => {
  const part = one("#search").value.toLowerCase();
  for (const row of pairTable.tBodies[0].rows)
    row.hidden = !!(pairLabel.value && row.dataset.label !== pairLabel.value) || !row.dataset.name.includes(part);
};
pairLabel.addEventListener("change", showPairs);
one("#search").addEventListener("input", showPairs);
