/* Tables that sort and filter, by DataTables; charts in the reader's colours, by Vega. Without this script the tables stand as they are. */
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");

function board(table) {
  const heads = [...table.tHead.rows[0].cells];
  const titles = heads.map((head) => head.textContent.trim());
  const at = (title) => titles.indexOf(title);
  const main = heads.findIndex((head) => head.dataset.name === table.dataset.main);
  const numbers = heads.flatMap((head, i) => (head.classList.contains("number") ? [i] : []));
  const data = jQuery(table).DataTable({
    paging: false,
    autoWidth: false,
    order: [[main, "desc"]],
    columnDefs: [{ targets: numbers, orderSequence: ["desc", "asc"] }],
    layout: { topStart: "search", topEnd: "info", bottomStart: null, bottomEnd: null },
    language: { search: "Find", info: "_TOTAL_ models", infoFiltered: "of _MAX_", infoEmpty: "0 models", zeroRecords: "None is like that." },
  });
  const frame = table.parentElement; // what DataTables lets scroll sideways: by keys too
  frame.tabIndex = 0;
  frame.setAttribute("role", "region");
  frame.setAttribute("aria-labelledby", "board");
  const zeroShot = (text) => text === "100 %" || text === "zero-shot";
  const size = document.querySelector("[data-filter=size]");
  const only = document.querySelector("[data-filter=zero-shot]");
  const exactly = (text) => (text ? (cell) => cell === text : "");
  size.addEventListener("change", () => data.column(at("size")).search(exactly(size.value)).draw());
  only.addEventListener("change", () => data.column(at("zero-shot")).search(only.checked ? zeroShot : "").draw());
}

function charts() {
  const holder = document.getElementById("charts");
  if (!holder) return;
  const options = { renderer: "svg", actions: false, ast: true };
  for (const chart of JSON.parse(holder.textContent)) {
    vegaEmbed(`[data-chart="${chart.name}"]`, dark.matches ? chart.dark : chart.light, options);
  }
}

function colours() {
  document.documentElement.classList.toggle("dark", dark.matches); // DataTables goes by this
  charts();
}

document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
document.querySelectorAll("table.board").forEach(board);
colours();
dark.addEventListener("change", colours);
