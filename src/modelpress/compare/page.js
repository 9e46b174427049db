
(() => {
  const table = document.getElementById("lines");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const filter = document.getElementById("filter");
  const frontOnly = document.getElementById("front-only");
  const original = JSON.parse(document.getElementById("figures").textContent);
  const FORM = /^([^=!<>]+)(>=|<=|!=|=|<|>)(.*)$/;
  const ORDERS = { "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b };

  const value = (row, index) => row.cells[index].dataset.v ?? row.cells[index].textContent;
  const number = (text) => (text === "" || Number.isNaN(Number(text)) ? null : Number(text));

  function column(name) {
    const wanted = name.toLowerCase();
    const titles = heads.map((head) => head.textContent.toLowerCase());
    const keys = heads.map((head) => head.dataset.key.toLowerCase());
    if (keys.includes(wanted)) { return keys.indexOf(wanted); }
    return titles.includes(wanted) ? titles.indexOf(wanted) : keys.findIndex((key) => key.endsWith(`.${wanted}`));
  }

  function condition(name, sign, wanted) {
    const index = column(name);
    if (index < 0) { return null; }
    if (sign in ORDERS) {
      return (row) => number(value(row, index)) !== null && ORDERS[sign](number(value(row, index)), Number(wanted));
    }
    const same = (row) => wanted.toLowerCase().split(",").some((text) => {
      const [left, right] = [number(value(row, index)), number(text)];
      return left !== null && right !== null ? left === right : value(row, index).toLowerCase() === text;
    });
    return sign === "=" ? same : (row) => !same(row);
  }

  function test(word) {
    const found = word.match(FORM);
    if (found) { return condition(found[1], found[2], found[3]); }
    return (row) => row.textContent.toLowerCase().includes(word.toLowerCase());
  }

  // Every array that runs along the points, wherever it lies in a trace, keeps the same entries.
  function thinned(node, kept, length) {
    if (Array.isArray(node)) { return node.length === length ? node.filter((_, index) => kept[index]) : node; }
    if (node === null || typeof node !== "object") { return node; }
    return Object.fromEntries(Object.entries(node).map(([key, child]) => [key, thinned(child, kept, length)]));
  }

  function redraw(visible) {
    for (const [id, figure] of Object.entries(original)) {
      const data = figure.data.map((trace) => {
        if (!trace.customdata) { return trace; }
        const kept = trace.customdata.map((line) => visible.has(line));
        return thinned(trace, kept, trace.customdata.length);
      });
      Plotly.react(id, data, document.getElementById(id).layout, { responsive: true, displayModeBar: false });
    }
  }

  const narrowed = () => filter.value.trim() !== "" || frontOnly.checked;

  function apply(always) {
    const tests = filter.value.trim().split(/\s+/).filter(Boolean).map(test);
    filter.classList.toggle("wrong", tests.includes(null));
    const known = tests.filter((entry) => entry !== null);
    const visible = new Set();
    for (const row of rows) {
      const shown = known.every((entry) => entry(row)) && (!frontOnly.checked || row.classList.contains("on-front"));
      row.hidden = !shown;
      if (shown) { visible.add(Number(row.dataset.line)); }
    }
    const unknown = tests.includes(null) ? "; a column of the filter is unknown" : "";
    document.getElementById("shown").textContent = `${visible.size} of ${rows.length} lines${unknown}`;
    if (always || narrowed()) { redraw(visible); }
  }

  function compared(index, sign) {
    return (a, b) => {
      const [left, right] = [value(a, index), value(b, index)];
      const [x, y] = [number(left), number(right)];
      const empty = (text) => text === "" || text === "–";
      if (empty(left) || empty(right)) { return empty(left) - empty(right); }
      return sign * (x !== null && y !== null ? x - y : left.localeCompare(right));
    };
  }

  function sort(head, index) {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows.sort(compared(index, up ? 1 : -1)));
  }

  function pick(line) {
    rows.forEach((row) => row.classList.toggle("picked", Number(row.dataset.line) === line));
    body.querySelector("tr.picked").scrollIntoView({ block: "center", behavior: "smooth" });
  }

  heads.forEach((head, index) => {
    head.tabIndex = 0;
    head.addEventListener("click", () => sort(head, index));
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") { sort(head, index); } });
  });
  for (const id of Object.keys(original)) {
    document.getElementById(id).on("plotly_click", (event) => pick(event.points[0].customdata));
  }
  let timer;
  filter.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => apply(true), 150); });
  frontOnly.addEventListener("change", () => apply(true));
  document.addEventListener("figures-drawn", () => apply(false));
  apply(false);
})();
