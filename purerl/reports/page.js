"use strict";
// A click on a heading of the table sorts by that column, a second click reverses the order; empty cells stay last.
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
// A click on a picture shows it large, where it can be scrolled; another click or Escape closes it.
const close = () => document.querySelectorAll("figure.large").forEach((figure) => figure.classList.remove("large"));
for (const button of document.querySelectorAll("button.zoom")) {
  button.addEventListener("click", () => {
    const figure = button.closest("figure");
    const open = !figure.classList.contains("large");
    close();
    figure.classList.toggle("large", open);
  });
}
document.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
// A button copies the code beside it; a page opened from a file may have no clipboard, so the text is then selected.
for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 2000);
  });
}
