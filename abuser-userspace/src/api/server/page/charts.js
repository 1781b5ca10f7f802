// What is put on the page: elements that hold text as text, tables that keep their rows, and charts.

const SVG = "http://www.w3.org/2000/svg";

function byId(id) {
  return document.getElementById(id);
}

/** An element with properties and children; text is never parsed as markup. */
function make(tag, properties = {}, ...children) {
  const { tone, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  if (tone !== undefined) {
    element.dataset.tone = tone;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Changes what differs only, so that selections and screen readers are left alone. */
function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

function setTone(element, tone) {
  if (element.dataset.tone !== tone) {
    element.dataset.tone = tone;
  }
}

/**
 * Shows a row for each item in their order. A row stays for as long as an item has its key, so that
 * focus stays where it is. A column makes what a cell holds and returns what shows an item in it.
 */
function table(bodyId, key, columns) {
  const body = byId(bodyId);
  const rows = new Map();
  const build = (item) => {
    const row = make("tr");
    const shows = columns.map(({ make: fill, className = "", head = false }) => {
      const cell = make(head ? "th" : "td", { className });
      if (head) {
        cell.scope = "row";
      }
      row.append(cell);
      return fill(cell, item);
    });
    return { row, shows };
  };
  return (items) => {
    const gone = new Set(rows.keys());
    let last = null;
    for (const item of items) {
      const name = key(item);
      gone.delete(name);
      if (!rows.has(name)) {
        rows.set(name, build(item));
      }
      const { row, shows } = rows.get(name);
      shows.forEach((show) => show(item, row));
      const place = last === null ? body.firstChild : last.nextSibling;
      if (place !== row) {
        body.insertBefore(row, place);
      }
      last = row;
    }
    for (const name of gone) {
      rows.get(name).row.remove();
      rows.delete(name);
    }
  };
}

/** A column of text; its title has it all where it is cut. */
function textColumn(text, className = "", { head = false, title = null } = {}) {
  return {
    className,
    head,
    make: (cell) => (item) => {
      setText(cell, text(item));
      if (title !== null) {
        cell.title = title(item) ?? "";
      }
    },
  };
}

function numberColumn(text, options) {
  return textColumn(text, "number", options);
}

/** A column with one badge or several: `[tone, text, title]` each. */
function badgeColumn(badges) {
  return {
    make: (cell) => {
      let before = "";
      return (item) => {
        const list = badges(item);
        // Their times left change with each look; the elements stay.
        const shape = list.map(([tone]) => tone).join();
        if (shape !== before) {
          before = shape;
          cell.replaceChildren(...list.map(([tone]) => make("span", { className: "badge", tone })));
        }
        list.forEach(([, text, title], index) => {
          setText(cell.children[index], text);
          cell.children[index].title = title ?? "";
        });
      };
    },
  };
}

/** A button that explains a source. */
function sourceColumn(source) {
  return {
    head: true,
    make: (cell, item) => {
      cell.append(addressButton(source(item)));
      return () => {};
    },
  };
}

function addressButton(source) {
  const button = make("button", { type: "button", className: "address", textContent: bare(source) });
  button.title = "What a packet from here would meet, and why";
  button.addEventListener("click", () => explain(source));
  return button;
}

/** A source without the length that says that it is one address. */
function bare(source) {
  return source.replace(source.includes(":") ? /\/128$/ : /\/32$/, "");
}

/** A bar of how much is used; the text beside it, made by `words`, says so, too. */
function levelBar(element, words) {
  const fill = make("div", { className: "level-fill" });
  const bar = make("div", { className: "level-bar" }, fill);
  bar.setAttribute("aria-hidden", "true");
  const text = make("span", { className: "level-text" });
  element.append(make("div", { className: "level" }, bar, text));
  return (level) => {
    bar.hidden = level === null;
    if (level === null) {
      setText(text, "");
      return;
    }
    const used = level.capacity === 0 ? 1 : (level.capacity - level.left) / level.capacity;
    setTone(fill, used >= 1 ? "ban" : used > 0.7 ? "limit" : "good");
    fill.style.width = `${Math.round(used * 100)}%`;
    setText(text, words(level));
  };
}

/** A small chart of numbers over time; `draw` takes them, the newest last. */
function sparkline(element, length) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 22");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "spark");
  svg.setAttribute("aria-hidden", "true");
  const [area, line] = ["area", "line"].map((name) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    svg.append(path);
    return path;
  });
  element.append(svg);
  return (numbers) => {
    const most = Math.max(1, ...numbers);
    const step = 100 / (length - 1);
    const from = 100 - (numbers.length - 1) * step;
    const points = numbers.map((number, index) => {
      const x = (from + index * step).toFixed(1);
      return `${x} ${(21 - (number / most) * 20).toFixed(1)}`;
    });
    const course = points.length === 0 ? "" : `M${points.join("L")}`;
    line.setAttribute("d", course);
    area.setAttribute("d", course === "" ? "" : `${course}L100 22L${from.toFixed(1)} 22Z`);
  };
}

let toastTimer = 0;

/** Says something for a while. */
function toast(text) {
  setText(byId("toast"), text);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => setText(byId("toast"), ""), 6000);
}
