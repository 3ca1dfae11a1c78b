"use strict";
// Sorts the table of classes, moves the threshold, opens galleries. Without it the page still says all but the last two.
(() => {
  const at = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(at(id).textContent);

  function make(tag, properties, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // The table: a click sorts, names from a to z and numbers from the highest, the next one turns it round.
  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    for (const head of heads.filter((cell) => cell.dataset.sort)) {
      const button = make("button", { type: "button" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, heads, head));
    }
  }

  function sort(table, heads, head) {
    const column = heads.indexOf(head);
    const isText = head.dataset.sort === "text";
    const before = head.getAttribute("aria-sort");
    const rising = before ? before === "descending" : isText;
    const value = (row) => {
      const text = row.cells[column].textContent.trim();
      return isText ? text : parseFloat(text.replace("−", "-").replaceAll(",", ""));
    };
    const compare = (a, b) => {
      if (isText) return rising ? a.value.localeCompare(b.value) : b.value.localeCompare(a.value);
      if (isNaN(a.value) || isNaN(b.value)) return isNaN(a.value) - isNaN(b.value); // no value: last in either order
      return rising ? a.value - b.value : b.value - a.value;
    };
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, value: value(row) })).sort(compare);
    table.tBodies[0].append(...rows.map((entry) => entry.row));
    heads.forEach((cell) => cell.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
  }

  // The slider: counts at or above each threshold are sums of the bins from there on.
  function explorer() {
    const { steps, tail, classes } = read("counts");
    const plots = ["precision_recall", "tail_accuracy"].map((name) => at(`${name}-figure_1`)?.closest("svg"));
    const dots = plots.map((plot) => {
      const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
      dot.setAttribute("r", 4.5);
      plot?.append(dot);
      return dot;
    });
    const above = (bins) => {
      const sums = bins.slice();
      for (let step = sums.length - 2; step >= 0; step--) sums[step] += sums[step + 1];
      return sums;
    };
    let predicted, positive, best;

    function choose() {
      const entry = classes[at("class").value];
      [predicted, positive, best] = [above(entry.predicted), above(entry.positive), entry.best];
      at("best").disabled = best === null;
      for (const plot of plots) {
        plot?.querySelector(".chosen")?.classList.remove("chosen");
        const line = plot?.querySelector(`[id$="-class-${at("class").value}"]`);
        line?.classList.add("chosen");
        line?.parentNode.append(line);
      }
      show();
    }

    function show() {
      const step = Number(at("t").value);
      const tp = positive[step], fp = predicted[step] - tp, fn = positive[0] - tp, tn = predicted[0] - tp - fp - fn;
      const precision = tp / (tp + fp), recall = tp / (tp + fn), f1 = (2 * tp) / (2 * tp + fp + fn);
      for (const [id, count] of Object.entries({ tp, fp, fn, tn })) at(id).textContent = count.toLocaleString("en");
      for (const [id, share] of Object.entries({ precision, recall, f1 })) {
        at(id).textContent = isNaN(share) ? "–" : share.toFixed(4);
      }
      at("t-value").textContent = (step / steps).toFixed(3);
      at("t").setAttribute("aria-valuetext", `t = ${at("t-value").textContent}`); // its value counts steps
      mark(0, recall, precision);
      mark(1, step / steps >= tail[0] && step / steps <= tail[1] ? step / steps : NaN, precision);
    }

    function mark(number, x, y) {
      const dot = dots[number], box = plots[number]?.dataset;
      dot.toggleAttribute("hidden", !box || isNaN(x) || isNaN(y));
      if (dot.hasAttribute("hidden")) return;
      dot.setAttribute("cx", +box.x0 + x * (box.x1 - box.x0));
      dot.setAttribute("cy", +box.y0 + y * (box.y1 - box.y0));
    }

    at("t").max = steps;
    const move = (t) => {
      at("t").value = Math.floor(t * steps + 1e-9);
      show();
    };
    at("class").addEventListener("input", choose);
    at("t").addEventListener("input", show);
    at("half").addEventListener("click", () => move(0.5));
    at("best").addEventListener("click", () => move(best));
    at("t").value = steps / 2;
    choose();
    at("explorer").hidden = false;
  }

  // Galleries on demand, from pictures that the page holds once.
  function galleries() {
    const { classes } = read("counts");
    let held;
    const picture = (sample) =>
      held.pictures[sample] ?? document.querySelector(`img[data-sample="${sample}"]`).src;

    function tile(number, [sample, score], expected) {
      const [key, labels] = held.samples[sample];
      const wrong = labels.includes(number) !== expected;
      const image = make("img", { src: picture(sample), alt: key, title: key, decoding: "async" });
      image.dataset.sample = sample;
      const words = labels.map((label) => classes[label].name).join(", ") || "no label";
      const spans = [["score", score.toFixed(3)], ["mark", wrong ? "✗" : "✓"], ["truth", words]];
      const captions = spans.flatMap(([className, text]) => [make("span", { className }, text), " "]).slice(0, -1);
      return make("li", { className: wrong ? "tile wrong" : "tile" }, image, ...captions);
    }

    function gallery(number, title, note, shown, expected) {
      const tiles = shown.map((entry) => tile(number, entry, expected));
      const wrong = tiles.filter((item) => item.classList.contains("wrong")).length;
      const count = `${tiles.length} image${tiles.length === 1 ? "" : "s"}${note ? `, ${wrong} ${note}` : ""}`;
      const summary = make("summary", {}, title, " ", make("span", { className: "note" }, count));
      return make("details", { className: "gallery", open: true }, summary, make("ul", { className: "tiles" }, ...tiles));
    }

    function article(number) {
      held ??= read("pictures");
      const [highest, lowest, falsePositives, falseNegatives] = held.galleries[number];
      return make(
        "article",
        { className: "class-gallery", id: `gallery-${number}` },
        make("h3", {}, classes[number].name, " ", make("span", { className: "note" }, classes[number].note)),
        gallery(number, "Highest scores", "without the class", highest, true),
        gallery(number, "Lowest scores", "with the class", lowest, false),
        gallery(number, "Most wrong: highest without the class", "", falsePositives, true),
        gallery(number, "Most wrong: lowest with the class", "", falseNegatives, false),
      );
    }

    at("another").addEventListener("input", (event) => {
      if (event.target.value === "") return;
      const number = Number(event.target.value);
      const shown = at(`gallery-${number}`) ?? article(number);
      at("more").after(shown);
    });
    at("more").hidden = false;
  }

  sortable(document.querySelector("table.classes"));
  explorer();
  if (at("more")) galleries();
})();
