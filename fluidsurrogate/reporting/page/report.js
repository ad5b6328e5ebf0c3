"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const own = (value) => (/^@\w+$/.test(value) ? colour(value.slice(1)) : value); // "@ink" is a colour of the page
  const hidden = new Set();

  // Light and dark.
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const setTheme = (dark) => {
    root.dataset.theme = dark ? "dark" : "light";
    for (const chip of all(".legend button")) chip.firstElementChild.style.background = own(chip.dataset.colour);
    drawCharts();
  };
  document.getElementById("theme").addEventListener("click", () => setTheme(root.dataset.theme !== "dark"));
  prefersDark.addEventListener("change", (event) => setTheme(event.matches));
  // On paper every chart is drawn, in light colours and as wide as a sheet.
  let before = null;
  const print = (on) => {
    root.classList.toggle("paper", on);
    if (on) for (const chart of charts) chart.near = true;
    if (on) before = root.dataset.theme;
    setTheme(!on && before === "dark");
  };
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));

  // Charts: each is drawn when it comes near the window, and again when theme or sources change.
  const charts = all(".chart-data").map((element) => ({
    target: document.getElementById(element.dataset.for), text: element.textContent, near: false,
  }));
  const styled = ({ text, target }) => {
    const { data, layout } = JSON.parse(text, (key, value) => (key === "color" || key === "fillcolor" ? own(value) : value));
    const axis = { gridcolor: colour("line"), linecolor: colour("line"), zeroline: false, automargin: true };
    for (const trace of data) trace.visible = !hidden.has(trace.legendgroup);
    return [data, {
      ...(root.classList.contains("paper") ? { width: target.clientWidth, height: target.clientHeight } : { autosize: true }),
      hovermode: "x unified", showlegend: false, margin: { l: 56, r: 12, t: 8, b: 44 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink") },
      hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink") } },
      legend: { orientation: "h", y: -0.2 }, modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("muted"), activecolor: colour("ink") },
      ...layout,
      xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
    }, {
      responsive: true, displaylogo: false, ...(matchMedia("(hover: hover)").matches ? {} : { displayModeBar: false }),
      modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
    }];
  };
  const draw = (chart) => Plotly.react(chart.target, ...styled(chart));
  function drawCharts() { charts.filter((chart) => chart.near).forEach(draw); }
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      const chart = charts.find((one) => one.target === entry.target);
      chart.near = true;
      watcher.unobserve(chart.target);
      draw(chart);
    }
  }, { rootMargin: "600px" });
  charts.forEach((chart) => watcher.observe(chart.target));

  // The legend hides and shows a source everywhere.
  for (const chip of all(".legend button")) {
    chip.addEventListener("click", () => {
      const shown = chip.getAttribute("aria-pressed") === "false";
      chip.setAttribute("aria-pressed", shown);
      hidden[shown ? "delete" : "add"](chip.dataset.source);
      for (const panel of all(".panels figure")) panel.hidden = hidden.has(panel.dataset.source);
      drawCharts();
    });
  }

  // Tables are sorted by a press on a heading: numbers by value, what is no number last.
  const number = (cell) => { const text = cell.textContent.trim().replace(/^> /, ""); return /^[-+]?\d/.test(text) ? parseFloat(text) : NaN; };
  for (const heading of all("thead th")) {
    heading.querySelector("button").addEventListener("click", () => {
      const ascending = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const column = heading.cellIndex, body = heading.closest("table").tBodies[0];
      const numeric = [...body.rows].some((row) => !Number.isNaN(number(row.cells[column])));
      const order = (a, b) => {
        if (!numeric) return (ascending ? 1 : -1) * a.cells[column].textContent.localeCompare(b.cells[column].textContent);
        const [x, y] = [number(a.cells[column]), number(b.cells[column])];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return ascending ? x - y : y - x;
      };
      body.append(...[...body.rows].sort(order));
    });
  }

  // The animation.
  const player = document.querySelector(".player");
  if (player) {
    const film = JSON.parse(document.getElementById("frames").textContent);
    const levels = Uint8Array.from(atob(film.levels), (character) => character.charCodeAt(0));
    const [height, width] = film.cells, cells = height * width, frames = film.times.length, zero = 127, notFinite = 255;
    const slider = document.getElementById("frame"), play = document.getElementById("play");
    const clock = document.getElementById("time"), chosen = document.getElementById("trajectory");
    const panels = all(".panels figure", player);
    let timer = null;
    const start = (source, frame) => ((Number(chosen.value) * film.sources.length + source) * frames + frame) * cells;
    const paint = (canvas, level) => {
      const context = canvas.getContext("2d", { willReadFrequently: true }), image = context.createImageData(width, height);
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const value = level(y * width + x), at = 4 * ((height - 1 - y) * width + x); // y points up
          const [red, green, blue] = value === notFinite ? [128, 128, 128] : film.colours[value];
          image.data.set([red, green, blue, 255], at);
        }
      }
      context.putImageData(image, 0, 0);
    };
    const show = () => {
      const frame = Number(slider.value), truth = start(0, frame);
      panels.forEach((panel, source) => {
        const from = start(source, frame);
        paint(panel.querySelector(".state"), (i) => levels[from + i]);
        if (!source) return;
        paint(panel.querySelector(".error"), (i) => {
          const [a, b] = [levels[from + i], levels[truth + i]];
          return a === notFinite || b === notFinite ? notFinite : Math.max(0, Math.min(254, zero + a - b));
        });
        const error = film.nrmse[Number(chosen.value)][source][frame];
        panel.querySelector("small").textContent = error === null ? "not finite" : `nRMSE ${error}`;
      });
      clock.value = `t = ${film.times[frame]} s`;
      slider.setAttribute("aria-valuetext", clock.value);
      const [low, , high] = panels[0].querySelectorAll(".scale span");
      high.textContent = film.limits[Number(chosen.value)];
      low.textContent = `−${high.textContent}`;
    };
    const step = (by) => { slider.value = (Number(slider.value) + by + frames) % frames; show(); };
    const run = (on) => {
      clearInterval(timer);
      timer = on ? setInterval(() => step(1), 120) : null;
      play.textContent = on ? "❚❚" : "▶";
      play.setAttribute("aria-label", on ? "pause" : "play");
    };
    const scale = panels[0].querySelector(".scale canvas").getContext("2d"), bar = scale.createImageData(255, 1);
    film.colours.forEach((rgb, i) => bar.data.set([...rgb, 255], 4 * i));
    scale.putImageData(bar, 0, 0);
    slider.addEventListener("input", () => { run(false); show(); });
    chosen.addEventListener("change", show);
    play.addEventListener("click", () => run(timer === null));
    for (const button of all("[data-step]", player)) {
      button.addEventListener("click", () => { run(false); step(Number(button.dataset.step)); });
    }
    addEventListener("keydown", (event) => {
      const at = document.activeElement, box = player.getBoundingClientRect();
      const seen = at === document.body && box.top < innerHeight && box.bottom > 0;
      if (!(seen || player.contains(at)) || at.tagName === "SELECT" || event.ctrlKey || event.altKey || event.metaKey) return;
      if (event.key === " " && at.tagName !== "BUTTON") run(timer === null);
      else if (event.key === "ArrowRight" || event.key === "ArrowLeft") { run(false); step(event.key === "ArrowRight" ? 1 : -1); }
      else return;
      event.preventDefault();
    });
    show();
  }
  setTheme(prefersDark.matches);
})();
