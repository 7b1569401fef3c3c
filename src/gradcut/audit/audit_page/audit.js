"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const one = (selector) => document.querySelector(selector);

// Light or dark: as the reader's system has it, until the button says otherwise.
one("#theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

// Every case.
const cases = JSON.parse(one("#case-data").textContent);
const table = one("#case-table");
const cell = (tag, text, value) => {
  const made = document.createElement(tag);
  made.textContent = text;
  if (value !== undefined) { made.className = "n"; made.dataset.v = value; }
  return made;
};
const heading = document.createElement("tr");
for (const name of ["photograph", "class", "verdict", "evidence on it", "chance", "beyond chance", "score", "without it", "it alone"]) {
  const made = cell("th", name);
  made.dataset.sort = "";
  heading.append(made);
}
table.tHead.append(heading);
for (const [photograph, label, verdict, ...numbers] of cases) {
  const row = document.createElement("tr");
  Object.assign(row.dataset, { label, verdict, name: photograph.toLowerCase() });
  row.append(cell("th", photograph), cell("td", label), cell("td", verdict),
    ...numbers.map((number) => number === null ? cell("td", "–", "") : cell("td", number.toFixed(2), number)));
  table.tBodies[0].append(row);
}

// Sorting: a second click turns the order round; numbers begin with the largest, words with A; blanks stay last.
for (const table of all("table.sort")) {
  table.tHead.addEventListener("click", (event) => {
    const th = event.target.closest("th[data-sort]");
    if (!th) return;
    const column = [...th.parentNode.children].indexOf(th);
    const rows = all("tbody tr:not(.whole)", table);
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
const [cardLabel, caseLabel] = all("select.label");
const options = (select, labels) => [...new Set(labels)].sort().forEach((label) => select.add(new Option(label)));
options(cardLabel, cards.map((card) => card.dataset.label));
options(caseLabel, cases.map((row) => row[1]));
const showCards = () => {
  let shown = 0;
  for (const card of cards) {
    card.hidden = !!(one("#verdict").value && card.dataset.verdict !== one("#verdict").value)
      || !!(cardLabel.value && card.dataset.label !== cardLabel.value);
    shown += !card.hidden;
  }
  const [key, turn] = one("#order").value.split(" ");
  one("#cards").append(...cards.sort((a, b) => turn * (a.dataset[key] - b.dataset[key])));
  one("#count").textContent = shown + " of " + cards.length;
};
[one("#verdict"), cardLabel, one("#order")].forEach((control) => control.addEventListener("change", showCards));
if (cards.length) showCards(); else one("#gallery").hidden = true;
const showCases = () => {
  const part = one("#search").value.toLowerCase();
  for (const row of table.tBodies[0].rows)
    row.hidden = !!(one("#table-verdict").value && row.dataset.verdict !== one("#table-verdict").value)
      || !!(caseLabel.value && row.dataset.label !== caseLabel.value) || !row.dataset.name.includes(part);
};
[one("#table-verdict"), caseLabel].forEach((control) => control.addEventListener("change", showCases));
one("#search").addEventListener("input", showCases);
