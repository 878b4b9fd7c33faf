"use strict";
// Without this script the page shows every table whole; with it tables sort, search and turn pages.
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

function valueOf(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
  const text = cell.textContent.trim();
  return text === "" ? null : text;
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : collator.compare(a, b);
}

// Cells without a value stay at the end, whichever way the column is sorted.
function sorted(rows, column, sign) {
  const keyed = rows.map((row) => [valueOf(row, column), row]);
  keyed.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
  return keyed.map(([, row]) => row);
}

function live(table) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const tools = document.querySelector(`.tools[data-for="${table.id}"]`);
  const pager = document.querySelector(`.pager[data-for="${table.id}"]`);
  const search = tools?.querySelector("input");
  const choices = tools ? [...tools.querySelectorAll("select")] : [];
  const size = Number(table.dataset.page);
  const original = [...body.rows];
  const texts = new Map(original.map((row) => [row, row.textContent.toLowerCase()]));
  let order = original;
  let page = 0;

  function kept(row) {
    const words = (search?.value ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    return (
      choices.every((choice) => choice.value === "" || row.dataset[choice.dataset.key] === choice.value) &&
      words.every((word) => texts.get(row).includes(word))
    );
  }

  function show() {
    const found = order.filter(kept);
    const pages = Math.max(1, Math.ceil(found.length / size));
    page = Math.min(page, pages - 1);
    body.replaceChildren(...found.slice(page * size, (page + 1) * size));
    if (tools) tools.querySelector(".count").textContent = `${found.length} of ${original.length} rows`;
    if (pager) {
      pager.querySelector(".where").textContent = `Page ${page + 1} of ${pages}`;
      pager.querySelector(".previous").disabled = page === 0;
      pager.querySelector(".next").disabled = page === pages - 1;
      pager.hidden = pages === 1;
    }
  }

  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const ascending = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((one) => one.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      order = sorted(original, column, ascending ? 1 : -1);
      page = 0;
      show();
    });
  });
  [search, ...choices].forEach((control) =>
    control?.addEventListener("input", () => {
      page = 0;
      show();
    }),
  );
  for (const [name, step] of [["previous", -1], ["next", 1]]) {
    pager?.querySelector(`.${name}`).addEventListener("click", () => {
      page += step;
      show();
      table.parentElement.scrollIntoView({ block: "nearest" });
    });
  }
  if (tools) tools.hidden = false;
  show();
}

function theme() {
  const button = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const name = () => {
    button.textContent = isDark() ? "Light colours" : "Dark colours";
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    name();
  });
  dark.addEventListener("change", name);
  button.hidden = false;
  name();
}

document.querySelectorAll("table").forEach(live);
theme();
