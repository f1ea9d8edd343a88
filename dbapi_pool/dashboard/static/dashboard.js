"use strict";
(() => {
  const EVERY = 1000; // ms between two looks
  const ORDERS = document.documentElement.dataset.orders === "yes";
  const SVG = "http://www.w3.org/2000/svg";
  const main = document.getElementById("pools");
  const about = document.getElementById("about");
  const trouble = document.getElementById("trouble");
  const key = document.getElementById("token");
  const cards = []; // one for each pool shown, in order
  let run = null; // which process the samples are of
  let last = null; // its time at the last look

  // -- making elements: text only ever goes in as text ------------------------------------------

  const fill = (node, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };
  const el = (tag, attributes = {}, ...children) =>
    fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes = {}, ...children) =>
    fill(document.createElementNS(SVG, tag), attributes, children);

  // -- words for numbers ------------------------------------------------------------------------

  const seconds = (value) => {
    if (value === null) return "–";
    if (value < 0.001) return `${(value * 1e6).toFixed(0)} µs`;
    if (value < 1) return `${(value * 1e3).toPrecision(3)} ms`;
    if (value < 120) return `${value.toFixed(1)} s`;
    return `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
  };
  const short = (value) => (value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3))));

  // -- parts of a card --------------------------------------------------------------------------

  const table = (titles, rows, none, numbers = []) => {
    if (!rows.length) return el("p", { class: "none" }, none);
    const cell = (value, column) =>
      value instanceof Node ? el("td", {}, value)
        : el("td", numbers.includes(column) ? { class: "number" } : {}, String(value));
    return el("div", { class: "wide" }, el("table", {},
      el("thead", {}, el("tr", {}, ...titles.map((title) => el("th", { scope: "col" }, title)))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map(cell))))));
  };

  const numbers = (entries) => entries.map(([name, value, kind]) => el("div", {},
    ...(kind ? [el("i", { class: kind })] : []), el("dt", {}, name), el("dd", {}, String(value))));

  const busyNow = (stats) => stats.opening + stats.checking + stats.cleaning + stats.closing;

  const bar = (node, stats) => {
    const parts = [["use", stats.in_use], ["busy", busyNow(stats)], ["idle", stats.idle]];
    const taken = parts.reduce((sum, [, size]) => sum + size, 0);
    const whole = Math.max(stats.max_size, taken, 1);
    let x = 0;
    const rects = [...parts, ["room", whole - taken]].map(([kind, size]) => {
      const width = (100 * size) / whole;
      const rect = svg("rect", { class: kind, x, y: 0, width, height: 10 });
      x += width;
      return rect;
    });
    node.replaceChildren(...rects);
    node.setAttribute("aria-label",
      `${stats.in_use} in use, ${busyNow(stats)} busy, ${stats.idle} idle, of ${stats.max_size}`);
  };

  // Lines over the last minutes. `lines`: [name, class, points], a point being [time, value].
  const chart = (title, lines, now, kept, word) => {
    const [W, H, LEFT, TOP, FOOT] = [320, 96, 44, 6, 14];
    const highest = Math.max(0, ...lines.flatMap(([, , points]) => points.map(([, v]) => v)));
    const top = highest > 0 ? highest : 1;
    const x = (time) => LEFT + ((W - LEFT) * (time - now + kept)) / kept;
    const y = (value) => TOP + (H - TOP - FOOT) * (1 - value / top);
    const path = (points) => points.map(([time, value], i) =>
      `${i ? "L" : "M"}${x(time).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    const drawn = lines.map(([, kind, points]) => svg("path", { class: kind, d: path(points) || "M0 0" }));
    const label = `${title}: ${lines.map(([name, , points]) =>
      `${name} ${word(points.length ? points[points.length - 1][1] : 0)}`).join(", ")}`;
    return el("div", {},
      el("h3", {}, label),
      svg("svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label },
        svg("path", { class: "axis", d: `M${LEFT} ${TOP}V${H - FOOT}H${W}` }),
        svg("text", { x: LEFT - 4, y: TOP + 7, "text-anchor": "end" }, word(top)),
        svg("text", { x: LEFT - 4, y: H - FOOT, "text-anchor": "end" }, "0"),
        svg("text", { x: LEFT, y: H - 3 }, `${Math.round(kept / 60)} min ago`),
        svg("text", { x: W, y: H - 3, "text-anchor": "end" }, "now"),
        ...drawn));
  };

  // What happened between each sample and the next.
  const changes = (samples, value) => samples.slice(1).map((sample, i) =>
    [sample.time, Math.max(0, value(samples[i], sample))]);
  const level = (samples, name) => samples.map((sample) => [sample.time, sample[name]]);

  const charts = (samples, now, kept) => {
    const rate = (name) => changes(samples, (a, b) => (b[name] - a[name]) / (b.time - a.time));
    const waited = changes(samples, (a, b) =>
      b.checkouts > a.checkouts ? (b.wait_time - a.wait_time) / (b.checkouts - a.checkouts) : 0);
    return [
      chart("Connections", [["in use", "use", level(samples, "in_use")],
        ["idle", "idle", level(samples, "idle")], ["most", "max", level(samples, "max_size")]],
      now, kept, short),
      chart("Callers", [["in line", "wait", level(samples, "waiting")]], now, kept, short),
      chart("Checkouts a second", [["lent", "use", rate("checkouts")],
        ["timed out", "wait", rate("timeouts")]], now, kept, short),
      chart("Waiting, mean of all checkouts", [["waited", "wait", waited]], now, kept, seconds),
    ];
  };

  const holders = (pool) => {
    const rows = pool.holders.map((one) => [
      el("span", { class: "site" }, one.site),
      one.thread_name ? `${one.thread_name} (${one.thread})` : one.thread,
      seconds(one.seconds), `#${one.connection_id}`, one.uses,
    ]);
    const made = [table(["borrowed at", "thread", "for", "connection", "lent so far"], rows, "Nobody.", [4])];
    if (pool.holders_left_off) {
      made.push(el("p", { class: "none" }, `and ${pool.holders_left_off} more`));
    }
    return made;
  };

  const counts = (title, what, values, none) => el("div", {}, el("h3", {}, title),
    table([what, "number"], Object.entries(values).sort((a, b) => b[1] - a[1]), none, [1]));

  const times = (minute) => {
    const rows = ["wait", "connect", "hold"].map((name) => {
      const one = minute[name];
      return [name, one.count, seconds(one.mean), seconds(one.median), seconds(one.p99)];
    });
    return el("div", {}, el("h3", {}, `Times in the last ${Math.round(minute.seconds)} s`),
      table(["", "number", "mean", "half within", "99 % within"], rows, "", [1, 2, 3, 4]));
  };

  const totals = (stats) => numbers([
    ["in use", stats.in_use, "use"], ["idle", stats.idle, "idle"], ["opening", stats.opening, "busy"],
    ["checking", stats.checking, "busy"], ["cleaning", stats.cleaning, "busy"],
    ["closing", stats.closing, "busy"], ["in line", stats.waiting, "wait"],
    ["max_size", stats.max_size], ["checkouts", stats.checkouts], ["timeouts", stats.timeouts],
    ["opened", stats.opened], ["connect errors", stats.connect_errors], ["leaked", stats.leaked],
  ]);

  // -- orders -----------------------------------------------------------------------------------

  const order = async (card, what, body) => {
    card.said.textContent = `${what}…`;
    try {
      const answer = await fetch(`pools/${encodeURIComponent(card.name)}/${what}`, {
        method: "POST", credentials: "same-origin", body: JSON.stringify(body),
        headers: { "Content-Type": "application/json", "X-Dbapi-Pool-Token": key.value },
      });
      const told = await answer.json();
      card.said.textContent = answer.ok ? `${what}: done` : `${what}: ${told.error}`;
    } catch (error) {
      card.said.textContent = `${what}: ${error.message}`;
    }
  };

  const buttons = (card) => {
    const size = el("input", { type: "number", min: 0, placeholder: "max_size", "aria-label": "max_size" });
    const act = (what, body = () => ({}), sure = false) => {
      const button = el("button", { type: "button", "data-order": what }, what);
      button.addEventListener("click", () => {
        if (!sure || window.confirm(`${what} ${card.name}?`)) order(card, what, body());
      });
      return button;
    };
    const resize = act("resize", () => ({ max_size: size.value === "" ? null : Number(size.value) }));
    return el("div", { class: "orders" }, act("drain", undefined, true),
      act("suspend", undefined, true), act("resume"), size, resize);
  };

  // -- one card for each pool -------------------------------------------------------------------

  const makeCard = (name) => {
    const card = { name, samples: [] };
    card.level = el("span", { class: "level" });
    card.state = el("span", { class: "state" });
    card.reasons = el("ul", { class: "reasons" });
    card.said = el("p", { class: "said", role: "status" });
    card.bar = svg("svg", { class: "sizes", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img" });
    for (const part of ["charts", "holders", "tables", "settings"]) card[part] = el("div", { class: part });
    card.numbers = el("dl", { class: "numbers" });
    card.node = el("section", { class: "pool" },
      el("div", { class: "title" }, el("h2", {}, name), card.level, card.state,
        ...(ORDERS ? [buttons(card)] : [])),
      ...(ORDERS ? [card.said] : []), card.reasons, card.bar, card.numbers, card.charts,
      el("h3", {}, "Who holds a connection"), card.holders, card.tables,
      el("details", {}, el("summary", {}, "Settings"), card.settings));
    return card;
  };

  const update = (card, pool, told) => {
    const { stats, health } = pool;
    const named = pool.samples.map((row) =>
      Object.fromEntries(row.map((value, i) => [told.sampled[i], value])));
    card.samples = [...card.samples, ...named].filter((one) => one.time >= told.now - told.kept);
    card.level.className = `level ${health.level}`;
    card.level.textContent = health.level;
    card.state.textContent = stats.state === "open" ? "" : stats.state;
    card.reasons.replaceChildren(...health.reasons.map((reason) => el("li", {}, reason)));
    bar(card.bar, stats);
    card.numbers.replaceChildren(...totals(stats));
    card.charts.replaceChildren(...charts(card.samples, told.now, told.kept));
    card.holders.replaceChildren(...holders(pool));
    card.tables.replaceChildren(times(pool.last_minute),
      counts("Connections closed", "reason", stats.closed, "None."),
      counts("Checkouts refused", "error", stats.refused, "None."));
    card.settings.replaceChildren(table(["setting", "value"],
      Object.entries(pool.settings).map(([name, value]) => [name, value === null ? "None" : String(value)]), ""));
  };

  const show = (told) => {
    told.pools.forEach((pool, i) => {
      if (!cards[i] || cards[i].name !== pool.name) {
        // A pool came or went: what is shown of the others stays, as far as it is known.
        const known = cards.findIndex((card, at) => at > i && card.name === pool.name);
        if (known > 0) cards.splice(i, known - i).forEach((card) => card.node.remove());
        else {
          const card = makeCard(pool.name);
          main.insertBefore(card.node, cards[i] ? cards[i].node : null);
          cards.splice(i, 0, card);
        }
      }
      update(cards[i], pool, told);
    });
    cards.splice(told.pools.length).forEach((card) => card.node.remove());
    const more = told.left_off ? `, ${told.left_off} more are not shown` : "";
    about.textContent = `process ${told.process}, ${told.pools.length} ${told.pools.length === 1 ? "pool" : "pools"}${more}`;
  };

  // -- looking, again and again -----------------------------------------------------------------

  const look = async () => {
    const since = last === null ? "" : `?since=${last}`;
    const answer = await fetch(`data.json${since}`, { credentials: "same-origin", cache: "no-store" });
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    const told = await answer.json();
    if (told.run !== run) {
      cards.splice(0).forEach((card) => card.node.remove());
      const again = run !== null;
      run = told.run;
      last = null;
      if (again) return; // that answer had only the newest samples
    }
    last = told.now;
    show(told);
  };

  const go = async () => {
    if (!document.hidden) {
      try {
        await look();
        trouble.hidden = true;
      } catch (error) {
        trouble.textContent = `No answer, so what is below is old: ${error.message}`;
        trouble.hidden = false;
      }
    }
    window.setTimeout(go, EVERY);
  };

  if (ORDERS) {
    const form = document.getElementById("key");
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    // The address may bring the token, in the part that is sent to no server. It shall not stay there.
    const brought = new URLSearchParams(location.hash.slice(1)).get("token");
    if (brought) {
      key.value = brought;
      history.replaceState(null, "", location.pathname);
    }
  }
  go();
})();
