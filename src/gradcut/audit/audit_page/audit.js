// Every case.
const cases = JSON.parse(one("#case-data").textContent);
const table = one("#case-table");
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

// Filters.
const cards = all("#cards article");
const [cardLabel, caseLabel] = all("select.label");
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
