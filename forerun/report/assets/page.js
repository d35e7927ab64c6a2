"use strict";
// Folding works without this script. It fills in the cards of layers that look like one that is drawn, keeps the two
// pictures of a pass folded alike, and lights up the dependencies of the node under the pointer.

const tables = JSON.parse(document.getElementById("names").textContent);

function shortened(label) {
  return label.length <= 19 ? label : label.slice(0, 9) + "…" + label.slice(-9);
}

function retitle(element, firstLine, keep) {
  const title = element.querySelector("title");
  const rest = title.textContent.split("\n\n")[0].split("\n").slice(1).map(keep);
  title.textContent = [firstLine, ...rest].join("\n");
}

function fill(card) {
  const original = document.getElementById(card.dataset.like);
  const names = tables[Number(card.closest(".picture").dataset.names)];
  const first = Number(card.dataset.first);
  const tops = card.dataset.tops.split(",").map(Number);
  const copy = original.cloneNode(true);
  copy.removeAttribute("id");
  for (const node of copy.querySelectorAll("[data-n]")) {
    const name = names[first + Number(node.dataset.n)];
    const prefix = card.dataset.prefix;
    const label = name.startsWith(prefix) ? name.slice(prefix.length) : name;
    node.querySelector(":scope > text").textContent = shortened(label);
    retitle(node, name, (line) => line);
  }
  for (const edge of copy.querySelectorAll("[data-e]")) {
    const [from, to] = edge.dataset.e.split(",");
    const source = from.startsWith("t") ? tops[Number(from.slice(1))] : first + Number(from);
    const target = to === "b" ? "next card" : names[first + Number(to)];
    retitle(edge, `${names[source]} → ${target}`, (line) => line.replace(/ %[^,\s]+/g, ""));
  }
  for (const stub of copy.querySelectorAll(".far > title")) stub.remove();
  card.querySelector(":scope > .note").replaceWith(copy);
  delete card.dataset.like;
}

function foldAlike(changed) {
  const pair = changed.closest(".pair");
  if (!pair) return;
  const title = changed.querySelector("summary b").textContent;
  for (const other of pair.querySelectorAll("details")) {
    if (other !== changed && other.querySelector("summary b").textContent === title) other.open = changed.open;
  }
}

document.addEventListener("toggle", (event) => {
  const changed = event.target;
  if (changed.open && changed.dataset.like) fill(changed);
  if (changed.matches(".card, .fold")) foldAlike(changed);
}, true);

function light(event, on) {
  const node = event.target.closest("[data-n]");
  if (!node) return;
  for (const edge of node.closest("svg").querySelectorAll("[data-e]")) {
    if (edge.dataset.e.split(",").includes(node.dataset.n)) edge.classList.toggle("hot", on);
  }
}

document.addEventListener("mouseover", (event) => light(event, true));
document.addEventListener("mouseout", (event) => light(event, false));
