"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const PRINT_WIDTH = 500;

  function tone(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function themed(layout, width, light) {
    const ink = light ? "#111111" : tone("--ink");
    const line = light ? "#cccccc" : tone("--line");
    const soft = light ? "#444444" : tone("--soft");
    const axis = { gridcolor: line, linecolor: line, tickcolor: line };
    const annotations = (layout.annotations || []).map((note) => ({ ...note, font: { color: soft, size: 11 } }));
    const names = Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));
    const axes = Object.fromEntries(names.map((key) => [key, { ...layout[key], ...axis }]));
    return {
      ...layout, ...axes, annotations, width, autosize: width === undefined,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, size: 12, family: getComputedStyle(document.body).fontFamily },
    };
  }

  function draw(width, light) {
    const config = { responsive: width === undefined, displayModeBar: false };
    for (const [id, figure] of Object.entries(figures)) {
      Plotly.react(id, figure.data, themed(figure.layout, width, light), config);
    }
    document.dispatchEvent(new Event("figures-drawn"));
  }

  function copy(button) {
    const source = document.getElementById(button.dataset.copies);
    const selection = window.getSelection();
    selection.selectAllChildren(source);
    const done = () => { button.textContent = "Copied"; setTimeout(() => { button.textContent = "Copy"; }, 1500); };
    if (navigator.clipboard) {
      navigator.clipboard.writeText(source.textContent).then(done, () => { button.textContent = "Press Ctrl+C"; });
    } else if (document.execCommand("copy")) {
      done();
    }
  }

  document.querySelectorAll("button[data-copies]").forEach((button) => button.addEventListener("click", () => copy(button)));
  dark.addEventListener("change", () => draw());
  window.addEventListener("beforeprint", () => draw(PRINT_WIDTH, true));
  window.addEventListener("afterprint", () => draw());
  draw();
})();
