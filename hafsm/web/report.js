"use strict";
// Zoom, selection and keyboard of a report. Nothing here makes markup out of text: shapes that the page already has are
// moved, and what is shown under the lanes is a copy of nodes of the table.
(() => {
  const svg = d3.select("#lanes");
  const frame = document.getElementById("frame");
  const tools = document.getElementById("tools");
  const panel = document.getElementById("why");
  const panelBody = document.getElementById("why-body");
  const cursor = svg.select("#cursor");
  const left = +svg.attr("data-left");
  const height = +svg.attr("data-height");
  const span = +svg.attr("data-span");
  const origin = +svg.attr("data-origin");
  const LETTER = 6.3;
  const PAPER = 1000;
  const NEAR_MS = 5000;
  const LEAST_MS = 20;

  const bars = svg.selectAll(".bar").nodes().map((node) => ({
    node, rect: node.querySelector("rect"), text: node.querySelector("text"), from: +node.dataset.a,
    until: +node.dataset.b, room: node.dataset.word.length * LETTER + 8,
  }));
  const rows = svg.selectAll(".marks").nodes().map((row) => ({
    y: +row.dataset.y,
    marks: [...row.querySelectorAll("a.mark")].map((node) => ({ node, at: +node.dataset.a })),
  }));
  const marks = rows.flatMap((row) => row.marks).sort((a, b) => a.node.dataset.decision - b.node.dataset.decision);
  const byNumber = new Map(marks.map((mark) => [mark.node.dataset.decision, mark]));

  let width = PAPER;
  let transform = d3.zoomIdentity;
  let selected = null;

  const whole = () => d3.scaleLinear([0, span], [left, width]);

  function label(ms) {
    const time = new Date(origin + ms);
    return time.toISOString().slice(11, 23);
  }

  function axisOf(x) {
    const [from, until] = x.domain();
    const time = d3.scaleUtc([origin + from, origin + until], x.range());
    const ticks = time.ticks(Math.max(2, Math.floor((width - left) / 110)));
    const cut = until - from < 8000 ? 23 : until - from < 3600000 * 3 ? 19 : 16;
    const days = until - from > 86400000;
    return ticks.filter((tick) => time(tick) < width - 30).map((tick) => {
      const text = tick.toISOString();
      return { x: time(tick), label: days ? text.slice(5, 16).replace("T", " ") : text.slice(11, cut) };
    });
  }

  function layOut() {
    const x = transform.rescaleX(whole());
    for (const { rect, text, node, from, until, room } of bars) {
      const begin = Math.max(left, Math.min(width, x(from)));
      const end = Math.max(left, Math.min(width, x(until)));
      const gone = x(until) < left || x(from) > width;
      node.style.display = gone ? "none" : "";
      rect.setAttribute("x", begin);
      rect.setAttribute("width", Math.max(1.5, end - begin));
      text.setAttribute("x", begin + 5);
      text.setAttribute("visibility", room < end - begin ? "visible" : "hidden");
    }
    for (const row of rows) {
      const ends = [-Infinity, -Infinity, -Infinity];
      for (const { node, at } of row.marks) {
        const place = x(at);
        const free = ends.findIndex((end) => end <= place);
        const level = free < 0 ? 2 : free;
        ends[level] = place + 11;
        node.style.display = place < left || place > width ? "none" : "";
        node.setAttribute("transform", `translate(${place},${row.y + 6 + level * 11})`);
      }
    }
    const ticks = d3.select("#axis").selectAll("g").data(axisOf(x)).join((enter) => {
      const tick = enter.append("g").attr("class", "tick");
      tick.append("line").attr("y1", 24).attr("y2", height);
      tick.append("text").attr("y", 16).attr("text-anchor", "middle");
      return tick;
    });
    ticks.select("line").attr("x1", (d) => d.x).attr("x2", (d) => d.x);
    ticks.select("text").attr("x", (d) => d.x).text((d) => d.label);
    const at = selected === null ? -9 : x(byNumber.get(selected).at);
    cursor.attr("x1", at).attr("x2", at).attr("visibility", at >= left && at <= width ? "visible" : "hidden");
    svg.attr("viewBox", `0 0 ${width} ${height}`);
  }

  const zoom = d3.zoom()
    .filter((event) => event.type === "wheel" ? event.ctrlKey || event.metaKey : !event.button)
    .on("zoom", (event) => { transform = event.transform; layOut(); });

  function resize(to) {
    const old = width;
    width = Math.max(640, to);
    zoom.scaleExtent([1, Math.max(1, span / LEAST_MS)])
      .extent([[left, 0], [width, height]]).translateExtent([[left, 0], [width, height]]);
    const scaled = d3.zoomIdentity
      .translate(left * (1 - transform.k) + (transform.x - left * (1 - transform.k)) * (width - left) / (old - left), 0)
      .scale(transform.k);
    svg.property("__zoom", transform.k === 1 ? d3.zoomIdentity : scaled);
    transform = svg.property("__zoom");
    layOut();
  }

  function show(from, until) {
    const wanted = Math.max(LEAST_MS, until - from);
    const k = Math.max(1, span / wanted);
    const x = whole();
    svg.call(zoom.transform, d3.zoomIdentity.translate(left - k * x(from), 0).scale(k));
    const fixed = zoom.constrain()(transform, [[left, 0], [width, height]], zoom.translateExtent());
    svg.call(zoom.transform, fixed);
  }

  const doing = {
    in: () => svg.call(zoom.scaleBy, 2),
    out: () => svg.call(zoom.scaleBy, 0.5),
    left: () => svg.call(zoom.translateBy, (width - left) / 3 / transform.k, 0),
    right: () => svg.call(zoom.translateBy, -(width - left) / 3 / transform.k, 0),
    whole: () => svg.call(zoom.transform, d3.zoomIdentity),
    near: () => {
      const at = selected === null ? 0 : byNumber.get(selected).at;
      show(Math.max(0, at - NEAR_MS), Math.min(span, at + NEAR_MS));
    },
  };

  function select(number, { focus = false, hash = true } = {}) {
    const mark = byNumber.get(number);
    const source = document.getElementById(`why-${number}`);
    if (!mark || !source) return false;
    if (selected !== null) {
      byNumber.get(selected).node.classList.remove("selected");
      byNumber.get(selected).node.setAttribute("tabindex", "-1");
      byNumber.get(selected).node.removeAttribute("aria-current");
      document.getElementById(`d${selected}`).classList.remove("selected");
    }
    selected = number;
    mark.node.classList.add("selected");
    mark.node.setAttribute("tabindex", "0");
    mark.node.setAttribute("aria-current", "true");
    const row = document.getElementById(`d${number}`);
    row.classList.add("selected");
    const told = document.createElement("p");
    told.className = "told";
    told.textContent = row.querySelector("summary").textContent;
    const when = document.createElement("p");
    when.className = "note";
    when.textContent = [...row.cells].slice(0, 3).map((cell) => cell.textContent).join(" · ");
    const copy = source.cloneNode(true);
    copy.removeAttribute("id");
    panelBody.replaceChildren(when, told, copy);
    panel.hidden = false;
    const x = transform.rescaleX(whole())(mark.at);
    if (x < left || x > width) {
      const half = span / transform.k / 2;
      show(mark.at - half, mark.at + half);
    }
    layOut();
    if (focus) mark.node.focus({ preventScroll: true });
    if (hash) history.replaceState(null, "", `#why-${number}`);
    return true;
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-decision]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (!select(link.dataset.decision, { focus: !panel.contains(link) })) return;
    event.preventDefault();
    if (!frame.contains(link)) panel.scrollIntoView({ block: "nearest" });
  });

  const KEYS = { "+": "in", "-": "out", 0: "whole" };
  frame.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) {
      const place = marks.findIndex((mark) => mark.node.dataset.decision === selected);
      const next = marks[Math.max(0, Math.min(marks.length - 1, place + step))];
      if (next) select(next.node.dataset.decision, { focus: true });
    } else if (event.key in KEYS) doing[KEYS[event.key]]();
    else return;
    event.preventDefault();
  });
  tools.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) doing[button.dataset.do]();
  });

  const opened = [];
  addEventListener("beforeprint", () => {
    resize(PAPER);
    for (const details of document.querySelectorAll("tr.trouble details:not([open])")) {
      details.open = true;
      opened.push(details);
    }
  });
  addEventListener("afterprint", () => {
    for (const details of opened.splice(0)) details.open = false;
    resize(frame.clientWidth);
  });

  tools.hidden = false;
  frame.classList.add("live");
  for (const { node } of marks) node.setAttribute("tabindex", "-1");
  if (marks.length) marks[0].node.setAttribute("tabindex", "0");
  svg.call(zoom);
  new ResizeObserver(() => { if (frame.clientWidth) resize(frame.clientWidth); }).observe(frame);
  resize(frame.clientWidth);
  const asked = /^#why-(\d+)$/.exec(location.hash);
  const first = document.querySelector("header a[data-decision]");
  if (!(asked && select(asked[1])) && first) select(first.dataset.decision, { hash: false });
  document.documentElement.dataset.ready = "yes";
})();
