// What the pages with tables of figures have in common: of scores, and of an audit. It comes before their own scripts.

"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const one = (selector) => document.querySelector(selector);

// Light or dark: as the reader's system has it, until the button says otherwise.
one("#theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

// A cell; of a number with the value that it is sorted by.
const cell = (tag, text, value) => {
  const made = document.createElement(tag);
  made.textContent = text;
  if (value !== undefined) { made.className = "n"; made.dataset.v = value; }
  return made;
};

// The choices of a list: each label once.
const options = (select, labels) => [...new Set(labels)].sort().forEach((label) => select.add(new Option(label)));

// Sorting: a second click turns the order round; numbers begin with the largest, words with A; blanks stay last, and
// a row of the whole first.
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
