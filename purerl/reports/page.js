"use strict";
// A click on a heading of the table sorts by that column, a second click the other way round; empty cells stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].map((row) => [row.cells[column], row]);
    rows.sort(([a], [b]) => {
      const numeric = "v" in a.dataset && "v" in b.dataset;
      if (numeric && (a.dataset.v === "" || b.dataset.v === "")) return (a.dataset.v === "") - (b.dataset.v === "");
      const order = numeric ? a.dataset.v - b.dataset.v : a.textContent.localeCompare(b.textContent);
      return down ? -order : order;
    });
    body.append(...rows.map(([, row]) => row));
  }));
}
