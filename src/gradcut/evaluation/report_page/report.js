// Every class in every photograph.
const pairs = JSON.parse(one("#pair-data").textContent);
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

// Filters.
const cards = all("#cards article");
const [galleryLabel, pairLabel] = all("select.label");
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
