"use strict";
// Folding works without this script. It fills in the cards of layers that look like one that is drawn, keeps the two
// pictures of a pass folded alike, lights up the dependencies of the node under the pointer, and saves pictures as SVG.

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

// A picture as one SVG: its drawings, titles and boxes where they are on the page, with the style that they have there.

const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (parent) parent.append(made);
  return made;
}

function pictureAsSvg(picture) {
  const frame = picture.getBoundingClientRect();
  const size = { width: Math.ceil(frame.width) + 24, height: Math.ceil(frame.height) + 24 };
  const whole = element("svg", { xmlns: SVG, viewBox: `-12 -12 ${size.width} ${size.height}`, ...size });
  element("style", {}, whole).textContent = document.getElementById("graph-style").textContent;
  whole.append(document.querySelector(".defs defs").cloneNode(true));
  element("rect", { x: -12, y: -12, ...size, style: "fill: var(--inset)" }, whole);
  const inner = element("g", { class: picture.closest("figure")?.className ?? "" }, whole);
  for (const part of picture.querySelectorAll(".card, .fold > summary, .card > summary, svg")) {
    const around = part.matches("summary") ? part.parentElement.parentElement : part.parentElement;
    if (around.closest("details:not([open]), svg")) continue;
    const box = part.getBoundingClientRect();
    const [x, y] = [box.x - frame.x, box.y - frame.y];
    if (part.tagName === "svg") {
      const copy = part.cloneNode(true);
      copy.setAttribute("x", x);
      copy.setAttribute("y", y);
      copy.setAttribute("width", box.width);
      copy.setAttribute("height", box.height);
      copy.setAttribute("overflow", "visible");
      inner.append(copy);
      continue;
    }
    if (!part.matches(".card > summary")) {
      const look = "fill: var(--surface); stroke: var(--border)";
      element("rect", { x, y, width: box.width, height: box.height, rx: 6, style: look }, inner);
    }
    if (!part.matches("summary")) continue;
    const style = "text-anchor: start; font-family: system-ui, sans-serif";
    element("text", { x: x + 10, y: y + box.height / 2 + 4, style }, inner).textContent =
      [...part.children].map((child) => child.textContent).join(" · ");
  }
  return new XMLSerializer().serializeToString(whole);
}

for (const button of document.querySelectorAll(".save")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const picture = button.closest("figure, section").querySelector(".picture");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([pictureAsSvg(picture)], { type: "image/svg+xml" }));
    link.download = button.dataset.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}
