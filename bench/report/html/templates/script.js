
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // Legends: pressed names stay in front, the others fade.
  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      const figure = byId(button.dataset.chart);
      const pressed = new Set([...figure.querySelectorAll('button[aria-pressed="true"]')].map((b) => b.dataset.series));
      figure.classList.toggle("dimmed", pressed.size > 0);
      for (const line of figure.querySelectorAll("g.series")) line.classList.toggle("on", pressed.has(line.dataset.series));
    });
  }

  // Print shows what is folded away, and folds it again afterwards.
  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll("main details:not([open])")];
    for (const part of unfolded) part.open = true;
  });
  addEventListener("afterprint", () => {
    for (const part of unfolded) part.open = false;
  });

  // Contents: closed on a phone; the part in view is marked.
  if (matchMedia("(max-width: 40rem)").matches) document.querySelector(".contents").open = false;
  const links = new Map([...document.querySelectorAll("nav li a")].map((a) => [a.hash.slice(1), a]));
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  for (const part of document.querySelectorAll("main > section")) watch.observe(part);

  // Completions.  A draw is [beginning, end, reason: numbers of strings; characters cut; 1 right + 2 stopped; tokens].
  const data = JSON.parse(byId("completions-data").textContent);
  const form = byId("browser");
  if (!data.tables.length) return;
  form.hidden = false;
  const [table, sideA, sideB, seed, draw, filter, search] =
    ["b-table", "b-a", "b-b", "b-seed", "b-draw", "b-filter", "b-text"].map(byId);
  const text = (number) => data.strings[number];
  const isRight = (draw) => (draw[4] & 1) === 1;
  let shown = [];
  let place = 0;

  function fill(select, names, wanted) {
    select.replaceChildren(...names.map((name, value) => {
      const option = element("option", "", name);
      option.value = String(value);
      return option;
    }));
    select.value = String(Math.max(0, names.indexOf(wanted)));
  }

  const block = () => data.tables[Number(table.value)];
  const methods = () => [...new Set(block().runs.map((run) => run.method))];
  const chosen = (select) => methods()[Number(select.value)];

  function columnOf(method) {
    const runs = block().runs.filter((run) => run.method === method);
    return runs.find((run) => String(run.seed) === seed.selectedOptions[0].textContent) ?? runs[0];
  }

  function newTable() {
    const names = methods();
    fill(sideA, names, names[0]);
    fill(sideB, names, names.includes("base") && names[0] !== "base" ? "base" : names[1] ?? names[0]);
    fill(seed, [...new Set(block().runs.map((run) => run.seed))].sort((a, b) => a - b).map(String));
    const most = Math.max(0, ...block().runs.flatMap((run) => run.items.map((item) => item.length)));
    fill(draw, Array.from({ length: most }, (_, n) => (n === 0 ? "greedy" : `sample ${n}`)));
    choose();
  }

  const TESTS = {
    all: () => true,
    differs: (a, b) => isRight(a) !== isRight(b),
    a: (a, b) => isRight(a) && !isRight(b),
    b: (a, b) => !isRight(a) && isRight(b),
    wrong: (a, b) => !isRight(a) && !isRight(b),
    right: (a, b) => isRight(a) && isRight(b),
    text: (a, b) => a[0] !== b[0] || a[1] !== b[1],
  };

  function choose() {
    const kept = shown[place];
    const columns = [columnOf(chosen(sideA)), columnOf(chosen(sideB))];
    const wanted = search.value.toLowerCase();
    shown = block().items.map((_, n) => n).filter((n) => {
      const pair = columns.map((column) => column.items[n][Number(draw.value)]);
      if (!pair[0] || !pair[1] || !TESTS[filter.value](...pair)) return false;
      if (!wanted) return true;
      const texts = [block().items[n][0], text(block().items[n][1]), ...pair.flatMap((d) => d.slice(0, 3).map(text))];
      return texts.some((t) => t.toLowerCase().includes(wanted));
    });
    place = Math.max(0, shown.indexOf(kept));
    show();
  }

  // A text with the searched words marked; nodes only, so that nothing in it can be read as markup.
  function passage(content) {
    const made = document.createDocumentFragment();
    const wanted = search.value.toLowerCase();
    const lower = content.toLowerCase();
    let from = 0;
    if (wanted && lower.length === content.length) {
      for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, from)) {
        made.append(content.slice(from, at), element("mark", "", content.slice(at, at + wanted.length)));
        from = at + wanted.length;
      }
    }
    made.append(content.slice(from));
    return made;
  }

  function side(letter, column, n) {
    const found = column.items[n][Number(draw.value)];
    const [head, tail, reason, cut, flags, tokens] = found;
    const made = element("article", `side ${isRight(found) ? "right" : "wrong"}`);
    made.append(element("h3", "", `${letter}: ${column.method}, seed ${column.seed}`));
    const verdict = element("p", "verdict");
    verdict.append(element("b", "", isRight(found) ? "✓ right" : "✗ wrong"), ": ", passage(text(reason)));
    verdict.append(element("span", "small", ` · ${tokens} tokens${flags & 2 ? "" : ", did not stop"}`));
    const body = element("div", "text");
    body.append(passage(text(head)));
    if (cut) body.append(element("span", "cut", `[${cut.toLocaleString("en")} characters cut]`), passage(text(tail)));
    made.append(verdict, body);
    return made;
  }

  function show() {
    const target = byId("b-item");
    target.replaceChildren();
    byId("b-prev").disabled = place <= 0;
    byId("b-next").disabled = place >= shown.length - 1;
    byId("b-count").textContent = shown.length ? `${place + 1} of ${shown.length} items` : "no such item";
    if (!shown.length) return;
    const n = shown[place];
    const [id, prompt, demonstration] = block().items[n];
    target.append(element("h3", "", id));
    if (text(prompt)) {
      const body = element("div", "text prompt");
      body.append(passage(text(prompt)));
      target.append(body);
      const more = element("details");
      more.append(element("summary", "", "Demonstration"), element("div", "text", text(demonstration)));
      target.append(more);
    } else if (block().notes) target.append(element("p", "note", block().notes));
    const sides = element("div", "sides");
    sides.append(side("A", columnOf(chosen(sideA)), n), side("B", columnOf(chosen(sideB)), n));
    target.append(sides);
  }

  function step(by) {
    place = Math.min(Math.max(0, place + by), Math.max(0, shown.length - 1));
    show();
  }

  fill(table, data.tables.map((t) => t.name));
  table.addEventListener("change", newTable);
  for (const control of [sideA, sideB, seed, draw, filter]) control.addEventListener("change", choose);
  search.addEventListener("input", choose);
  form.addEventListener("submit", (event) => event.preventDefault());
  byId("b-prev").addEventListener("click", () => step(-1));
  byId("b-next").addEventListener("click", () => step(1));
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const by = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 }[event.key];
    const arrow = event.key.startsWith("Arrow");
    const box = form.getBoundingClientRect();
    const inView = box.top < innerHeight && box.bottom > 0;
    if (!by || !inView || (arrow && event.target.closest(".scroll"))) return;
    event.preventDefault();
    step(by);
  });
  newTable();
})();
